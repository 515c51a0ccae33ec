//! For the tests: a place with four issuers, and tokens signed at will.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::{Algorithm, IssuerKeys, IssuerSettings, Mapping, Verifier, VerifierSettings};
use crate::identity::directory::{Joining, Standing};
use crate::identity::{Directory, Org};

/// The moment at which every test stands unless it says otherwise; tokens are issued at `NOW` and end at `NOW + 900`.
pub(super) const NOW: i64 = 1_795_199_000;
pub(super) const ANN: &str = "65f0c0ffee65f0c0ffee65f0";

pub(super) const LIBRECHAT: &[u8] = b"librechat-secret-librechat-secret";
pub(super) const DASHBOARD: &[u8] = b"dashboard-secret-dashboard-secret";
pub(super) const PARTNER: &[u8] = b"partner-secret-partner-secret-partner";
pub(super) const INTRANET: &[u8] = b"intranet-secret-intranet-secret-in";

/// LibreChat's token for Ann, signed by another implementation under `LIBRECHAT`.
pub(super) const GENUINE_HS256: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpZCI6IjY1ZjBjMGZmZWU2NWYwYzBmZmVlNjVmMCIsInVzZXJuYW1lIjoiYW5uIiwicHJvdmlkZXIiOiJsb2NhbCIsImVtYWlsIjoiYW5uQGFjbWUudGVzdCIsImlhdCI6MTc5NTE5OTAwMCwiZXhwIjoxNzk1MTk5OTAwfQ.m_z3o8Z5fxgcmMu5JwwiUZZ_yXoP-N2990VLjn236tw";

/// Dana's token from `https://rsa.example` for `beta`, with `kid` and `jku`, signed by another implementation.
pub(super) const GENUINE_RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii4uLy4uL2V0Yy9wYXNzd2QiLCJqa3UiOiJodHRwczovL2V2aWwuZXhhbXBsZS9rZXlzIn0.eyJpc3MiOiJodHRwczovL3JzYS5leGFtcGxlIiwiYXVkIjpbIm90aGVyIiwidG9sbGdhdGUiXSwic3ViIjoiZXh0LTciLCJlbWFpbCI6ImRhbmFAYmV0YS50ZXN0IiwibmFtZSI6IkRhbmEiLCJ1c2VybmFtZSI6ImRhbmEiLCJyb2xlIjoiYWRtaW4iLCJvcmdhbml6YXRpb24iOnsiaWQiOiJiZXRhIiwibmFtZSI6IkJldGEiLCJkb21haW4iOiJiZXRhLnRlc3QiLCJwbGFuX3R5cGUiOiJlbnRlcnByaXNlIiwibGlicmVjaGF0X2NvbmZpZyI6eyJtYXhfdG9rZW5zIjo1MDAwMDB9fSwiaWF0IjoxNzk1MTk5MDAwLCJleHAiOjE3OTUyMDI2MDB9.IKpq_9TTQBYH11flqFXjyphzGxQygtloK1Uhl2wAXLSrlp-bvyj9pkB3L391jm8C83qxNKMRJNl4i1RnmCVuUaCpWHlgB-hVL65DLdMxofWfjubwsRqjhm0XMv7QSxWVR8ofmIp5jKXigVAwIepshaoV0SCioDoLOrBxUy0wWEVVfUISK8DwrPzxjd5A9S6NS5vYPvJx4DKonqL8TvnrgIcRGqi6fHmptGXTMTpY7npUZ6PrFI-FDB5B2Rup8-miQKowwRPQgCYpAB7P9jTL_LXwYAokeTVB2b2IY8xuTQqN02kQAEYSaqUgQ2KiA2RY-qw9NuJZ4QKtSPUIEukqqA";

/// The same, signed with a key that nobody knows.
pub(super) const STRANGER_RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL3JzYS5leGFtcGxlIiwiYXVkIjpbIm90aGVyIiwidG9sbGdhdGUiXSwic3ViIjoiZXh0LTciLCJlbWFpbCI6ImRhbmFAYmV0YS50ZXN0IiwibmFtZSI6IkRhbmEiLCJ1c2VybmFtZSI6ImRhbmEiLCJyb2xlIjoiYWRtaW4iLCJvcmdhbml6YXRpb24iOnsiaWQiOiJiZXRhIiwibmFtZSI6IkJldGEiLCJkb21haW4iOiJiZXRhLnRlc3QiLCJwbGFuX3R5cGUiOiJlbnRlcnByaXNlIiwibGlicmVjaGF0X2NvbmZpZyI6eyJtYXhfdG9rZW5zIjo1MDAwMDB9fSwiaWF0IjoxNzk1MTk5MDAwLCJleHAiOjE3OTUyMDI2MDB9.cYfeIsOdbjcVe12JbUC7kiTIn8TolV0eUeb3_o4ZJKnVMMbXlaGqprDCY_fo87ERampuPRNknS8kvMOsyjRhB_hXnrp5b_mk6S5yY05-5ayDStxwKGUIITtrOFOUItu1zhqSDszPIyUwltW0uodZUY_gyn2t2-V6Ga92SWkNCZ2skxJM2ZmfP9aFKT8Fj0Zh5ABaTDUcF_BvPGZoDleZf2X4OhZMPHlvm_3ZzNUn5Q4OAvTRhXvqXodLJA_BgETUDuDdWqVsDgDEuQL2XBeGZaGVoNgUTrDJBa2JcXHdxGbL06T-Qpal7UDm1goxa8sR2ZB6g0-4X47d0urlJOSZvw";

