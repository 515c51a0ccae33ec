//! Bodies that nobody's browser sends, and what must be written down nowhere.

use super::*;

const HUNTER: &str = "hunter2-hunter2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bodies_are_refused_or_pass_without_a_name() {
    let gateway = setup().start().await;
    let huge = json!({ "email": ANN, "password": "x".repeat(20_000) }).to_string();
    for (body, status, forwarded) in [
        ("", 404, true),
        ("{}", 404, true),
        (r#"{"email":null,"password":"wrong-password"}"#, 404, true),
        (r#"{"email":"ann","password":"wrong-password"}"#, 404, true),
        ("not JSON", 400, false),
        ("[]", 400, false),
        ("\"ann@acme.test\"", 400, false),
        (r#"{"email":["ann@acme.test"],"password":"wrong-password"}"#, 400, false),
        (r#"{"email":{"$ne":null},"password":"wrong-password"}"#, 400, false),
        (r#"{"email":"bob@acme.test","email":"ann@acme.test","password":"wrong-password"}"#, 400, false),
        (&huge, 413, false),
    ] {
        let before = judged(&gateway.librechat);
        let answer = post(&gateway.running, LOGIN, "192.0.2.1", body).await;
        let shown = &body[..body.len().min(60)];
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        assert_eq!(judged(&gateway.librechat) > before, forwarded, "{shown}");
        assert!(answer.json()["message"].is_string(), "{shown}: {}", answer.text());
    }
    assert_eq!(login(&gateway, ANN, PASSWORD).await.status, 200, "none of them counted against her");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_librechat_would_read_otherwise_is_not_forwarded() {
    let gateway = setup().start().await;
    let body = "email=ann%40acme.test&password=wrong-password";
    for (path, headers, status) in [
        (LOGIN, "Content-Type: application/x-www-form-urlencoded\r\n", 415),
        (LOGIN, "Content-Type: application/json; charset=utf-16\r\n", 415),
        (LOGIN, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", 415),
        ("/api/auth/login?email=ann@acme.test&password=wrong-password", "Content-Type: application/json\r\n", 400),
        ("/api/auth/login?%65mail[]=ann@acme.test", "", 400),
    ] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        let answer = wire.answer_to("POST").await;
        assert_eq!(answer.status, status, "{path} {headers}: {}", answer.text());
    }
    assert_eq!(judged(&gateway.librechat), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_unknown_names_are_written_down_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = format!("[log.files]\nfolder = \"{}\"\n", folder.path().display());
    let users = vec![User { password: HUNTER.to_owned(), ..User::new(ANN) }];
    let librechat = Options { users, strangers: Strangers::Refused, ..Options::default() };
    let gateway = Setup { config: log, librechat, ..Setup::default() }.start().await;
    for (email, password) in [(ANN, HUNTER), (ANN, "hunter2-guessed"), ("stranger@nowhere.test", "hunter2-guessed"), (HUNTER, HUNTER)] {
        let answer = login(&gateway, email, password).await;
        assert!(matches!(answer.status, 200 | 404), "{}", answer.text());
    }
    for body in ["{\"password\":\"hunter2-broken", r#"{"email":["hunter2"],"password":"hunter2"}"#] {
        assert_eq!(post(&gateway.running, LOGIN, "192.0.2.1", body).await.status, 400);
    }
    gateway.audit_rows("auth.login", 1).await;
    gateway.audit_rows("auth.login_failed", 4).await;
    gateway.all_settled().await;
    let (running, _, database) = gateway.into_parts();
    tokio::task::spawn_blocking(move || running.stop()).await.expect("it stops");
    for written in [everything_written(database.path()), everything_written(folder.path())] {
        assert!(written.contains("auth.login_failed"), "the rows are there");
        assert!(!written.contains("hunter2"), "a password was written down");
        assert!(!written.contains("stranger@"), "a stranger's name was written down");
    }
}
