//! TLS that ends at the public listener: handshakes, both HTTPs, and certificates that change while it runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use jiff::civil::{Date, date};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, SupportedProtocolVersion};
use tollgate::config::Config;
use tollgate::scripted::client::{BROWSER, ChatBody};

use crate::support::gateway::{Setup, value_of, wait_for};
use crate::support::process::TollgateProcess;

/// A certificate of its own for `chat.test`, and its key.
pub struct Made {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

fn made(from: i16, until: i16) -> Made {
    valid(date(from, 1, 1), date(until, 1, 1))
}

/// One that is valid from this day until that.
pub fn valid(from: Date, until: Date) -> Made {
    let mut wanted = rcgen::CertificateParams::new(vec!["chat.test".to_owned()]).expect("a name");
    let midnight = |day: Date| rcgen::date_time_ymd(day.year().into(), day.month().cast_unsigned(), day.day().cast_unsigned());
    (wanted.not_before, wanted.not_after) = (midnight(from), midnight(until));
    let key = rcgen::KeyPair::generate().expect("a key");
    Made { certificate: wanted.self_signed(&key).expect("a certificate"), key }
}

fn good() -> Made {
    made(2020, 2120)
}

impl Made {
    pub fn write(&self, folder: &Path) -> (String, String) {
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.join(name).display().to_string());
        std::fs::write(&certificate, self.certificate.pem()).expect("a file");
        std::fs::write(&key, self.key.serialize_pem()).expect("a file");
        (certificate, key)
    }

