//! A real Chromium, and the TLS that it wants.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Ends TLS in front of a server on this machine; where it listens.
pub async fn end_tls(server: SocketAddr) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(vec!["*.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a good certificate")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Whoever leaves in between leaves; the test sees what arrived.
                let (Ok(mut client), Ok(mut server)) = (acceptor.accept(client).await, TcpStream::connect(server).await) else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

/// A Chromium that shows one page, until it is dropped. Every name is this machine to it, and every certificate good.
pub struct Chromium(Child, tempfile::TempDir);

impl Chromium {
    pub fn show(url: &str) -> Self {
        let name = ["chromium", "chromium-browser"].into_iter().find(|name| on_path(name));
        let name = name.expect("Chromium is needed: make test installs it");
        let profile = tempfile::tempdir().expect("a folder");
        let child = Command::new(name)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--remote-debugging-port=0",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
                "--no-proxy-server",
                "--disable-popup-blocking",
            ])
            .args(["--ignore-certificate-errors", "--host-resolver-rules=MAP *.test 127.0.0.1"])
            // Browsers are about to keep cookies of framed pages from everybody who does not ask as we do.
            .arg("--test-third-party-cookie-phaseout")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(profile.path().join("log")).expect("a file"))
            .spawn()
            .expect("Chromium starts");
        Self(child, profile)
    }

    /// What it said, for a test that waited in vain.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.1.path().join("log")).unwrap_or_default()
    }
}

fn on_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| Path::new(&folder).join(name).exists()))
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell either way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
