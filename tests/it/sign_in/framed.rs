//! In a real browser: LibreChat in a frame of another site's page and in a window of its own, signed in.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::{get, post};
use tokio::sync::mpsc;
use tollgate::scripted::client::ChatBody;

use super::*;
use crate::support::browser::{Chromium, end_tls};

/// The application's page: it shows LibreChat, has it chat and sign out, and tells the test what it heard.
const PAGE: &str = r#"<!DOCTYPE html>
<iframe src="URL"></iframe>
<script>
  const frame = document.querySelector('iframe');
  const orders = [{ say: BODY }, { leave: true }];
  addEventListener('message', async ({ data, origin }) => {
    await fetch('/heard', { method: 'POST', body: JSON.stringify({ ...data, origin }) });
    const order = orders.shift();
    if (order) frame.contentWindow.postMessage(order, origin);
  });
</script>"#;

/// The application's page that opens LibreChat in a window of its own, again and again.
const OPENER: &str = r"<!DOCTYPE html>
<script>
  const orders = ORDERS;
  let shown;
  const next = () => {
    const order = orders.shift();
    if (!order) return;
    if (order.leave) shown.postMessage(order, '*');
    else if (shown) shown.location = order.open;
    else shown = window.open(order.open);
  };
  addEventListener('message', async ({ data }) => {
    await fetch('/heard', { method: 'POST', body: JSON.stringify(data) });
    next();
  });
  next();
</script>";

/// The application's site: where it listens, what its page is, and what that hears.
struct Application {
    address: SocketAddr,
    page: Arc<OnceLock<String>>,
    hearing: mpsc::UnboundedReceiver<Value>,
}

impl Application {
    async fn start() -> Self {
        let (heard, hearing) = mpsc::unbounded_channel();
        let page = Arc::new(OnceLock::new());
        let show = async |State((page, _)): State<(Arc<OnceLock<String>>, _)>| Html(page.get().cloned().unwrap_or_default());
        let hear = async |State((_, heard)): State<(_, mpsc::UnboundedSender<Value>)>, body: String| {
            // Whoever waits for it may have given up.
            let _ = heard.send(serde_json::from_str(&body).unwrap_or_default());
        };
        let routes = Router::new().route("/", get(show)).route("/heard", post(hear)).with_state((Arc::clone(&page), heard));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address: end_tls(address).await, page, hearing }
    }

    async fn hears(&mut self, chromium: &Chromium) -> Value {
        let heard = tokio::time::timeout(Duration::from_mins(1), self.hearing.recv()).await;
        heard.unwrap_or_else(|_| panic!("the page heard nothing:\n{}", chromium.log())).expect("the page is there")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librechat_in_a_frame_of_another_site_is_signed_in_chats_and_signs_out() {
    let mut application = Application::start().await;
    let site = format!("https://app.customer.test:{}", application.address.port());
    let config = CONFIG.replace("frame_ancestors = ['https://app.example']", &format!("frame_ancestors = ['{site}']"));
    let gateway = Setup { config, ..setup() }.start().await;
    let tls = end_tls(gateway.running.public).await;
    let (host, base) = (format!("chat.tollgate.test:{}", tls.port()), format!("https://chat.tollgate.test:{}", tls.port()));

    let asked = browser().get(format!("{}/api/librechat/auth", gateway.url())).header("Host", &host).header("X-Forwarded-Proto", "https");
    let answer = read(asked.bearer_auth(sign(&claims("ann"))).send().await.expect("an answer")).await;
    let url = answer.json()["url"].as_str().expect("an address").to_owned();
    assert!(url.starts_with(&base), "{url}");
    let body = ChatBody::new("Hello [[in=10 out=5]]");
    application.page.set(PAGE.replace("URL", &url).replace("BODY", &body.json().to_string())).expect("no page yet");
    let chromium = Chromium::show(&site);

    let loaded = application.hears(&chromium).await;
    assert_eq!(loaded, json!({"path": "/", "email": "ann@acme.test", "loginForm": false, "origin": base}));
    assert_eq!(application.hears(&chromium).await, json!({"answered": true, "origin": base}));
    let row = gateway.usage_rows(1).await.remove(0);
    assert_eq!((&*row.org_id, row.total_tokens), ("acme", 15));
    let left = application.hears(&chromium).await;
    assert_eq!(left, json!({"path": "/", "email": null, "loginForm": false, "origin": base}), "nobody is signed in, and no form is shown");
    assert_eq!(gateway.audit_rows("auth.logout", 1).await[0].org_id.as_deref(), Some("acme"));
    let heard = gateway.librechat.requests();
    let said_cookie = heard.iter().any(|request| request.header("cookie").is_some_and(|cookie| cookie.contains("__Host-tollgate")));
    assert!(!said_cookie, "LibreChat never hears of the session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_come_and_go_in_a_window_of_librechats_own() {
    let mut application = Application::start().await;
    let site = format!("https://app.customer.test:{}", application.address.port());
    let gateway = setup().start().await;
    let tls = end_tls(gateway.running.public).await;
    let host = format!("chat.tollgate.test:{}", tls.port());
    let open = async |claims: Value| {
        let asked = browser().get(format!("{}/api/librechat/auth", gateway.url())).header("Host", &host);
        let asked = asked.header("X-Forwarded-Proto", "https").bearer_auth(sign(&claims)).send().await.expect("an answer");
        json!({ "open": read(asked).await.json()["url"] })
    };
    let (leave, bob) = (json!({ "leave": true }), of_org("beta", with(claims("bob"), "email", json!("bob@beta.test"))));
    // Acme may be framed and Beta may not: a browser keeps their cookies in two forms.
    let orders = [
        (open(claims("ann")).await, Some("ann@acme.test")),
        (leave.clone(), None),
        (open(claims("ann")).await, Some("ann@acme.test")),
        (open(bob).await, Some("bob@beta.test")),
        (leave, None),
        (open(claims("ann")).await, Some("ann@acme.test")),
    ];
    let said: Vec<&Value> = orders.iter().map(|(order, _)| order).collect();
    application.page.set(OPENER.replace("ORDERS", &json!(said).to_string())).expect("no page yet");
    let chromium = Chromium::show(&site);
    for (step, (_, email)) in orders.iter().enumerate() {
        let heard = application.hears(&chromium).await;
        assert_eq!(heard, json!({"path": "/", "email": email, "loginForm": false}), "step {step}");
    }
}