    /// A connection of a client that trusts this certificate and no other.
    async fn connect(&self, to: SocketAddr, protocol: &str, versions: &[&'static SupportedProtocolVersion]) -> Result<Tls, std::io::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("known versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(to).await?;
        TlsConnector::from(Arc::new(config)).connect("chat.test".try_into().expect("a name"), stream).await
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// Whether this is what is shown now.
    async fn is_shown(&self, by: SocketAddr) -> bool {
        self.connect(by, "http/1.1", rustls::ALL_VERSIONS).await.is_ok()
    }
}

type Tls = TlsStream<TcpStream>;

fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: chat.test\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
}

async fn over_http1(stream: &mut Tls, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut answer = Vec::new();
    // Some clients are not told that the stream ends, which the length of the answer tells as well.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_https_are_spoken_and_librechat_hears_it() {
    let (folder, certificate) = (tempfile::tempdir().expect("a folder"), good());
    let (cert, key) = certificate.write(folder.path());
    let gateway = Setup::default().set("TOLLGATE_PUBLIC__TLS_CERT", &cert).set("TOLLGATE_PUBLIC__TLS_KEY", &key).start().await;
    let (to, token) = (gateway.running.public, gateway.token("ada@acme.test"));

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = certificate.connect(to, "http/1.1", &[version]).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = over_http1(&mut stream, &get("/api/user", &token)).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("ada@acme.test"), "{version:?}: {answer}");
    }
    let stream = certificate.connect(to, "h2", rustls::ALL_VERSIONS).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::get("https://chat.test/api/user").header("authorization", format!("Bearer {token}"));
    let (answer, _) = requests.send_request(request.body(()).expect("a request"), true).expect("it is sent");
    assert_eq!(answer.await.expect("an answer").status(), 200);

    let heard: Vec<_> = gateway.librechat.requests().into_iter().filter(|request| request.path == "/api/user").collect();
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|request| request.header("x-forwarded-proto") == Some("https")), "{heard:?}");
    let expires = value_of(&gateway.metrics().await, "tollgate_tls_certificate_expiry_timestamp_seconds");
    assert!((expires - 4_733_510_400.0).abs() < 0.5, "the first second of 2120: {expires}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_no_tls_is_told_so_where_that_is_possible() {
    let (folder, certificate) = (tempfile::tempdir().expect("a folder"), good());
    let (cert, key) = certificate.write(folder.path());
    let gateway = Setup::default().set("TOLLGATE_PUBLIC__TLS_CERT", &cert).set("TOLLGATE_PUBLIC__TLS_KEY", &key).start().await;
    for (said, answered) in [("GET / HTTP/1.1\r\nHost: chat.test\r\n\r\n", "HTTP/1.1 400 Bad Request"), ("\0hello", ""), ("\u{16}x", "")] {
        let mut stream = TcpStream::connect(gateway.running.public).await.expect("a connection");
        stream.write_all(said.as_bytes()).await.expect("it is taken");
        stream.shutdown().await.expect("nothing more is said");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(answered) && answered.is_empty() != answer.contains("HTTPS only"), "{said:?}: {answer:?}");
    }
    let versions = [&rustls::version::TLS13];
    assert!(certificate.connect(gateway.running.public, "http/1.1", &versions).await.is_ok(), "and everyone else is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_exchanged_while_streams_go_on() {
    let (folder, first, second, third) = (tempfile::tempdir().expect("a folder"), good(), good(), good());
    let (cert, key) = first.write(folder.path());
    let librechat = tollgate::scripted::ScriptedLibreChat::start(tollgate::scripted::Options::default()).await.expect("a free port");
    let rows = tempfile::tempdir().expect("a folder");
    let config = Setup::default().text(&librechat, &rows);
    let config = config.replacen("[public]", &format!("[public]\ntls_cert = '{cert}'\ntls_key = '{key}'"), 1);
    let process = TollgateProcess::start(&config).await;
    let (to, token) = (process.public, librechat.token("ada@acme.test"));

    let body = ChatBody::new("Hello [[tokens=150 delay=20]]").json().to_string();
    let start = format!(
        "POST /api/agents/chat/openAI HTTP/1.1\r\nHost: chat.test\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = first.connect(to, "http/1.1", rustls::ALL_VERSIONS).await.expect("a handshake");
    let started = over_http1(&mut stream, &start).await;
    let (_, json) = started.split_once("\r\n\r\n").expect("an answer");
    let from = json.find('{').expect("JSON");
    let json: serde_json::Value = serde_json::from_str(&json[from..=json.rfind('}').expect("JSON")]).expect("JSON");
    let path = format!("/api/agents/chat/stream/{}", json["streamId"].as_str().expect("a stream"));
    let mut listening = first.connect(to, "http/1.1", rustls::ALL_VERSIONS).await.expect("a handshake");
    listening.write_all(get(&path, &token).as_bytes()).await.expect("it is taken");
    let mut beginning = [0; 15];
    listening.read_exact(&mut beginning).await.expect("it begins");

    second.write(folder.path());
    process.signal("HUP");
    wait_for("the second certificate", || async { second.is_shown(to).await.then_some(()) }).await;
    assert!(!first.is_shown(to).await);

    for bad in ["garbage", &made(2020, 2021).certificate.pem()] {
        let said = process.log().matches("cannot be used").count();
        std::fs::write(&cert, bad).expect("a file");
        process.signal("HUP");
        wait_for("it to be said", || async { (process.log().matches("cannot be used").count() > said).then_some(()) }).await;
        assert!(second.is_shown(to).await, "the one before stays");
    }
    // Nobody tells it of this one.
    third.write(folder.path());
    wait_for("the third certificate", || async { third.is_shown(to).await.then_some(()) }).await;

    let mut rest = Vec::new();
    let _ = listening.read_to_end(&mut rest).await;
    assert!(String::from_utf8_lossy(&rest).contains("\"final\":true"), "a stream of the first certificate's time goes on to its end");
}

#[test]
fn certificates_that_cannot_be_used_are_configuration_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = good().write(folder.path());
    let wrong = |keys: &str| {
        let secret = [("JWT_SECRET".to_owned(), "a-secret-of-librechat-0123456789".to_owned())];
        Config::from_text(&format!("[public]\n{keys}"), "tollgate.toml", secret.into_iter()).map(|_| ()).map_err(|error| error.to_string())
    };
    let both = format!("tls_cert = '{cert}'\ntls_key = '{key}'");
    assert_eq!(wrong(&both), Ok(()));
    let says = |keys: &str, path: &str, words: &str| {
        let said = wrong(keys).expect_err(words);
        assert!(said.contains(path) && said.contains(words) && !said.contains("PRIVATE KEY"), "{words}: {said}");
    };
    says(&format!("tls_cert = '{cert}'"), "public.tls_key", "needs its private key");
    says(&format!("tls_key = '{key}'"), "public.tls_cert", "needs its certificate");
    says(&format!("tls_cert = '/nowhere'\ntls_key = '{key}'"), "public.tls_cert", "cannot be read");
    says(&format!("tls_cert = '{cert}'\ntls_key = '{cert}'"), "public.tls_key", "holds no private key");
    says(&format!("tls_cert = '{key}'\ntls_key = '{key}'"), "public.tls_cert", "holds no certificate");
    std::fs::write(&key, good().key.serialize_pem()).expect("a file");
    says(&both, "public.tls_key", "is not the key of");
    made(2020, 2021).write(folder.path());
    says(&both, "public.tls_cert", "expired at 2021-01-01T00:00:00Z");
    made(2110, 2120).write(folder.path());
    says(&both, "public.tls_cert", "not valid before 2110-01-01T00:00:00Z");
}
