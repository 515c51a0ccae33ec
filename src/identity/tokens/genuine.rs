//! Good tokens, and what is made of them.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::forge::*;
use super::*;
use crate::identity::Minter;
use crate::identity::accounts::LibreChatUser;

fn librechat(verifier: &Verifier, token: &str) -> Identity {
    match verifier.verify(token, at(NOW)) {
        Ok(Verified::LibreChat(identity)) => identity,
        other => panic!("a good LibreChat token gave {other:?}"),
    }
}

fn org_scoped(verifier: &Verifier, token: &str) -> OrgScoped {
    match verifier.verify(token, at(NOW)) {
        Ok(Verified::OrgScoped(person)) => *person,
        other => panic!("a good org-scoped token gave {other:?}"),
    }
}

fn org_of(identity: &Identity) -> Option<&str> {
    identity.org.as_deref().map(|org| &*org.id)
}

fn verifier_with(change: impl FnOnce(&mut VerifierSettings<'static>)) -> Verifier {
    let mut settings = settings();
    change(&mut settings);
    Verifier::new(settings, directory()).unwrap()
}

#[test]
fn librechats_token_proves_its_user() {
    let identity = librechat(&verifier(), GENUINE_HS256);
    assert_eq!((&*identity.user, identity.name.as_deref(), &*identity.role), (ANN, Some("ann"), "user"));
    assert_eq!((org_of(&identity), identity.plan.as_deref(), identity.org_tokens_per_month), (None, None, None));
}

#[test]
fn the_org_of_a_librechat_user_is_the_email_domains_if_trusted_else_the_default() {
    let trusting = verifier_with(|settings| settings.trust_email_domains = true);
    let with_default = verifier_with(|settings| settings.default_org = Some("beta".into()));
    let with_both = verifier_with(|settings| {
        settings.trust_email_domains = true;
        settings.default_org = Some("beta".into());
    });
    let stranger = ann(json!({ "email": "ann@elsewhere.test" }));
    let nameless = ann(json!({ "email": null }));
    let cases = [
        (&trusting, ann(json!({})), Some("acme")),
        (&trusting, stranger.clone(), None),
        (&trusting, nameless.clone(), None),
        (&with_default, ann(json!({})), Some("beta")),
        (&with_both, ann(json!({})), Some("acme")),
        (&with_both, stranger, Some("beta")),
        (&with_both, nameless, Some("beta")),
        // Only our own tokens may name an org or a role.
        (&with_both, ann(json!({ "org": "gamma", "role": "super_admin" })), Some("acme")),
    ];
    for (verifier, claims, expected) in cases {
        let identity = librechat(verifier, &hs256(&claims, LIBRECHAT));
        assert_eq!((org_of(&identity), &*identity.role), (expected, "user"), "org and role of {claims}");
    }
}

#[test]
fn a_minted_token_names_its_org_and_role() {
    let verifier = verifier_with(|settings| {
        settings.trust_email_domains = true;
        settings.default_org = Some("beta".into());
    });
    let identity = librechat(&verifier, &hs256(ann(json!({ "iss": "tollgate", "org": "gamma", "role": "admin" })), LIBRECHAT));
    assert_eq!((org_of(&identity), &*identity.role), (Some("gamma"), "admin"));
    let identity = librechat(&verifier, &hs256(ann(json!({ "iss": "tollgate" })), LIBRECHAT));
    assert_eq!(org_of(&identity), None, "a token minted for a person without an org gives none, whatever the e-mail address");
}

#[test]
fn what_is_minted_is_accepted_until_its_end() {
    let verifier = verifier();
    let minter = Minter::new(LIBRECHAT);
    let own = minter.mint_own_call(ANN, Some("acme"), at(NOW));
    let identity = librechat(&verifier, &own);
    assert_eq!((&*identity.user, org_of(&identity), identity.plan.as_deref()), (ANN, Some("acme"), Some("professional")));
    assert!(verifier.verify(&own, at(NOW + 179)).is_ok(), "it lives two minutes and the leeway");
    assert!(matches!(verifier.verify(&own, at(NOW + 180)), Err(TokenError::Expired { .. })), "and no longer");

    let user = LibreChatUser { id: ANN.into(), username: Some("dana".into()), provider: "local".into(), email: "dana@acme.test".into() };
    let person = org_scoped(&verifier, &hs256(dana(json!({})), DASHBOARD)).identity_as(ANN.into(), None);
    for (until, lives) in [(NOW + 300, 300), (NOW + 9_000, 900), (NOW - 30, 10)] {
        let swapped = minter.mint_swapped(&user, &person, at(until), at(NOW));
        let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(&swapped).unwrap();
        let expected = json!({
            "id": ANN, "username": "dana", "provider": "local", "email": "dana@acme.test",
            "iss": "tollgate", "org": "acme", "role": "admin", "iat": NOW, "exp": NOW + lives,
        });
        assert_eq!(claims, expected, "a token that stands in until {until}");
        let identity = librechat(&verifier, &swapped);
        assert_eq!((&*identity.user, org_of(&identity), &*identity.role), (ANN, Some("acme"), "admin"));
    }
}

#[test]
fn an_org_scoped_token_proves_its_person_and_org() {
    let person = org_scoped(&verifier(), &hs256(dana(json!({ "librechat_user_id": ANN })), DASHBOARD));
    assert_eq!((&*person.issuer, &*person.org.id, &*person.role), ("dashboard", "acme", "admin"));
    assert_eq!((person.plan.as_deref(), person.org_tokens_per_month), (Some("enterprise"), Some(500_000)));
    assert_eq!((person.librechat_user_id.as_deref(), person.expires), (Some(ANN), at(NOW + 900)));
    assert_eq!((&*person.claims.sub, &*person.claims.email), ("ext-7", "dana@acme.test"));
    let identity = person.identity_as(ANN.into(), None);
    assert_eq!((org_of(&identity), identity.name.as_deref(), identity.org_tokens_per_month), (Some("acme"), Some("dana"), Some(500_000)));
}

#[test]
fn an_rs256_token_is_good_and_its_header_is_not_followed() {
    let verifier = verifier();
    for time in ["first", "second, from memory"] {
        let person = org_scoped(&verifier, GENUINE_RS256);
        assert_eq!((&*person.issuer, &*person.org.id, &*person.claims.sub), ("rsa", "beta", "ext-7"), "the {time} time");
    }
    let expired = verifier.verify(GENUINE_RS256, at(1_795_202_660));
    assert!(matches!(expired, Err(TokenError::Expired { .. })), "a remembered signature does not outlive its token: {expired:?}");
}

#[test]
fn small_org_scoped_tokens_get_the_defaults() {
    let small = json!({ "sub": "1", "email": "dana@acme.test", "organization": { "id": "acme" }, "exp": NOW + 1 });
    let person = org_scoped(&verifier(), &hs256(small, INTRANET));
    assert_eq!((&*person.issuer, &*person.role, person.plan.as_deref()), ("intranet", "user", Some("professional")));
    assert_eq!((person.org_tokens_per_month, person.librechat_user_id), (None, None));
}

#[test]
fn roles_caps_and_nulls_of_org_scoped_tokens() {
    let verifier = verifier();
    for (role, expected) in [
        (json!("user"), "user"),
        (json!("super_admin"), "super_admin"),
        (json!("viewer"), "viewer"),
        (json!("Admin"), "user"),
        (json!("root"), "user"),
        (json!(["admin"]), "user"),
    ] {
        let person = org_scoped(&verifier, &hs256(dana(json!({ "role": role })), DASHBOARD));
        assert_eq!(&*person.role, expected, "the role {role}");
    }
    for (config, expected) in [
        (json!(null), None),
        (json!({}), None),
        (json!({ "max_tokens": null }), None),
        (json!({ "max_tokens": 0, "other": [1] }), Some(0)),
        (json!({ "max_tokens": u64::MAX }), Some((1 << 53) - 1)),
    ] {
        let organization = json!({ "id": "acme", "plan_type": null, "librechat_config": config });
        let person = org_scoped(&verifier, &hs256(dana(json!({ "organization": organization })), DASHBOARD));
        assert_eq!((person.org_tokens_per_month, person.plan.as_deref()), (expected, Some("professional")), "the configuration {config}");
    }
    let nulls = dana(json!({})).to_string().replace(r#""username":"dana""#, r#""username":null"#);
    assert_eq!(org_scoped(&verifier, &hs256(nulls, DASHBOARD)).identity_as(ANN.into(), None).name.as_deref(), Some("Dana Doe"));
}

#[test]
fn only_an_issuer_that_may_names_a_user() {
    let claims = dana(json!({ "iss": null, "librechat_user_id": ANN }));
    assert_eq!(org_scoped(&verifier(), &hs256(claims, INTRANET)).librechat_user_id, None);
    let claims = dana(json!({ "iss": null, "librechat_user_id": { "$ne": 1 } }));
    assert_eq!(org_scoped(&verifier(), &hs256(claims, INTRANET)).librechat_user_id, None, "what is not honoured is not read");
}

#[test]
fn an_audience_may_be_one_or_several() {
    let verifier = verifier_with(|settings| settings.issuers[0].audience = Some("tollgate".into()));
    for aud in [json!("tollgate"), json!(["other", "tollgate"])] {
        org_scoped(&verifier, &hs256(dana(json!({ "aud": aud })), DASHBOARD));
    }
}

#[test]
fn the_leeway_is_a_minute_at_both_ends() {
    let verifier = verifier();
    let token = hs256(ann(json!({ "nbf": NOW + 10 })), LIBRECHAT);
    for (now, good) in [(NOW - 51, false), (NOW - 50, true), (NOW + 959, true), (NOW + 960, false)] {
        assert_eq!(verifier.verify(&token, at(now)).is_ok(), good, "{} seconds after it was issued", now - NOW);
    }
}

#[test]
fn an_expired_token_says_whose_it_was() {
    let verifier = verifier_with(|settings| settings.default_org = Some("beta".into()));
    let whose = |token: &str| match verifier.verify(token, at(NOW + 5_000)) {
        Err(TokenError::Expired { whose }) => *whose.unwrap(),
        other => panic!("an expired token gave {other:?}"),
    };
    let expected = Whose { org: Some("beta".into()), user: Some(ANN.into()), name: Some("ann".into()), role: "user".into() };
    assert_eq!(whose(GENUINE_HS256), expected);
    let expected = Whose { org: Some("acme".into()), user: None, name: Some("dana".into()), role: "admin".into() };
    assert_eq!(whose(&hs256(dana(json!({ "librechat_user_id": ANN })), DASHBOARD)), expected);
}

#[test]
fn two_issuers_of_one_iss_are_told_apart_by_their_keys() {
    let verifier = verifier_with(|settings| {
        let old = IssuerSettings { issuer: settings.issuers[0].issuer.clone(), ..issuer("dashboard-old", &[b'k'; 40], &["acme"]) };
        settings.issuers.push(old);
    });
    assert_eq!(&*org_scoped(&verifier, &hs256(dana(json!({})), DASHBOARD)).issuer, "dashboard");
    assert_eq!(&*org_scoped(&verifier, &hs256(dana(json!({})), &[b'k'; 40])).issuer, "dashboard-old");
}

#[test]
fn recorded_tokens_are_good_at_the_time_of_their_recording() {
    const SECRET: &[u8] = b"16f8c0ef4a5d391b26034086c628469d3f9f497f08163ab9b40137092f2909ef";
    let folder = std::env::var_os("TOLLGATE_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    if !folder.is_dir() {
        eprintln!("skipped: no recordings at {}", folder.display());
        return;
    }
    let verifier = verifier_with(|settings| settings.librechat_secret = SECRET);
    let mut good = 0;
    for file in ["librechat-0.8.8-rc1", "librechat-0.8.1"].iter().flat_map(|version| folder.join(version).read_dir().unwrap()) {
        let path = file.unwrap().path();
        let exchange: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let at: Timestamp = exchange["at"].as_str().unwrap().parse().unwrap();
        let headers = &exchange["request"]["headers"];
        if let Some(token) = headers["Authorization"].as_str().and_then(|value| value.strip_prefix("Bearer ")) {
            let judged = verifier.verify(token, at);
            assert_eq!(judged.is_ok(), token != "aaa.bbb.ccc", "{}: {judged:?}", path.display());
            good += usize::from(judged.is_ok());
        }
        let cookie = headers["Cookie"].as_str().unwrap_or_default();
        if let Some(refresh) = cookie.split("; ").find_map(|pair| pair.strip_prefix("refreshToken=")) {
            assert!(verifier.verify(refresh, at).is_err(), "{}: a refresh token is no access token", path.display());
        }
    }
    assert!(good >= 90, "only {good} recorded tokens were found and good");
}
