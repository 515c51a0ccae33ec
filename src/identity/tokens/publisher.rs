//! For the tests: an issuer that publishes what it is told to, and counts who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use parking_lot::Mutex;

/// What it answers.
#[derive(Clone)]
pub enum Says {
    Keys(String),
    Status(u16),
    Redirect(String),
}

/// A place where keys are published.
pub struct Publisher {
    pub url: String,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    pub async fn start(says: Says) -> Self {
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let (saying, counting) = (says.clone(), asked.clone());
        let answer = move || {
            counting.fetch_add(1, Ordering::SeqCst);
            let says = saying.lock().clone();
            async move {
                match says {
                    Says::Keys(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
                    Says::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
                    Says::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { url, says, asked }
    }

    pub fn say(&self, says: Says) {
        *self.says.lock() = says;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
