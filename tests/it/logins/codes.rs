//! The second step.

use super::*;

const CODE: &str = "314159";
const SECOND: &str = "/api/auth/2fa/verify-temp";

async fn start() -> TestGateway {
    let careful = User { code: Some(CODE.to_owned()), ..User::new(ANN) };
    let librechat = Options { users: vec![careful, User::new("bob@acme.test")], strangers: Strangers::Refused, ..Options::default() };
    Setup { librechat, ..Setup::default() }.start().await
}

async fn temp_token(gateway: &TestGateway) -> String {
    let answer = login(gateway, ANN, PASSWORD).await;
    assert_eq!((answer.status, &answer.json()["twoFAPending"]), (200, &json!(true)), "{}", answer.text());
    answer.json()["tempToken"].as_str().expect("a token").to_owned()
}

async fn say(gateway: &TestGateway, address: &str, token: &str, code: &str) -> Message {
    post(&gateway.running, SECOND, address, &shown(&json!({ "tempToken": token, "token": code }))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_signs_in_and_proves_the_name() {
    let gateway = start().await;
    fail(&gateway, "192.0.2.1", ANN, 3).await;
    let token = temp_token(&gateway).await;
    assert_eq!(say(&gateway, "192.0.2.1", &token, "000000").await.status, 401);
    let answer = say(&gateway, "192.0.2.1", &token, CODE).await;
    assert_eq!((answer.status, answer.json()["token"].is_string()), (200, true), "{}", answer.text());
    let first = gateway.audit_rows("auth.login", 1).await.remove(0);
    assert_eq!((first.actor_id, first.detail), (None, Some(json!({ "second_factor": "asked" }))), "the password alone signs nobody in");
    let second = gateway.audit_rows("auth.two_factor_login", 1).await.remove(0);
    assert_eq!(second.actor_id.as_deref(), Some(&*User::new(ANN).id));
    let failed = gateway.audit_rows("auth.two_factor_failed", 1).await.remove(0);
    assert_eq!((failed.error.as_deref(), failed.resource_id.as_deref()), (Some("wrong_code"), Some(&*User::new(ANN).id)));
    // Three failures of the name are forgotten, elsewhere too.
    fail(&gateway, "198.51.100.7", ANN, 4).await;
    assert_eq!(login_from(&gateway.running, "198.51.100.7", ANN, PASSWORD).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_wrong_codes_lock_the_code_from_everywhere() {
    let gateway = start().await;
    let token = temp_token(&gateway).await;
    for number in 0..5 {
        assert_eq!(say(&gateway, &format!("198.51.100.{number}"), &token, "000000").await.status, 401);
    }
    let fresh = temp_token(&gateway).await;
    let answer = say(&gateway, "192.0.2.1", &fresh, CODE).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    let locked = gateway.audit_rows("auth.locked", 1).await.remove(0);
    assert_eq!(locked.detail.map(|detail| detail["locked"].clone()), Some(json!("second_factor")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_librechat_did_not_sign_locks_nobody() {
    let gateway = start().await;
    let token = temp_token(&gateway).await;
    let (message, _) = token.rsplit_once('.').expect("a token");
    for _ in 0..8 {
        assert_eq!(say(&gateway, "198.51.100.7", &format!("{message}.AAAA"), "000000").await.status, 401);
    }
    assert_eq!(say(&gateway, "192.0.2.1", &token, CODE).await.status, 200);
}
