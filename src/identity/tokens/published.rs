//! Keys that issuers publish: which of them are used, when they are fetched, and what is done when they are not there.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::forge::*;
use super::jwks::Keys;
use super::publisher::{Publisher, Says};
use super::signer::{Signer, key_set};
use super::*;

const ALL: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

/// Nothing happens by itself, and waiting is short.
const BY_HAND: Timing = Timing {
    every: Duration::from_hours(1),
    again: Duration::from_hours(1),
    cool_down: Duration::from_hours(1),
    patience: Duration::from_secs(10),
    stale: Duration::from_hours(1),
};

fn set_at(url: &str, timing: Timing) -> Arc<KeySet> {
    Arc::new(KeySet::new("idp".into(), url.to_owned(), ALL.to_vec(), timing))
}

/// Waits until so many fetches have come to their end.
async fn until_fetched(set: &KeySet, times: u64) -> KeySetHealth {
    for _ in 0..2_000 {
        let health = set.health();
        if health.good + health.failed >= times {
            return health;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{times} fetches did not come to their end: {:?}", set.health());
}

#[test]
fn only_keys_that_may_verify_our_tokens_are_used() {
    let [rsa, p256, ed25519] = ["RS256", "ES256", "EdDSA"].map(|algorithm| Signer::new(algorithm, "k"));
    let usable = |jwk: &Value, algorithms: &[Algorithm]| {
        Keys::read(&json!({"keys": [jwk]}).to_string(), algorithms).map_or(usize::MAX, |keys| keys.len())
    };
    for signer in [&rsa, &p256, &ed25519] {
        let jwk = signer.jwk();
        assert_eq!(usable(&jwk, &ALL), 1, "{jwk}");
        let other: Vec<_> = ALL.into_iter().filter(|algorithm| algorithm.as_str() != signer.algorithm()).collect();
        assert_eq!(usable(&jwk, &other), 0, "of an algorithm that the issuer does not use: {jwk}");
        for (what, member, value, used) in [
            ("a use of null", "use", Value::Null, 0),
            ("to encrypt", "use", json!("enc"), 0),
            ("to verify", "key_ops", json!(["verify"]), 1),
            ("to sign", "key_ops", json!(["sign"]), 0),
            ("for nothing", "key_ops", json!([]), 0),
            ("of another algorithm", "alg", json!("HS256"), 0),
            ("of PSS", "alg", json!("PS256"), 0),
            ("of none", "alg", json!("none"), 0),
            ("a private one", "d", json!("AAAA"), 0),
            ("a symmetric one beside", "k", json!("AAAA"), 0),
            ("a name that is a number", "kid", json!(7), 0),
            ("an empty name", "kid", json!(""), 0),
            ("a long name", "kid", json!("k".repeat(257)), 0),
            ("a certificate beside", "x5c", json!(["MIIB"]), 1),
            ("another place beside", "x5u", json!("https://evil.example/cert"), 1),
            ("no curve and no type", "kty", json!("oct"), 0),
        ] {
            let mut changed = jwk.clone();
            changed[member] = value;
            assert_eq!(usable(&changed, &ALL), used, "{what}: {changed}");
        }
        let twice = jwk.to_string().replacen('{', "{\"kty\":\"oct\",", 1);
        assert_eq!(Keys::read(&format!("{{\"keys\":[{twice}]}}"), &ALL).map(|keys| keys.len()), Some(0), "a member stands twice");
    }
    let (x, n) = (p256.jwk()["x"].clone(), rsa.jwk()["n"].clone());
    let number = |zeros: usize, bytes: usize| URL_SAFE_NO_PAD.encode([vec![0; zeros], vec![0xff; bytes]].concat());
    for (what, jwk) in [
        ("a secret", json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"})),
        ("an RSA key of 1024 bits", json!({"kty": "RSA", "n": number(0, 128), "e": "AQAB"})),
        ("an RSA key that zeros make longer", json!({"kty": "RSA", "n": number(200, 128), "e": "AQAB"})),
        ("the exponent 1", json!({"kty": "RSA", "n": n, "e": "AQ"})),
        ("an even exponent", json!({"kty": "RSA", "n": n, "e": "Ag"})),
        ("an RSA key of 16384 bits", json!({"kty": "RSA", "n": number(0, 2048), "e": "AQAB"})),
        ("base64 that is not canonical", json!({"kty": "RSA", "n": n, "e": "AQAB="})),
        ("a point that is on no curve", json!({"kty": "EC", "crv": "P-256", "x": x, "y": x})),
        ("the point at infinity", json!({"kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(43)})),
        ("half a point", json!({"kty": "EC", "crv": "P-256", "x": x, "y": ""})),
        ("another curve", json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": x})),
        ("an Ed25519 key of another length", json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})),
        ("a key to agree on keys", json!({"kty": "OKP", "crv": "X25519", "x": ed25519.jwk()["x"]})),
        ("nothing", json!({})),
        ("a text", json!("key")),
    ] {
        assert_eq!(usable(&jwk, &ALL), 0, "{what}");
    }
    for text in ["", "null", "[]", "{}", "{\"keys\":{}}", "{\"keys\":null}", "<html>", "{\"keys\":[],\"keys\":[]}"] {
        assert!(Keys::read(text, &ALL).is_none(), "{text} is no key set");
    }
}

#[test]
fn of_ten_thousand_keys_the_first_hundred_are_kept() {
    let (first, last) = (Signer::new("ES256", "first"), Signer::new("ES256", "last"));
    let many = |count: usize| {
        let mut keys: Vec<Value> = (0..count)
            .map(|index| {
                let mut jwk = first.jwk();
                jwk["kid"] = json!(format!("k{index}"));
                jwk
            })
            .collect();
        keys.insert(0, first.jwk());
        keys.push(last.jwk());
        json!({"keys": keys}).to_string()
    };
    let text = many(9_998);
    assert!(text.len() > fetch::MOST_BYTES, "so many are not even read to their end");
    let keys = Keys::read(&text, &ALL).unwrap();
    assert_eq!((keys.len(), keys.unusable), (100, 9_900));
    assert!(keys.knows("first") && !keys.knows("last"));
    // A token that names no key is not tried with a hundred of them.
    assert_eq!(keys.for_token(None, "ES256").count(), 0);
    let few = Keys::read(&many(2), &ALL).unwrap();
    assert_eq!((few.for_token(None, "ES256").count(), few.for_token(None, "RS256").count()), (4, 0));
}

#[tokio::test]
async fn what_is_no_key_set_is_not_taken_for_one() {
    let signer = Signer::new("EdDSA", "k");
    let elsewhere = Publisher::start(Says::Keys(key_set(&[&signer]))).await;
    let publisher = Publisher::start(Says::Keys(key_set(&[&signer]))).await;
    let set = set_at(&publisher.url, BY_HAND);
    assert_eq!(set.try_once().await, Ok((1, 0)));
    for (says, expected) in [
        (Says::Status(500), FetchError::Status(500)),
        (Says::Status(204), FetchError::Status(204)),
        (Says::Redirect(elsewhere.url.clone()), FetchError::Status(302)),
        (Says::Keys("<html>".to_owned()), FetchError::NoKeySet),
        (Says::Keys(format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(fetch::MOST_BYTES))), FetchError::TooLong),
    ] {
        publisher.say(says);
        assert_eq!(set.try_once().await, Err(expected));
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
    assert!(matches!(set_at("http://127.0.0.1:1/keys", BY_HAND).try_once().await, Err(FetchError::Away(_))));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_once_and_makes_no_queue() {
    let publisher = Publisher::start(Says::Keys(key_set(&[&Signer::new("EdDSA", "k")]))).await;
    let set = set_at(&publisher.url, BY_HAND);
    tokio::spawn(set.clone().keep_fresh());
    until_fetched(&set, 1).await;

    let asking: Vec<_> = (0..1_000)
        .map(|_| {
            tokio::spawn({
                let set = set.clone();
                async move { set.ask().await }
            })
        })
        .collect();
    let mut waited = 0;
    for asked in asking {
        waited += usize::from(asked.await.unwrap());
    }
    assert!((1..=64).contains(&waited), "{waited} waited");
    assert_eq!(publisher.asked(), 2, "once at the start, and once for all of them");
    assert!(!set.ask().await, "nobody asks or waits before the cool-down is over");
    assert_eq!(publisher.asked(), 2);
}

#[tokio::test]
async fn keys_outlive_their_issuer_for_a_while() {
    let publisher = Publisher::start(Says::Status(503)).await;
    let timing = Timing { again: Duration::from_millis(5), every: Duration::from_millis(20), stale: Duration::from_millis(300), ..BY_HAND };
    let set = set_at(&publisher.url, timing);
    tokio::spawn(set.clone().keep_fresh());
    let health = until_fetched(&set, 3).await;
    assert_eq!((health.good, health.keys, health.degraded), (0, 0, true), "it is asked again and again");
    assert_eq!(set.with_keys(Keys::len), None);

    publisher.say(Says::Keys(key_set(&[&Signer::new("EdDSA", "k")])));
    while set.health().keys == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!set.health().degraded);
    publisher.say(Says::Status(503));
    let failed = set.health().failed;
    while set.health().failed == failed {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(set.health().degraded && set.health().keys == 1, "what is there goes on being used: {:?}", set.health());
    while set.with_keys(Keys::len).is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    publisher.say(Says::Keys("{\"keys\":[]}".to_owned()));
    while set.with_keys(Keys::len) != Some(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(set.health().degraded, "an issuer that takes all of its keys back is believed");
}

/// A verifier with one issuer that publishes these keys.
fn verifier_of(keys: &[&Signer]) -> (Verifier, Arc<KeySet>) {
    let mut settings = settings();
    settings.issuers.push(IssuerSettings {
        issuer: Some("https://idp.example".into()),
        audience: Some("tollgate".into()),
        keys: IssuerKeys::Published(ALL.to_vec(), "http://127.0.0.1:1/keys".into()),
        ..issuer("idp", b"", &["acme"])
    });
    let verifier = Verifier::new(settings, directory()).unwrap();
    let set = verifier.key_sets().next().unwrap().clone();
    set.hold(&key_set(keys));
    (verifier, set)
}

fn claims() -> Value {
    dana(json!({ "iss": "https://idp.example", "aud": "tollgate" }))
}

#[test]
fn two_keys_are_good_at_once_and_one_that_was_taken_back_is_not() {
    let (old, new) = (Signer::new("RS256", "2025"), Signer::new("ES256", "2026"));
    let (verifier, set) = verifier_of(&[&old]);
    let unknown = TokenError::UnknownKey { issuer: "idp".into() };
    let judge = |signer: &Signer| verifier.verify(&signer.sign(&claims()), at(NOW)).map(|_| ());
    assert_eq!((judge(&old), judge(&new)), (Ok(()), Err(unknown.clone())), "before");
    set.hold(&key_set(&[&new, &old]));
    assert_eq!((judge(&old), judge(&new)), (Ok(()), Ok(())), "while it is being changed");
    let remembered = old.sign(&claims());
    assert!(verifier.verify(&remembered, at(NOW)).is_ok());
    set.hold(&key_set(&[&new]));
    assert_eq!((judge(&old), judge(&new)), (Err(unknown.clone()), Ok(())), "after");
    assert_eq!(verifier.verify(&remembered, at(NOW)).map(|_| ()), Err(unknown), "a remembered signature goes with its key");
}

#[test]
fn two_configured_keys_are_good_at_once() {
    let signers = ["RS256", "ES256", "EdDSA"].map(|algorithm| Signer::new(algorithm, "k"));
    let mut settings = settings();
    settings.issuers[0].keys = IssuerKeys::Pem(ALL.to_vec(), signers[..2].iter().map(Signer::pem).collect());
    settings.issuers[1].keys = IssuerKeys::Secrets(vec![PARTNER.to_vec(), vec![b'n'; 32]]);
    let verifier = Verifier::new(settings, directory()).unwrap();
    for (signer, good) in signers.iter().zip([true, true, false]) {
        assert_eq!(verifier.verify(&signer.sign(&dana(json!({}))), at(NOW)).is_ok(), good, "{}", signer.algorithm());
    }
    let partner = dana(json!({ "iss": null, "organization": { "id": "beta" } }));
    for (secret, good) in [(PARTNER, true), (&[b'n'; 32], true), (&[b'm'; 32], false)] {
        assert_eq!(verifier.verify(&hs256(&partner, secret), at(NOW)).is_ok(), good);
    }
}

#[tokio::test]
async fn a_token_whose_key_is_new_waits_for_it() {
    let (old, new) = (Signer::new("EdDSA", "old"), Signer::new("EdDSA", "new"));
    let publisher = Publisher::start(Says::Keys(key_set(&[&old]))).await;
    let mut settings = settings();
    settings.issuers.push(IssuerSettings {
        issuer: Some("https://idp.example".into()),
        audience: Some("tollgate".into()),
        keys: IssuerKeys::Published(ALL.to_vec(), publisher.url.clone()),
        ..issuer("idp", b"", &["acme"])
    });
    let verifier = Verifier::new(settings, directory()).unwrap();
    let away = TokenError::KeysAway { issuer: "idp".into() };
    assert_eq!(verifier.verify(&old.sign(&claims()), at(NOW)).map(|_| ()), Err(away), "nothing was fetched yet");
    tokio::spawn(verifier.key_sets().next().unwrap().clone().keep_fresh());
    assert!(verifier.verify_or_ask(&old.sign(&claims()), at(NOW)).await.is_ok(), "the first fetch is waited for");
    publisher.say(Says::Keys(key_set(&[&old, &new])));
    assert!(verifier.verify_or_ask(&new.sign(&claims()), at(NOW)).await.is_ok(), "and one more for the new key");
    assert_eq!(publisher.asked(), 2);
    let stranger = Signer::new("EdDSA", "stranger");
    for _ in 0..100 {
        let refused = verifier.verify_or_ask(&stranger.sign(&claims()), at(NOW)).await.map(|_| ());
        assert_eq!(refused, Err(TokenError::UnknownKey { issuer: "idp".into() }));
    }
    assert_eq!(publisher.asked(), 2, "a key that nobody has is not asked for again and again");
}