pub(super) const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAkzFSiLLISjfdbXWioiHt
27VOJUbjMVlpvc/zypDfmr4a3ys272PXkVUnrdt4PMDZgC0Cf3ItKW+uFG0K9+t/
PIECwdzIl5g6DQ88aofFVBZDo1lBdZxON/buCePOQOHl06Oqf5y2Sc/45hlaTMx9
w7x4ktCagUPGH6TOUC34hyDO/1b3bFTafJ0INOOE6HYGxGAvvzDJ/8aA25clzRFE
UvrfK/0ckCRz+vRX61inGOmIIv7JjjUYvIv1PHEAHb4kNGu5k1fejUmgxm/V5TGv
cZehnN+h/99rwy++XKq67CSK9I/IMKfTjZ/anZKdXEpIc/GpKYdJCyK8RM+gZVbQ
iwIDAQAB
-----END PUBLIC KEY-----
";

/// A key of 1024 bits.
pub(super) const SMALL_RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDI42LZWS1nYQHy3cvYsijrtJxl
h0xisE1TezJe5r6dDweSEr9RnJFkWPrKriVC0GZDEXfdgZTYDBTR2ZUJAvNXSatF
lvE533yweiquSfOLd59ISFUgPR6Tm9dlCcosFZXCS2cB0GbYK50OkyAyOZYs93xM
rM/DSc/KGDQktaf4PwIDAQAB
-----END PUBLIC KEY-----
";

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

pub(super) fn directory() -> Arc<Directory> {
    let org = |id: &str, plan: Option<&str>| Org {
        id: id.into(),
        name: id.to_uppercase().into(),
        domains: vec![format!("{id}.test")],
        zone: TimeZone::UTC,
        plan: plan.map(Arc::from),
        language: None,
        capture: crate::records::Capture::None,
        legal_hold: false,
        standing: Standing::Active,
        joining: Joining::default(),
        policy: None,
        access: crate::identity::access::Access::default(),
    };
    Arc::new(Directory::new(vec![org("acme", Some("professional")), org("beta", None), org("gamma", None)]))
}

/// This public key, for RS256.
pub(super) fn rsa_pem(pem: &str) -> IssuerKeys {
    IssuerKeys::Pem(vec![Algorithm::Rs256], vec![pem.to_owned()])
}

/// An issuer with a shared secret and nothing else.
pub(super) fn issuer(name: &str, secret: &[u8], orgs: &[&str]) -> IssuerSettings {
    IssuerSettings {
        name: name.into(),
        orgs: orgs.iter().map(ToString::to_string).collect(),
        issuer: None,
        audience: None,
        keys: IssuerKeys::Secrets(vec![secret.to_vec()]),
        claims: Mapping::default(),
        may_name_users: false,
    }
}

/// `dashboard` has an `iss` and may name users; `partner` and `intranet` have none; `rsa` has an `iss`, an audience and an RSA key.
pub(super) fn settings() -> VerifierSettings<'static> {
    VerifierSettings {
        librechat_secret: LIBRECHAT,
        default_org: None,
        trust_email_domains: false,
        issuers: vec![
            IssuerSettings {
                issuer: Some("https://dashboard.example".into()),
                may_name_users: true,
                ..issuer("dashboard", DASHBOARD, &["acme"])
            },
            issuer("partner", PARTNER, &["beta", "gamma"]),
            issuer("intranet", INTRANET, &["acme"]),
            IssuerSettings {
                issuer: Some("https://rsa.example".into()),
                audience: Some("tollgate".into()),
                keys: rsa_pem(RSA_PUBLIC),
                ..issuer("rsa", b"", &["beta"])
            },
        ],
        leeway: Duration::from_mins(1),
    }
}

pub(super) fn verifier() -> Verifier {
    Verifier::new(settings(), directory()).unwrap()
}

/// A token of exactly this header and payload, signed with HMAC-SHA-256.
pub(super) fn forge(header: &str, payload: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[expect(clippy::needless_pass_by_value, reason = "a text and a JSON value alike, each made for the one call")]
pub(super) fn hs256(payload: impl ToString, secret: &[u8]) -> String {
    forge(r#"{"alg":"HS256","typ":"JWT"}"#, &payload.to_string(), secret)
}

/// The claims of LibreChat's token for Ann, with these put in or over, and those of null taken out.
pub(super) fn ann(changes: Value) -> Value {
    let claims = json!({
        "id": ANN, "username": "ann", "provider": "local", "email": "ann@acme.test", "iat": NOW, "exp": NOW + 900,
    });
    changed(claims, changes)
}

/// The claims of the dashboard's token for Dana of `acme`, with these put in or over, and those of null taken out.
pub(super) fn dana(changes: Value) -> Value {
    let claims = json!({
        "iss": "https://dashboard.example", "sub": "ext-7", "email": "dana@acme.test", "name": "Dana Doe", "username": "dana",
        "avatar": "https://dashboard.example/dana.png", "role": "admin", "iat": NOW, "exp": NOW + 900,
        "organization": { "id": "acme", "name": "Acme", "domain": "acme.test", "plan_type": "enterprise", "librechat_config": { "max_tokens": 500_000 } },
    });
    changed(claims, changes)
}

fn changed(mut claims: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    let object = claims.as_object_mut().unwrap();
    for (name, value) in changes {
        if value.is_null() {
            object.remove(&name);
        } else {
            object.insert(name, value);
        }
    }
    claims
}
