//! Hostile tokens against issuers with public keys, published or configured, whose claims are mapped. Those against shared
//! secrets are in `attacks`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::forge::*;
use super::signer::{Signer, key_set};
use super::*;

/// An issuer of each kind, and who signs for it.
struct Place {
    verifier: Verifier,
    rsa: Signer,
    p256: Signer,
    ed25519: Signer,
    stranger: Signer,
    /// Signs for `https://pem.example`, with a configured key.
    pem: Signer,
}

const IDP: &str = "https://idp.example/realms/acme";

impl Place {
    fn new() -> Self {
        let [rsa, p256, ed25519] =
            [("RS256", "rsa"), ("ES256", "p256"), ("EdDSA", "ed")].map(|(algorithm, kid)| Signer::new(algorithm, kid));
        let (stranger, pem) = (Signer::new("ES256", "p256"), Signer::new("ES256", "pem"));
        let all = vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
        let mut settings = settings();
        settings.issuers.push(IssuerSettings {
            issuer: Some(IDP.into()),
            audience: Some("tollgate".into()),
            keys: IssuerKeys::Published(all, "http://127.0.0.1:1/keys".into()),
            claims: Mapping { roles: Some([("chat-admins".to_owned(), "admin".to_owned())].into()), ..Preset::Keycloak.mapping() },
            may_name_users: true,
            ..issuer("idp", b"", &["acme", "beta"])
        });
        settings.issuers.push(IssuerSettings {
            issuer: Some("https://pem.example".into()),
            keys: IssuerKeys::Pem(vec![Algorithm::Es256], vec![pem.pem()]),
            claims: Mapping { org: OrgFrom::Fixed("gamma".into()), ..Mapping::default() },
            ..issuer("pem", b"", &["gamma"])
        });
        let verifier = Verifier::new(settings, directory()).unwrap();
        // A secret among published keys, under a name of its own, is known to everybody.
        let mut published: Value = serde_json::from_str(&key_set(&[&rsa, &p256, &ed25519])).unwrap();
        let secret = URL_SAFE_NO_PAD.encode([b's'; 32]);
        published["keys"].as_array_mut().unwrap().push(json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": secret}));
        verifier.key_sets().next().unwrap().hold(&published.to_string());
        Self { verifier, rsa, p256, ed25519, stranger, pem }
    }

    fn refusal(&self, token: &str) -> &'static str {
        self.verifier.verify(token, at(NOW)).map_or_else(|error| error.reason(), |_| "good")
    }

    #[track_caller]
    fn check(&self, cases: &[(&str, String, &str)]) -> usize {
        for (what, token, expected) in cases {
            assert_eq!(self.refusal(token), *expected, "{what}");
        }
        cases.iter().filter(|(.., expected)| *expected != "good").count()
    }
}

/// Erin's token with this header.
fn with_header(header: &Value, signer: &Signer) -> String {
    signer.forge(&header.to_string(), &erin(json!({})).to_string())
}

/// The claims of the issuer's token for Erin of `acme`, with these put in or over, and those of null taken out.
fn erin(changes: Value) -> Value {
    let mut claims = json!({
        "iss": IDP, "aud": ["account", "tollgate"], "sub": "f1c4f64e", "typ": "Bearer", "azp": "app", "scope": "openid email",
        "email": "erin@acme.test", "email_verified": true, "name": "Erin", "preferred_username": "erin", "organization": ["acme"],
        "realm_access": {"roles": ["offline_access", "chat-admins"]}, "iat": NOW, "exp": NOW + 300,
    });
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (name, value) in changes {
        if value.is_null() { _ = claims.as_object_mut().unwrap().remove(&name) } else { claims[name] = value }
    }
    claims
}

fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn algorithms_keys_and_signatures() {
    let place = Place::new();
    let Place { rsa, p256, ed25519, stranger, pem, .. } = &place;
    let claims = erin(json!({})).to_string();
    let good = p256.sign(&erin(json!({})));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let signed = |signature: &[u8]| format!("{message}.{}", part(signature));
    let unsigned = |header: &str| format!("{}.{}.", part(header), part(&claims));
    let with_key = |name: &str, key: Value| with_header(&json!({"alg": "ES256", "kid": "evil", name: key}), stranger);
    // The order of P-256, as r and as s.
    let order = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"[at..at + 2], 16).unwrap());
    let order: Vec<u8> = order.collect();
    let one = [[0; 31].as_slice(), &[1]].concat();
    let fixed = pem.sign(&json!({"iss": "https://pem.example", "sub": "1", "email": "fay@gamma.test", "exp": NOW + 9}));
    let refused = place.check(&[
        ("RS256", rsa.sign(&erin(json!({}))), "good"),
        ("ES256", good.clone(), "good"),
        ("EdDSA", ed25519.sign(&erin(json!({}))), "good"),
        ("a configured key", fixed, "good"),
        ("no name of a key", with_header(&json!({"alg": "ES256"}), p256), "good"),
        ("none", unsigned(r#"{"alg":"none"}"#), "algorithm"),
        ("none, with a good signature", with_header(&json!({"alg": "none", "kid": "p256"}), p256), "algorithm"),
        ("nOnE", unsigned(r#"{"alg":"nOnE","kid":"p256"}"#), "algorithm"),
        ("an algorithm that is a list", p256.forge(r#"{"alg":["ES256"]}"#, &claims), "shape"),
        ("an algorithm with a space", with_header(&json!({"alg": "ES256 "}), p256), "algorithm"),
        ("an algorithm in small letters", with_header(&json!({"alg": "es256"}), p256), "algorithm"),
        ("HS256 with the RSA key's PEM as the secret", hs256(&claims, rsa.pem().as_bytes()), "algorithm"),
        ("HS256 with the EC key's PEM as the secret", hs256(&claims, p256.pem().as_bytes()), "algorithm"),
        ("HS256 with the published key as the secret", hs256(&claims, rsa.jwk().to_string().as_bytes()), "algorithm"),
        ("HS256 with the published secret", forge(r#"{"alg":"HS256","kid":"oct"}"#, &claims, &[b's'; 32]), "algorithm"),
        ("the published secret, called ES256", forge(r#"{"alg":"ES256","kid":"oct"}"#, &claims, &[b's'; 32]), "unknown_kid"),
        ("RS256 under the name of the EC key", with_header(&json!({"alg": "RS256", "kid": "p256"}), rsa), "signature"),
        ("ES256 under the name of the RSA key", with_header(&json!({"alg": "ES256", "kid": "rsa"}), p256), "signature"),
        ("an RSA signature called ES256", with_header(&json!({"alg": "ES256", "kid": "p256"}), rsa), "signature"),
        ("an EC signature called EdDSA", with_header(&json!({"alg": "EdDSA", "kid": "ed"}), p256), "signature"),
        ("PS256", with_header(&json!({"alg": "PS256", "kid": "rsa"}), rsa), "algorithm"),
        ("RS512", with_header(&json!({"alg": "RS512", "kid": "rsa"}), rsa), "algorithm"),
        ("ES384", with_header(&json!({"alg": "ES384", "kid": "p256"}), p256), "algorithm"),
        ("a stranger under a known name", stranger.sign(&erin(json!({}))), "signature"),
        ("a stranger without a name", with_header(&json!({"alg": "ES256"}), stranger), "unknown_kid"),
        ("another issuer's key", pem.sign(&erin(json!({}))), "unknown_kid"),
        (
            "the issuer's key for another issuer",
            p256.sign(&json!({"iss": "https://pem.example", "sub": "1", "email": "a@b.test", "exp": NOW + 9})),
            "signature",
        ),
        ("RS256 for an issuer of ES256", rsa.sign(&json!({"iss": "https://pem.example", "sub": "1", "exp": NOW + 9})), "algorithm"),
        ("a key in the header", with_key("jwk", stranger.jwk()), "unknown_kid"),
        ("an address of keys in the header", with_key("jku", json!("https://evil.example/keys")), "unknown_kid"),
        ("an address of a certificate in the header", with_key("x5u", json!("https://evil.example/cert")), "unknown_kid"),
        ("a certificate in the header", with_key("x5c", json!(["MIIB"])), "unknown_kid"),
        ("the fingerprint of a certificate", with_key("x5t", json!("AAAA")), "unknown_kid"),
        ("a path as a name", with_header(&json!({"alg": "ES256", "kid": "../../../dev/null"}), stranger), "unknown_kid"),
        ("a query as a name", with_header(&json!({"alg": "ES256", "kid": "x' UNION SELECT 'secret'--"}), stranger), "unknown_kid"),
        ("a command as a name", with_header(&json!({"alg": "ES256", "kid": "key|sleep 10"}), stranger), "unknown_kid"),
        ("an address as a name", with_header(&json!({"alg": "ES256", "kid": "http://169.254.169.254/"}), stranger), "unknown_kid"),
        ("a name of 4 KB", with_header(&json!({"alg": "ES256", "kid": "k".repeat(4096)}), stranger), "unknown_kid"),
        ("an empty name", with_header(&json!({"alg": "ES256", "kid": ""}), p256), "unknown_kid"),
        ("a known name with a zero behind", with_header(&json!({"alg": "ES256", "kid": "p256\0"}), p256), "unknown_kid"),
        ("a known name in capitals", with_header(&json!({"alg": "ES256", "kid": "P256"}), p256), "unknown_kid"),
        ("a name that is a number", p256.forge(r#"{"alg":"ES256","kid":1}"#, &claims), "shape"),
        ("a name that is an object", p256.forge(r#"{"alg":"ES256","kid":{"$ne":null}}"#, &claims), "shape"),
        ("a name of null", p256.forge(r#"{"alg":"ES256","kid":null}"#, &claims), "shape"),
        ("two names", p256.forge(r#"{"alg":"ES256","kid":"x","kid":"p256"}"#, &claims), "shape"),
        ("two algorithms", p256.forge(r#"{"alg":"none","alg":"ES256","kid":"p256"}"#, &claims), "shape"),
        ("a critical extension", p256.forge(r#"{"alg":"ES256","kid":"p256","crit":["exp"],"exp":1}"#, &claims), "shape"),
        ("an unencoded payload", p256.forge(r#"{"alg":"ES256","kid":"p256","crit":["b64"],"b64":false}"#, &claims), "shape"),
        ("no critical extensions", p256.forge(r#"{"alg":"ES256","kid":"p256","crit":[]}"#, &claims), "shape"),
        ("r and s are 0", signed(&[0; 64]), "signature"),
        ("r is 0", signed(&[[0; 32].as_slice(), &one].concat()), "signature"),
        ("r and s are the order of the curve", signed(&[order.clone(), order.clone()].concat()), "signature"),
        ("r and s are 1", signed(&[one.clone(), one].concat()), "signature"),
        ("r and s are as large as can be", signed(&[0xff; 64]), "signature"),
        ("a signature in DER", signed(&[0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00]), "signature"),
        ("zeros before r and s", signed(&[[0; 32].as_slice(), &order].concat()), "signature"),
        ("an empty signature", signed(&[]), "signature"),
        (
            "an Ed25519 signature of zeros",
            {
                let token = ed25519.sign(&erin(json!({})));
                format!("{}.{}", token.rsplit_once('.').unwrap().0, part([0; 64]))
            },
            "signature",
        ),
        (
            "an RSA signature of zeros",
            {
                let token = rsa.sign(&erin(json!({})));
                format!("{}.{}", token.rsplit_once('.').unwrap().0, part([0; 256]))
            },
            "signature",
        ),
        (
            "an RSA signature of 1",
            {
                let token = rsa.sign(&erin(json!({})));
                format!("{}.{}", token.rsplit_once('.').unwrap().0, part([[0; 255].as_slice(), &[1]].concat()))
            },
            "signature",
        ),
        ("a padded signature", format!("{message}.{signature}="), "signature"),
        ("a signature in two lines", format!("{message}.{}\n{}", &signature[..40], &signature[40..]), "signature"),
        (
            "a signature that ends in other spare bits",
            {
                // The last of 86 characters says two bits; the other four are zero.
                let (head, last) = signature.split_at(85);
                let other = match last {
                    "A" => "B",
                    "Q" => "R",
                    "g" => "h",
                    _ => "x",
                };
                format!("{message}.{head}{other}")
            },
            "signature",
        ),
        (
            "another token's signature",
            {
                let other = p256.sign(&erin(json!({"sub": "other"})));
                format!("{message}.{}", other.rsplit_once('.').unwrap().1)
            },
            "signature",
        ),
    ]);
    assert!(refused >= 55, "{refused} hostile tokens");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn claims_that_are_mapped() {
    let place = Place::new();
    let by = |changes: Value| place.ed25519.sign(&erin(changes));
    let text = |claims: &str| place.ed25519.forge(r#"{"alg":"EdDSA","kid":"ed"}"#, claims);
    let twice = |member: &str| text(&erin(json!({})).to_string().replacen('{', &format!("{{{member},"), 1));
    let typ = |typ: &str| with_header(&json!({"alg": "EdDSA", "kid": "ed", "typ": typ}), &place.ed25519);
    let pem = |changes: Value| {
        let mut claims = json!({"iss": "https://pem.example", "sub": "1", "email": "fay@gamma.test", "exp": NOW + 9});
        changes.as_object().unwrap().iter().for_each(|(name, value)| claims[name] = value.clone());
        place.pem.sign(&claims)
    };
    let refused = place.check(&[
        ("the token that the others are made of", by(json!({})), "good"),
        ("an access token by its header", typ("at+jwt"), "good"),
        ("an ID token", by(json!({"typ": "ID"})), "shape"),
        ("a refresh token", by(json!({"typ": "Refresh"})), "shape"),
        ("an offline token", by(json!({"typ": "Offline"})), "shape"),
        ("a token of no kind", by(json!({"typ": null})), "shape"),
        ("a kind that is a list", by(json!({"typ": ["Bearer"]})), "shape"),
        ("a logout token by its header", typ("logout+jwt"), "shape"),
        ("a logout token by its events", by(json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}})), "shape"),
        ("a security event", typ("secevent+jwt"), "shape"),
        ("a proof of possession", typ("dpop+jwt"), "shape"),
        ("an authorization request", typ("oauth-authz-req+jwt"), "shape"),
        ("a token that is bound to a key", by(json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}})), "shape"),
        ("an ID token for another application", by(json!({"aud": "other-app"})), "audience"),
        ("for nobody", by(json!({"aud": []})), "audience"),
        ("without an audience", by(json!({"aud": null})), "audience"),
        ("an audience of null", twice_null("aud", &place), "shape"),
        ("an audience that only begins so", by(json!({"aud": "tollgate.evil.example"})), "audience"),
        ("an audience in capitals", by(json!({"aud": "TOLLGATE"})), "audience"),
        ("an audience with a space", by(json!({"aud": "tollgate "})), "audience"),
        ("audiences in one text", by(json!({"aud": "account tollgate"})), "audience"),
        ("an audience in a list in a list", by(json!({"aud": [["tollgate"]]})), "shape"),
        ("an audience among numbers", by(json!({"aud": [1, "tollgate"]})), "shape"),
        ("an audience that is an object", by(json!({"aud": {"0": "tollgate"}})), "shape"),
        ("an iss with a slash more", by(json!({"iss": format!("{IDP}/")})), "issuer"),
        ("an iss of another realm", by(json!({"iss": "https://idp.example/realms/master"})), "issuer"),
        ("an iss in capitals", by(json!({"iss": "https://IDP.example/realms/acme"})), "issuer"),
        ("an iss with a port", by(json!({"iss": "https://idp.example:443/realms/acme"})), "issuer"),
        ("an iss that goes up and down", by(json!({"iss": "https://idp.example/realms/x/../acme"})), "issuer"),
        ("an iss with a user", by(json!({"iss": "https://idp.example@evil.example/realms/acme"})), "issuer"),
        ("an iss in other letters", by(json!({"iss": "https://\u{456}dp.example/realms/acme"})), "issuer"),
        ("an iss over http", by(json!({"iss": "http://idp.example/realms/acme"})), "issuer"),
        ("no iss", by(json!({"iss": null})), "algorithm"),
        ("a list of iss", by(json!({"iss": [IDP]})), "shape"),
        ("our own iss", by(json!({"iss": "tollgate"})), "algorithm"),
        ("two iss", twice(r#""iss":"https://dashboard.example""#), "shape"),
        ("two subs, one of them escaped", twice(r#""s\u0075b":"root""#), "shape"),
        ("two members inside of a claim", text(&erin(json!({})).to_string().replace(r#""roles":["#, r#""roles":[],"roles":["#)), "shape"),
        ("two members of a claim that nobody reads", twice(r#""x":{"a":1,"a":2}"#), "shape"),
        ("brackets a thousand deep", twice(&format!(r#""x":{}{}"#, "[".repeat(1_000), "]".repeat(1_000))), "shape"),
        ("a sub of null", twice_null("sub", &place), "shape"),
        ("an empty sub", by(json!({"sub": ""})), "shape"),
        ("a sub of spaces", by(json!({"sub": "  "})), "shape"),
        ("a sub with a line end", by(json!({"sub": "f1c4f64e\n"})), "shape"),
        ("a sub of 300 letters", by(json!({"sub": "s".repeat(300)})), "shape"),
        ("a sub that is a query", by(json!({"sub": {"$gt": ""}})), "shape"),
        ("no e-mail address", by(json!({"email": null})), "shape"),
        ("an empty e-mail address, as of someone anonymous", by(json!({"email": ""})), "shape"),
        ("an e-mail address with a line end", by(json!({"email": "erin@acme.test\r\nBcc: x@y.test"})), "shape"),
        ("an e-mail address that is a list", by(json!({"email": ["erin@acme.test"]})), "shape"),
        ("an address that is not verified", by(json!({"email_verified": false})), "unverified_email"),
        ("an address of which nothing is said", by(json!({"email_verified": null})), "unverified_email"),
        ("an address verified by text", by(json!({"email_verified": "true"})), "good"),
        ("an address not verified by text", by(json!({"email_verified": "false"})), "unverified_email"),
        ("an address verified by yes", by(json!({"email_verified": "yes"})), "unverified_email"),
        ("an address verified by a list", by(json!({"email_verified": [true]})), "unverified_email"),
        ("an address verified by 2", by(json!({"email_verified": 2})), "unverified_email"),
        ("no org", by(json!({"organization": null})), "shape"),
        ("no orgs", by(json!({"organization": []})), "shape"),
        ("two orgs", by(json!({"organization": ["acme", "beta"]})), "shape"),
        ("two orgs as an object", by(json!({"organization": {"acme": {}, "beta": {}}})), "shape"),
        ("an org as an object", by(json!({"organization": {"beta": {"id": "42"}}})), "good"),
        ("an org as our own kind has it", by(json!({"organization": {"id": "acme"}})), "shape"),
        ("an org that is a number", by(json!({"organization": 1})), "shape"),
        ("an organization and an org", by(json!({"org": "acme"})), "shape"),
        ("an organization and another org", by(json!({"org": "beta"})), "shape"),
        ("an organization and an org of null", twice(r#""org":null"#), "shape"),
        ("an org that the issuer may not speak for", by(json!({"organization": ["gamma"]})), "foreign_org"),
        ("an org that does not exist", by(json!({"organization": ["delta"]})), "foreign_org"),
        ("an org in capitals", by(json!({"organization": ["ACME"]})), "foreign_org"),
        ("an org that looks like it", by(json!({"organization": ["\u{430}cme"]})), "foreign_org"),
        ("a user that is no id", by(json!({"librechat_user_id": "../admin"})), "shape"),
        ("realm access that is a list", by(json!({"realm_access": ["chat-admins"]})), "good"),
        ("expired", by(json!({"exp": NOW - 60})), "expired"),
        ("a clock that is five minutes behind", by(json!({"exp": NOW - 300, "iat": NOW - 600})), "expired"),
        ("a clock that is five minutes ahead", by(json!({"iat": NOW + 300, "exp": NOW + 600})), "not_yet_valid"),
        ("not before five minutes from now", by(json!({"nbf": NOW + 300})), "not_yet_valid"),
        ("a clock that is a minute ahead", by(json!({"iat": NOW + 60, "nbf": NOW + 60})), "good"),
        ("no end", by(json!({"exp": null})), "shape"),
        ("an end of 64 bits", by(json!({"exp": u64::MAX})), "shape"),
        ("an end with an exponent", text(&erin(json!({})).to_string().replace(&(NOW + 300).to_string(), "1e99")), "shape"),
        ("an end beyond all numbers", text(&erin(json!({})).to_string().replace(&(NOW + 300).to_string(), "1e999")), "shape"),
        ("an end that is text", by(json!({"exp": (NOW + 300).to_string()})), "shape"),
        ("an end below zero", by(json!({"exp": -1})), "shape"),
        ("a fixed org", pem(json!({})), "good"),
        ("a fixed org, and an organization", pem(json!({"organization": {"id": "gamma"}})), "shape"),
        ("a fixed org, and another organization", pem(json!({"organization": {"id": "acme"}})), "shape"),
        ("a fixed org, and an audience", pem(json!({"aud": "other"})), "audience"),
        ("a fixed org, and an address that is not verified", pem(json!({"email_verified": false})), "unverified_email"),
        ("a fixed org, and a scope", pem(json!({"scope": "agent_trigger"})), "shape"),
        ("a token of 17 KB", by(json!({"x": "x".repeat(17 * 1024)})), "shape"),
        ("an encrypted token", format!("{}.a.b.c.d", part(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)), "shape"),
        ("a token in a token", text(&format!("\"{}\"", by(json!({})))), "shape"),
        ("all claims in a list", text("[{}]"), "shape"),
    ]);
    assert!(refused >= 75, "{refused} hostile tokens");
}

/// Erin's claims with one of null, which is more than none.
fn twice_null(claim: &str, place: &Place) -> String {
    let text = erin(json!({ claim: null })).to_string().replacen('{', &format!("{{\"{claim}\":null,"), 1);
    place.ed25519.forge(r#"{"alg":"EdDSA","kid":"ed"}"#, &text)
}

#[test]
fn roles_and_orgs_are_what_the_configuration_says_they_are() {
    let place = Place::new();
    let person = |changes: Value| match place.verifier.verify(&place.ed25519.sign(&erin(changes)), at(NOW)) {
        Ok(Verified::OrgScoped(person)) => person,
        other => panic!("a good token gave {other:?}"),
    };
    for (roles, expected) in [
        (json!(["offline_access", "chat-admins"]), "admin"),
        (json!("chat-admins"), "admin"),
        (json!(["admin", "super_admin"]), "user"),
        (json!(["Chat-Admins"]), "user"),
        (json!([["chat-admins"]]), "user"),
        (json!({"chat-admins": true}), "user"),
        (json!([]), "user"),
        (json!(null), "user"),
    ] {
        assert_eq!(&*person(json!({"realm_access": {"roles": roles}})).role, expected, "the roles {roles}");
    }
    let erin = person(json!({"librechat_user_id": ANN}));
    assert_eq!(
        (&*erin.issuer, &*erin.org.id, erin.plan.as_deref(), erin.librechat_user_id.as_deref()),
        ("idp", "acme", Some("professional"), Some(ANN))
    );
    assert_eq!((erin.claims.username.as_deref(), erin.claims.name.as_deref()), (Some("erin"), Some("Erin")));

    let ours = Mapping { org_ids: Some([("org_1".to_owned(), "acme".to_owned())].into()), ..Preset::Auth0.mapping() };
    for (org, expected) in [("org_1", Ok("acme")), ("acme", Err(TokenError::ForeignOrg)), ("org_2", Err(TokenError::ForeignOrg))] {
        let claims = json!({"sub": "auth0|1", "email": "a@acme.test", "email_verified": true, "org_id": org});
        assert_eq!(ours.read(claims.as_object().unwrap()).map(|person| person.org), expected, "{org}");
    }
}

#[test]
fn paths_of_claims() {
    for (text, shown) in [
        ("sub", "sub"),
        ("app_metadata.org_id", "app_metadata.org_id"),
        ("cognito:username", "cognito:username"),
        ("\"https://acme.example/org\"", "\"https://acme.example/org\""),
        ("\"https://acme.example/org\".id", "\"https://acme.example/org\".id"),
        ("a.\"b c\".d", "a.\"b c\".d"),
        ("\"sub\"", "sub"),
    ] {
        assert_eq!(text.parse::<ClaimPath>().map(|path| path.to_string()), Ok(shown.to_owned()));
    }
    for text in ["", ".", "a.", ".a", "a..b", "https://acme.example/org", "a b", "\"a", "\"\"", "\"a\"b", "a\"b\"", "a.b.c.d.e.f.g.h.i"] {
        assert!(text.parse::<ClaimPath>().is_err(), "{text:?} is no path");
    }
}
