//! What stands between a client and a server whose connections fall silent, as when the machine at the other end is gone: nothing
//! comes any more, and nobody says that it is over.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes everything on, until it is told to be silent on the connections that there are.
pub struct Silence {
    port: u16,
    falls: watch::Sender<()>,
}

impl Silence {
    pub async fn in_front_of(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let ours = listener.local_addr().expect("an address").port();
        let (falls, fallen) = watch::channel(());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut fallen = fallen.clone();
                fallen.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        Ok(()) = fallen.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port: ours, falls }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The connections that there are say nothing more; new ones are as before.
    pub fn falls(&self) {
        self.falls.send_replace(());
    }
}
