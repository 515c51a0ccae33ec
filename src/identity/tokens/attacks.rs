//! Bad tokens and bad settings, each with the reason for which it is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;

use super::forge::*;
use super::*;

/// The reason for which a token is refused, or `good`.
fn refusal(token: &str) -> &'static str {
    verifier().verify(token, at(NOW)).map_or_else(|error| error.reason(), |_| "good")
}

/// Checks a table of what is wrong, the token, and the reason.
fn check(cases: Vec<(&str, String, &str)>) {
    for (what, token, expected) in cases {
        assert_eq!(refusal(&token), expected, "{what}");
    }
}

fn librechat(payload: impl ToString) -> String {
    hs256(payload, LIBRECHAT)
}

/// Ann's token with one claim replaced by this JSON text.
fn with(claim: &str, json: &str) -> String {
    let rest = ann(json!({ claim: null })).to_string();
    librechat(format!("{{\"{claim}\":{json},{}", &rest[1..]))
}

#[test]
fn signatures_and_algorithms() {
    let ann = ann(json!({})).to_string();
    let dana = dana(json!({})).to_string();
    let rsa = super::forge::dana(json!({ "iss": "https://rsa.example", "aud": "tollgate" })).to_string();
    let unsigned = |header: &str| format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&ann));
    let (message, signature) = GENUINE_HS256.rsplit_once('.').unwrap();
    check(vec![
        ("the token that the others are made of", librechat(&ann), "good"),
        ("no algorithm and no signature", unsigned(r#"{"alg":"none"}"#), "algorithm"),
        ("no algorithm in capitals", unsigned(r#"{"alg":"NONE"}"#), "algorithm"),
        ("no algorithm but a good signature", forge(r#"{"alg":"none"}"#, &ann, LIBRECHAT), "algorithm"),
        ("a header without algorithm", forge("{}", &ann, LIBRECHAT), "shape"),
        ("two algorithms", forge(r#"{"alg":"none","alg":"HS256"}"#, &ann, LIBRECHAT), "shape"),
        ("HS256 but the signature is empty", unsigned(r#"{"alg":"HS256"}"#), "signature"),
        ("HS512 in the header", forge(r#"{"alg":"HS512"}"#, &ann, LIBRECHAT), "algorithm"),
        ("RS256 in the header of LibreChat's", forge(r#"{"alg":"RS256"}"#, &ann, LIBRECHAT), "algorithm"),
        ("a wrong secret", hs256(&ann, b"librechat-secret-librechat-secre!"), "signature"),
        ("an empty secret", hs256(&ann, b""), "signature"),
        ("an issuer's secret for LibreChat's token", hs256(&ann, DASHBOARD), "signature"),
        ("LibreChat's secret for an issuer's token", librechat(&dana), "signature"),
        ("another issuer's secret", hs256(&dana, PARTNER), "signature"),
        ("RS256 of a stranger", STRANGER_RS256.into(), "signature"),
        ("HS256 with the RSA public key as the secret", hs256(&rsa, RSA_PUBLIC.as_bytes()), "algorithm"),
        ("the same, called RS256", forge(r#"{"alg":"RS256"}"#, &rsa, RSA_PUBLIC.as_bytes()), "signature"),
        ("RS256 in the header of an HS256 issuer's", forge(r#"{"alg":"RS256"}"#, &dana, DASHBOARD), "algorithm"),
        ("a key in the header", forge(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"kid":"x"}"#, &ann, b"\0\0\0"), "signature"),
        ("a critical extension", forge(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, &ann, LIBRECHAT), "shape"),
        ("a critical extension that is null", forge(r#"{"alg":"HS256","crit":null}"#, &ann, LIBRECHAT), "shape"),
        ("a proof of possession", forge(r#"{"alg":"HS256","typ":"dpop+jwt"}"#, &ann, LIBRECHAT), "shape"),
        ("a logout token", forge(r#"{"alg":"HS256","typ":"logout+jwt"}"#, &dana, DASHBOARD), "shape"),
        ("an OAuth access token in place of LibreChat's", forge(r#"{"alg":"HS256","typ":"at+jwt"}"#, &ann, LIBRECHAT), "shape"),
        ("an OAuth access token of an issuer", forge(r#"{"alg":"HS256","typ":"at+jwt"}"#, &dana, DASHBOARD), "good"),
        ("a signature of another length", format!("{message}.{}", &signature[..42]), "signature"),
        ("a signature with more after it", format!("{message}.{signature}AAAA"), "signature"),
        ("a signature in another alphabet", format!("{message}.{}", signature.replace(['-', '_'], "+")), "signature"),
        ("a padded signature", format!("{message}.{signature}="), "signature"),
    ]);
}

#[test]
fn forms_that_are_no_token() {
    let ann = ann(json!({})).to_string();
    check(vec![
        ("nothing", String::new(), "shape"),
        ("dots", "..".into(), "shape"),
        ("two parts", "a.b".into(), "shape"),
        ("what LibreChat's client sends when signed out", "undefined".into(), "shape"),
        ("garbage", "aaa.bbb.ccc".into(), "shape"),
        ("a dot after it", format!("{GENUINE_HS256}."), "shape"),
        ("three dots after it", format!("{GENUINE_HS256}..."), "shape"),
        ("a dot before it", format!(".{GENUINE_HS256}"), "shape"),
        ("a space in it", GENUINE_HS256.replacen('.', " .", 1), "shape"),
        ("five parts, as an encrypted token", "a.b.c.d.e".into(), "shape"),
        ("an array as payload", librechat("[1]"), "shape"),
        ("the claims in an array", librechat(format!("[\"{ANN}\",null,null,{}]", NOW + 900)), "shape"),
        ("a string as payload", librechat("\"x\""), "shape"),
        ("an empty payload", librechat(""), "shape"),
        ("something after the claims", librechat(format!("{ann}{ann}")), "shape"),
        ("a byte order mark", librechat(format!("\u{feff}{ann}")), "shape"),
        ("half a surrogate pair", librechat(ann.replace("\"ann\"", r#""\ud800""#)), "shape"),
        ("brackets without end", librechat("[".repeat(10_000)), "shape"),
        ("a deep list in a claim that nobody reads", with("x", &format!("{}{}", "[".repeat(4_000), "]".repeat(4_000))), "good"),
        ("a token of 1 MB", librechat(super::forge::ann(json!({ "username": "a".repeat(1_000_000) }))), "shape"),
        ("1 MB of dots", ".".repeat(1_000_000), "shape"),
        ("1 MB of letters", "a".repeat(1_000_000), "shape"),
    ]);
    let not_text = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(b"{\"id\":\"\xff\"}"));
    assert_eq!(refusal(&format!("{not_text}.AAAA")), "shape", "a payload that is not UTF-8");
}

#[test]
fn a_token_is_read_up_to_16_kib() {
    let named = |letters: usize| librechat(ann(json!({ "username": "a".repeat(letters) })));
    let letters = (16 * 1024 - named(0).len()) * 3 / 4;
    let (longest, too_long) = (named(letters - 1), named(letters + 2));
    assert!((16 * 1024 - 3..=16 * 1024).contains(&longest.len()), "just below the bound, not {}", longest.len());
    assert_eq!(refusal(&longest), "good");
    assert_eq!(refusal(&too_long), "shape");
}

#[test]
fn times() {
    let expired_and_forged = hs256(ann(json!({ "exp": NOW - 500 })), DASHBOARD);
    check(vec![
        ("expired", librechat(ann(json!({ "exp": NOW - 60 }))), "expired"),
        ("expired with a bad signature", expired_and_forged, "signature"),
        ("expired in 1970", with("exp", "0"), "expired"),
        (
            "expired, for an org that is not the issuer's",
            hs256(dana(json!({ "exp": 0, "organization": { "id": "beta" } })), DASHBOARD),
            "foreign_org",
        ),
        ("no end", librechat(ann(json!({ "exp": null }))), "shape"),
        ("an end that is null", with("exp", "null"), "shape"),
        ("an end that is text", with("exp", "\"1795199900\""), "shape"),
        ("an end with a fraction", with("exp", "1795199900.5"), "shape"),
        ("an end with an exponent", with("exp", "18e8"), "shape"),
        ("an end before 1970", with("exp", "-1"), "shape"),
        ("an end after all calendars", with("exp", "253402300800"), "shape"),
        ("an end of 64 bits", with("exp", "18446744073709551615"), "shape"),
        ("an end of more than 64 bits", with("exp", "18446744073709551616"), "shape"),
        ("an end beyond all floats", with("exp", "1e999"), "shape"),
        ("an end that is an object", with("exp", "{}"), "shape"),
        ("not before the future", with("nbf", &(NOW + 61).to_string()), "not_yet_valid"),
        ("not before within the leeway", with("nbf", &(NOW + 60).to_string()), "good"),
        ("not before text", with("nbf", "\"x\""), "shape"),
        ("not before null", with("nbf", "null"), "shape"),
        ("issued in the future", with("iat", &(NOW + 61).to_string()), "not_yet_valid"),
        ("issued within the leeway", with("iat", &(NOW + 60).to_string()), "good"),
        ("issued at text", with("iat", "\"x\""), "shape"),
        ("an issuer's, expired", hs256(dana(json!({ "exp": NOW - 60 })), DASHBOARD), "expired"),
        ("an issuer's, without end", hs256(dana(json!({ "exp": null })), DASHBOARD), "shape"),
        ("an issuer's, not before the future", hs256(dana(json!({ "nbf": NOW + 61 })), DASHBOARD), "not_yet_valid"),
        ("an issuer's, issued in the future", hs256(dana(json!({ "iat": NOW + 61 })), DASHBOARD), "not_yet_valid"),
    ]);
}

#[test]
fn shapes_of_librechats_tokens() {
    check(vec![
        ("an id of 23 digits", with("id", &format!("\"{}\"", &ANN[1..])), "shape"),
        ("an id of 25 digits", with("id", &format!("\"{ANN}0\"")), "shape"),
        ("an id in upper case", with("id", &format!("\"{}\"", ANN.to_uppercase())), "shape"),
        ("an id that is a query", with("id", r#"{"$ne":null}"#), "shape"),
        ("an id that is a list", with("id", &format!("[\"{ANN}\"]")), "shape"),
        ("an id that is null", with("id", "null"), "shape"),
        ("an id with a line end", with("id", &format!("\"{}\\n\"", &ANN[1..])), "shape"),
        ("no id", librechat(ann(json!({ "id": null }))), "shape"),
        ("a second factor that is still owed", librechat(json!({ "userId": ANN, "twoFAPending": true, "exp": NOW + 300 })), "shape"),
        ("a refresh token under the same secret", librechat(json!({ "id": ANN, "sessionId": ANN, "exp": NOW + 300 })), "shape"),
        ("an agents' trigger", with("scope", "\"agent_trigger\""), "shape"),
        ("a scope of null", with("scope", "null"), "shape"),
        ("an audience", with("aud", "\"somebody\""), "audience"),
        ("another's iss", with("iss", "\"https://elsewhere.example\""), "shape"),
        ("an iss that only looks like ours", with("iss", "\"Tollgate\""), "shape"),
        ("an empty iss", with("iss", "\"\""), "shape"),
        ("an iss of null", with("iss", "null"), "shape"),
        ("several iss", with("iss", r#"["tollgate"]"#), "shape"),
        ("an issuer's iss under LibreChat's secret", with("iss", "\"https://dashboard.example\""), "signature"),
        ("an organization under LibreChat's secret", with("organization", r#"{"id":"acme"}"#), "signature"),
        ("an organization of null", with("organization", "null"), "signature"),
        ("ours, with an organization", librechat(ann(json!({ "iss": "tollgate", "organization": { "id": "acme" } }))), "shape"),
        ("ours, for an org that does not exist", librechat(ann(json!({ "iss": "tollgate", "org": "delta" }))), "foreign_org"),
        ("ours, for an org of the wrong type", librechat(ann(json!({ "iss": "tollgate", "org": ["acme"] }))), "shape"),
        ("ours, under an issuer's secret", hs256(ann(json!({ "iss": "tollgate", "org": "acme" })), DASHBOARD), "signature"),
        ("two ids", with("id", &format!("\"{ANN}\",\"id\":\"{ANN}\"")), "shape"),
        ("two ids, one of them escaped", with("id", &format!("\"{ANN}\",\"\\u0069d\":\"{ANN}\"")), "shape"),
        ("two ends", with("exp", &format!("1,\"exp\":{}", NOW + 900)), "shape"),
        ("two iss", with("iss", r#""x","iss":"tollgate""#), "shape"),
    ]);
}

#[test]
fn shapes_of_org_scoped_tokens() {
    let by = |secret: &[u8], changes| hs256(dana(changes), secret);
    let dashboard = |changes| by(DASHBOARD, changes);
    let organization = |organization| dashboard(json!({ "organization": organization }));
    let cap = |cap| organization(json!({ "id": "acme", "librechat_config": { "max_tokens": cap } }));
    let unnamed = |secret: &[u8], org: &str| by(secret, json!({ "iss": null, "organization": { "id": org } }));
    let twice = |claim: &str| dana(json!({})).to_string().replacen('{', &format!("{{{claim},"), 1);
    check(vec![
        ("no sub", dashboard(json!({ "sub": null })), "shape"),
        ("no e-mail address", dashboard(json!({ "email": null })), "shape"),
        ("a sub that is a number", dashboard(json!({ "sub": 7 })), "shape"),
        ("no organization", dashboard(json!({ "organization": null })), "shape"),
        ("an organization that is its id", organization(json!("acme")), "shape"),
        ("an organization that is a list", organization(json!(["acme"])), "shape"),
        ("an organization without id", organization(json!({ "name": "acme" })), "shape"),
        ("a cap below zero", cap(json!(-1)), "shape"),
        ("a cap with a fraction", cap(json!(1.5)), "shape"),
        ("a cap that is text", cap(json!("1000")), "shape"),
        ("a cap that cannot be read", organization(json!({ "id": "acme", "librechat_config": "max_tokens=5" })), "shape"),
        ("another issuer's org", organization(json!({ "id": "beta" })), "foreign_org"),
        ("an org that does not exist", organization(json!({ "id": "delta" })), "foreign_org"),
        ("an org in another case", organization(json!({ "id": "Acme" })), "foreign_org"),
        ("an org with a space", organization(json!({ "id": "acme " })), "foreign_org"),
        ("an iss that nobody has", dashboard(json!({ "iss": "https://elsewhere.example" })), "issuer"),
        ("an iss with a slash more", dashboard(json!({ "iss": "https://dashboard.example/" })), "issuer"),
        ("an iss for an issuer that has none", by(PARTNER, json!({ "iss": "partner", "organization": { "id": "beta" } })), "issuer"),
        ("no iss from an issuer that has one", unnamed(DASHBOARD, "acme"), "signature"),
        ("no iss, first of two issuers", unnamed(PARTNER, "beta"), "good"),
        ("no iss, second of two issuers", unnamed(INTRANET, "acme"), "good"),
        ("no iss, the other's org", unnamed(PARTNER, "acme"), "foreign_org"),
        ("no iss, the other's org, the other way round", unnamed(INTRANET, "beta"), "foreign_org"),
        ("no iss, no org", by(PARTNER, json!({ "iss": null, "organization": {} })), "shape"),
        ("an audience where none is configured", dashboard(json!({ "aud": "tollgate" })), "audience"),
        ("nobody as audience where none is configured", dashboard(json!({ "aud": [] })), "audience"),
        ("an audience that is an object", dashboard(json!({ "aud": { "tollgate": 1 } })), "shape"),
        ("a scope", dashboard(json!({ "scope": "agent_trigger" })), "shape"),
        ("a user that is no id", dashboard(json!({ "librechat_user_id": "me" })), "shape"),
        ("a user in upper case", dashboard(json!({ "librechat_user_id": ANN.to_uppercase() })), "shape"),
        ("a user that is a query", dashboard(json!({ "librechat_user_id": { "$ne": 1 } })), "shape"),
        ("a LibreChat id beside", dashboard(json!({ "id": ANN })), "good"),
        ("two subs", hs256(twice(r#""sub":"ext-8""#), DASHBOARD), "shape"),
        ("two organizations", hs256(twice(r#""organization":{"id":"beta"}"#), DASHBOARD), "shape"),
        ("two roles", hs256(twice(r#""role":"user""#), DASHBOARD), "shape"),
        (
            "two ids in the organization",
            hs256(dana(json!({})).to_string().replace(r#""id":"acme""#, r#""id":"acme","id":"acme""#), DASHBOARD),
            "shape",
        ),
    ]);
}

#[test]
fn where_no_issuer_is_configured_no_org_scoped_token_is_good() {
    let settings = VerifierSettings { issuers: Vec::new(), ..settings() };
    let verifier = Verifier::new(settings, directory()).unwrap();
    for claims in [dana(json!({})), dana(json!({ "iss": null }))] {
        for secret in [LIBRECHAT, DASHBOARD] {
            let refused = verifier.verify(&hs256(&claims, secret), at(NOW)).map(|_| ());
            assert_eq!(refused, Err(TokenError::BadIssuer), "the claims {claims}");
        }
    }
}

#[test]
fn a_configured_audience_must_be_in_the_token() {
    let mut settings = settings();
    settings.issuers[0].audience = Some("tollgate".into());
    let verifier = Verifier::new(settings, directory()).unwrap();
    for aud in [json!(null), json!("Tollgate"), json!("tollgate2"), json!([]), json!(["a", "b"])] {
        let refused = verifier.verify(&hs256(dana(json!({ "aud": aud })), DASHBOARD), at(NOW)).map(|_| ());
        assert_eq!(refused, Err(TokenError::BadAudience), "the audience {aud}");
    }
}

#[test]
fn a_remembered_signature_is_its_issuers_only() {
    let mut settings = settings();
    settings.issuers.insert(0, IssuerSettings { keys: rsa_pem(RSA_PUBLIC), ..issuer("twin", b"", &["beta"]) });
    let error = Verifier::new(settings, directory()).map(|_| ()).unwrap_err();
    assert_eq!(error, SettingsError::SharedKey { issuer: "rsa".into(), other: "twin".into() });

    let verifier = verifier();
    assert!(verifier.verify(GENUINE_RS256, at(NOW)).is_ok(), "it is remembered");
    let other = GENUINE_RS256.replacen("IKpq", "IKpr", 1);
    assert_ne!(other, GENUINE_RS256, "the test changes the signature");
    assert_eq!(verifier.verify(&other, at(NOW)).map(|_| ()), Err(TokenError::BadSignature), "another token is not remembered");
}

#[test]
fn settings_that_would_not_be_safe() {
    let refused = |change: &dyn Fn(&mut VerifierSettings<'static>)| {
        let mut settings = settings();
        change(&mut settings);
        Verifier::new(settings, directory()).map(|_| ()).unwrap_err().to_string()
    };
    let with_keys = |keys: IssuerKeys| refused(&move |settings| settings.issuers[0].keys = keys.clone());
    let cannot = |why: &str| format!("the key of issuer \"dashboard\" cannot be used: {why}");
    let secret = |secret: &[u8]| with_keys(IssuerKeys::Secrets(vec![secret.to_vec()]));
    let pem = |pem: &str| with_keys(rsa_pem(pem));

    assert_eq!(secret(b""), cannot("it is shorter than 32 bytes"));
    assert_eq!(secret(&[b'x'; 31]), cannot("it is shorter than 32 bytes"));
    assert_eq!(secret(RSA_PUBLIC.as_bytes()), cannot("it is a PEM key and no shared secret"));
    assert_eq!(pem(""), cannot("it does not begin as a PEM public key"));
    assert_eq!(pem(&RSA_PUBLIC.replace("PUBLIC", "PRIVATE")), cannot("it does not begin as a PEM public key"));
    assert_eq!(pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), cannot("it is no RSA public key"));
    assert_eq!(pem(SMALL_RSA_PUBLIC), cannot("it has fewer than 2048 bits"));

    let shared = "the key of issuer \"dashboard\" is also that of \"LibreChat\"";
    assert_eq!(secret(LIBRECHAT), shared);
    assert_eq!(secret(&[LIBRECHAT, b"\0\0"].concat()), shared, "HMAC pads a secret with zeros");
    assert_eq!(secret(PARTNER), "the key of issuer \"partner\" is also that of \"dashboard\"");

    assert_eq!(refused(&|settings| settings.librechat_secret = b""), "LibreChat's JWT secret is empty");
    assert_eq!(refused(&|settings| settings.leeway += std::time::Duration::from_millis(1)), "the leeway is longer than 60 seconds");
    assert_eq!(refused(&|settings| settings.default_org = Some("delta".into())), "the default org \"delta\" is not one of the orgs");
    let expected = "issuer \"partner\" names org \"delta\", which is not one of the orgs";
    assert_eq!(refused(&|settings| settings.issuers[1].orgs.push("delta".into())), expected);
    assert_eq!(refused(&|settings| settings.issuers[1].name = "dashboard".into()), "two issuers are called \"dashboard\"");
    assert!(refused(&|settings| settings.issuers[0].issuer = Some("tollgate".into())).contains("marks tokens that Tollgate mints"));
}

#[test]
fn no_secret_is_ever_printed() {
    let printed = format!("{:?} {:?} {:?}", verifier(), settings().issuers, crate::identity::Minter::new(LIBRECHAT));
    for secret in [LIBRECHAT, DASHBOARD, PARTNER, INTRANET] {
        let text = std::str::from_utf8(secret).unwrap();
        assert!(!printed.contains(text) && !printed.contains(&format!("{secret:?}")), "a secret is printed");
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_calmly(text in any::<String>()) {
        prop_assert_ne!(refusal(&text), "good");
    }

    #[test]
    fn any_parts_are_refused_calmly(
        header in prop_oneof![Just(br#"{"alg":"HS256"}"#.to_vec()), any::<Vec<u8>>()],
        payload in any::<Vec<u8>>(),
        signature in any::<Vec<u8>>(),
    ) {
        let [header, payload, signature] = [header, payload, signature].map(|part| URL_SAFE_NO_PAD.encode(part));
        prop_assert_ne!(refusal(&format!("{header}.{payload}.{signature}")), "good");
    }

    #[test]
    fn any_signed_claims_are_judged_calmly(
        claims in prop::collection::btree_map("id|iss|sub|org|exp|nbf|iat|aud|organization|email|scope|[a-z]{0,3}", "[0-9]{1,20}|null|true|\"[a-z]{0,4}\"|\\{\\}|\\[\\]|-1|1e9", 0..8),
        secret in prop::sample::select(vec![LIBRECHAT, DASHBOARD, PARTNER]),
    ) {
        let claims: Vec<String> = claims.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        prop_assert_ne!(refusal(&hs256(format!("{{{}}}", claims.join(",")), secret)), "good", "no such claims make a person");
    }

    #[test]
    fn a_good_token_with_any_byte_changed_is_refused(
        token in prop::sample::select(vec![GENUINE_HS256.to_owned(), GENUINE_RS256.to_owned(), hs256(dana(json!({})), DASHBOARD)]),
        position in any::<prop::sample::Index>(),
        byte in 0_u8..128,
    ) {
        let mut bytes = token.clone().into_bytes();
        let position = position.index(bytes.len());
        prop_assume!(bytes[position] != byte);
        bytes[position] = byte;
        prop_assert_ne!(refusal(std::str::from_utf8(&bytes).unwrap()), "good", "byte {} became {}", position, byte);
    }

    #[test]
    fn a_good_token_cut_or_lengthened_is_refused(
        token in prop::sample::select(vec![GENUINE_HS256.to_owned(), GENUINE_RS256.to_owned()]),
        position in any::<prop::sample::Index>(),
        more in "[A-Za-z0-9._=-]{1,4}",
    ) {
        let position = position.index(token.len());
        prop_assert_ne!(refusal(&token[..position]), "good");
        prop_assert_ne!(refusal(&format!("{}{more}{}", &token[..position], &token[position..])), "good");
    }
}
