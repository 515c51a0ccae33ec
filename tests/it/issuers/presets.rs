//! A token as each provider makes it, by its public documentation, from the configuration to the person it stands for.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate::config::Config;
use tollgate::identity::{Directory, OrgScoped, TokenError, Verified, Verifier};

use super::publisher::{Publisher, Says};
use super::signer::{Signer, key_set};

fn now() -> i64 {
    "2026-11-20T09:00:00Z".parse::<Timestamp>().expect("a time").as_second()
}

/// A provider whose keys are published, and the verifier that knows it.
struct Provider {
    verifier: Verifier,
    signer: Signer,
    claims: Value,
}

impl Provider {
    /// A provider with these keys of the configuration, that signs claims like these.
    async fn new(algorithm: &str, issuer: &str, claims: Value) -> Self {
        let signer = Signer::new(algorithm, "4zTmBXqA3cs");
        let publisher = Publisher::start(Says::Keys(key_set(&[&signer]))).await;
        let file = format!(
            "[[orgs]]\nid = 'acme'\nplan = 'starter'\n[[orgs]]\nid = 'globex'\n[[issuers]]\nname = 'provider'\njwks_url = '{}'\n{issuer}\n",
            publisher.url
        );
        let environment = [("JWT_SECRET".to_owned(), "a-secret-of-librechat-0123456789".to_owned())];
        let config = Config::from_text(&file, "tollgate.toml", environment.into_iter()).unwrap_or_else(|errors| panic!("{errors}\n{file}"));
        let verifier = config.verifier(Arc::new(Directory::new(config.orgs.clone()))).expect("a verifier");
        for keys in verifier.key_sets() {
            tokio::spawn(keys.clone().keep_fresh());
        }
        let provider = Self { verifier, signer, claims };
        provider.judge(&provider.claims).await.expect("a good token");
        provider
    }

    async fn judge(&self, claims: &Value) -> Result<OrgScoped, TokenError> {
        let now = Timestamp::from_second(now()).expect("a time");
        match self.verifier.verify_or_ask(&self.signer.sign(claims), now).await? {
            Verified::OrgScoped(person) => Ok(*person),
            Verified::LibreChat(identity) => panic!("a token of a provider was taken for LibreChat's: {identity:?}"),
        }
    }

    /// The person of a token in which what stands at this path is something else.
    async fn with(&self, path: &str, value: Value) -> Result<OrgScoped, TokenError> {
        let mut claims = self.claims.clone();
        *claims.pointer_mut(path).unwrap_or_else(|| panic!("nothing stands at {path}")) = value;
        self.judge(&claims).await
    }

    /// Why a token is refused in which what stands at this path is something else.
    async fn refuses(&self, path: &str, value: Value) -> &'static str {
        self.with(path, value).await.map_or_else(|error| error.reason(), |_| "good")
    }
}

/// Person, e-mail address, name, user name, role, org and plan.
fn shown(person: &OrgScoped) -> [Option<&str>; 7] {
    let claims = &person.claims;
    let (name, username) = (claims.name.as_deref(), claims.username.as_deref());
    [Some(&claims.sub), Some(&claims.email), name, username, Some(&person.role), Some(&person.org.id), person.plan.as_deref()]
}

#[tokio::test]
async fn supabase() {
    let claims = json!({
        "iss": "https://abcdefghijklmnopqrst.supabase.co/auth/v1", "sub": "1b4b6c1a-9a3f-4f0f-8f0e-0a6b2f6f8f11", "aud": "authenticated",
        "exp": now() + 3600, "iat": now(), "email": "ada@acme.test", "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"], "org_id": "acme", "role": "owner", "plan": "professional"},
        "user_metadata": {
            "email": "ada@acme.test", "email_verified": true, "full_name": "Ada Lovelace", "avatar_url": "https://cdn.example/a.png",
            "sub": "1b4b6c1a-9a3f-4f0f-8f0e-0a6b2f6f8f11", "org_id": "globex", "role": "owner",
        },
        "role": "authenticated", "aal": "aal1", "amr": [{"method": "password", "timestamp": now()}],
        "session_id": "be3b1bd0-2b4c-4a9a-8b8e-1f7e2c1c5c39", "is_anonymous": false,
    });
    let issuer = "preset = 'supabase'\norgs = ['acme', 'globex']\nissuer = 'https://abcdefghijklmnopqrst.supabase.co/auth/v1'\n\
                  roles = { owner = 'admin' }\nmay_name_users = true";
    let provider = Provider::new("ES256", issuer, claims).await;
    let person = provider.judge(&provider.claims).await.expect("a person");
    let expected = ["1b4b6c1a-9a3f-4f0f-8f0e-0a6b2f6f8f11", "ada@acme.test", "Ada Lovelace", "", "admin", "acme", "professional"];
    assert_eq!(shown(&person).map(Option::unwrap_or_default), expected);
    assert_eq!(person.claims.avatar.as_deref(), Some("https://cdn.example/a.png"));

    assert_eq!(provider.refuses("/role", json!("anon")).await, "shape", "the public key of the project is nobody");
    assert_eq!(provider.refuses("/role", json!("service_role")).await, "shape", "nor is its service key");
    assert_eq!(provider.refuses("/email", json!("")).await, "shape", "someone anonymous has no address");
    assert_eq!(provider.refuses("/app_metadata/org_id", Value::Null).await, "shape", "what people write themselves names no org");
    assert_eq!(provider.refuses("/user_metadata/email_verified", json!(false)).await, "unverified_email");
    let person = provider.with("/app_metadata/role", json!("admin")).await.expect("a person");
    assert_eq!(&*person.role, "user", "only the roles that the configuration names are roles here");
}

#[tokio::test]
async fn supabase_with_its_old_shared_secret() {
    let secret = "super-secret-jwt-token-with-at-least-32-characters-long";
    let file = format!(
        "[[orgs]]\nid = 'acme'\n[[issuers]]\nname = 'supabase'\npreset = 'supabase'\norg = 'acme'\n\
         issuer = 'https://abcdefghijklmnopqrst.supabase.co/auth/v1'\nsecret = '{secret}'\n"
    );
    let environment = [("JWT_SECRET".to_owned(), "a-secret-of-librechat-0123456789".to_owned())];
    let config = Config::from_text(&file, "tollgate.toml", environment.into_iter()).unwrap_or_else(|errors| panic!("{errors}"));
    let verifier = config.verifier(Arc::new(Directory::new(config.orgs.clone()))).expect("a verifier");
    let claims = json!({
        "iss": "https://abcdefghijklmnopqrst.supabase.co/auth/v1", "sub": "1b4b6c1a", "aud": "authenticated", "exp": now() + 3600, "iat": now(),
        "email": "ada@acme.test", "app_metadata": {}, "user_metadata": {}, "role": "authenticated",
    });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token");
    let judged = verifier.verify(&token, Timestamp::from_second(now()).expect("a time"));
    let Ok(Verified::OrgScoped(person)) = judged else { panic!("{judged:?}") };
    assert_eq!((&*person.org.id, &*person.claims.sub), ("acme", "1b4b6c1a"));
}

#[tokio::test]
async fn auth0() {
    let claims = json!({
        "https://acme.example/roles": ["marketplace-administrator"], "nickname": "ada", "name": "Ada Lovelace",
        "picture": "https://s.gravatar.com/avatar/638.png", "updated_at": "2026-11-20T08:59:14.566Z", "email": "ada@acme.test",
        "email_verified": true, "iss": "https://acme.eu.auth0.com/", "sub": "auth0|602c0dcab993d10073daf680",
        "aud": "2CbU9bFY0lgWNBiTIDIDjNNCTO6sKb5X", "iat": now(), "exp": now() + 36_000, "sid": "0kq5VqZ6b1", "nonce": "SFhqbH5nU0xz",
        "org_id": "org_9ybsU1dN2dKfDkBi",
    });
    let issuer = "preset = 'auth0'\norgs = ['acme', 'globex']\nissuer = 'https://acme.eu.auth0.com/'\naudience = '2CbU9bFY0lgWNBiTIDIDjNNCTO6sKb5X'\n\
                  org_ids = { org_9ybsU1dN2dKfDkBi = 'acme' }\nroles = { marketplace-administrator = 'admin' }\n\
                  claims = { role = '\"https://acme.example/roles\"' }";
    let provider = Provider::new("RS256", issuer, claims).await;
    let person = provider.judge(&provider.claims).await.expect("a person");
    let expected = ["auth0|602c0dcab993d10073daf680", "ada@acme.test", "Ada Lovelace", "ada", "admin", "acme", "starter"];
    assert_eq!(shown(&person).map(Option::unwrap_or_default), expected);

    assert_eq!(provider.refuses("/aud", json!(["https://api.acme.example", "https://acme.eu.auth0.com/userinfo"])).await, "audience");
    assert_eq!(
        provider.refuses("/iss", json!("https://acme.eu.auth0.com")).await,
        "algorithm",
        "no issuer has this iss, so that LibreChat's secret would have to sign"
    );
    assert_eq!(provider.refuses("/org_id", json!("org_unknown")).await, "foreign_org");
    assert_eq!(provider.refuses("/org_id", json!("acme")).await, "foreign_org", "our ids are not the issuer's");
    assert_eq!(provider.refuses("/email_verified", json!(false)).await, "unverified_email");
    assert_eq!(provider.refuses("/email_verified", Value::Null).await, "unverified_email");
}

#[tokio::test]
async fn keycloak() {
    let claims = json!({
        "exp": now() + 300, "iat": now(), "auth_time": now() - 5, "jti": "onrtac:f81a1b2c-9d0e-4f6a-8c3b-5d7e9f1a2b3c",
        "iss": "https://id.acme.test/realms/chat", "aud": ["tollgate", "account"], "sub": "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
        "typ": "Bearer", "azp": "dashboard", "sid": "4c0a3a8a-3a47-4f2f-8e89-9e5f9b0a0a0a", "acr": "1", "allowed-origins": ["https://acme.test"],
        "realm_access": {"roles": ["default-roles-chat", "offline_access", "uma_authorization", "chat-admins"]},
        "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}}, "scope": "openid email profile organization",
        "email_verified": true, "organization": {"acme": {"id": "42c3e46f-2477-44d7-a85b-d3b43f6b31fa"}}, "name": "Ada Lovelace",
        "preferred_username": "ada", "given_name": "Ada", "family_name": "Lovelace", "email": "ada@acme.test",
    });
    let issuer = "preset = 'keycloak'\norgs = ['acme']\nissuer = 'https://id.acme.test/realms/chat'\naudience = 'tollgate'\n\
                  roles = { chat-admins = 'admin', default-roles-chat = 'viewer' }";
    let provider = Provider::new("RS256", issuer, claims).await;
    let person = provider.judge(&provider.claims).await.expect("a person");
    let expected = ["f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e", "ada@acme.test", "Ada Lovelace", "ada", "admin", "acme", "starter"];
    assert_eq!(shown(&person).map(Option::unwrap_or_default), expected);
    assert_eq!(
        &*provider.with("/organization", json!(["acme"])).await.expect("a person").org.id,
        "acme",
        "where only the names are mapped"
    );
    assert_eq!(&*provider.with("/realm_access/roles", json!(["default-roles-chat"])).await.expect("a person").role, "viewer");

    assert_eq!(provider.refuses("/typ", json!("ID")).await, "shape");
    assert_eq!(provider.refuses("/typ", json!("Refresh")).await, "shape");
    assert_eq!(provider.refuses("/aud", json!("account")).await, "audience");
    assert_eq!(provider.refuses("/organization", json!({"acme": {}, "globex": {}})).await, "shape");
}

#[tokio::test]
async fn entra() {
    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    let claims = json!({
        "ver": "2.0", "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "aud": "6cb04018-a3f5-46a7-b995-940c78f5aef3", "exp": now() + 3600, "iat": now(), "nbf": now(), "name": "Ada Lovelace",
        "preferred_username": "ada@acme.test", "oid": "00000000-0000-0000-66f3-3332eca7ea81", "tid": TENANT, "email": "ada@acme.test",
        "xms_edov": true, "nonce": "123523", "aio": "Df2UVXL1ix!lMCWMSOJBcFatzcGfvFGhjKv8q5g0x732dR5MB5BisvGQO7YWByjd8iQDLq",
        "roles": ["Chat.Admin"], "rh": "0.AX0A", "uti": "fqiBqXLPj0eQa82S",
    });
    let issuer = format!(
        "preset = 'entra'\norgs = ['acme']\nissuer = 'https://login.microsoftonline.com/{TENANT}/v2.0'\n\
         audience = '6cb04018-a3f5-46a7-b995-940c78f5aef3'\norg_ids = {{ {TENANT} = 'acme' }}\nroles = {{ 'Chat.Admin' = 'admin' }}"
    );
    let provider = Provider::new("RS256", &issuer, claims).await;
    let person = provider.judge(&provider.claims).await.expect("a person");
    let expected = ["00000000-0000-0000-66f3-3332eca7ea81", "ada@acme.test", "Ada Lovelace", "ada@acme.test", "admin", "acme", "starter"];
    assert_eq!(shown(&person).map(Option::unwrap_or_default), expected);
    assert_eq!(provider.refuses("/xms_edov", json!("1")).await, "good", "as older tenants write it");

    assert_eq!(provider.refuses("/xms_edov", Value::Null).await, "unverified_email", "an address that anyone may have written");
    assert_eq!(provider.refuses("/xms_edov", json!(false)).await, "unverified_email");
    assert_eq!(provider.refuses("/ver", json!("1.0")).await, "shape");
    assert_eq!(provider.refuses("/tid", json!("9188040d-6c67-4c5b-b112-36a304b66dad")).await, "foreign_org", "personal accounts");
    assert_eq!(provider.refuses("/nbf", json!(now() + 300)).await, "not_yet_valid");
}

#[tokio::test]
async fn cognito() {
    let claims = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["chat-admins"], "email_verified": true,
        "iss": "https://cognito-idp.us-west-2.amazonaws.com/us-west-2_example", "cognito:username": "ada", "custom:org_id": "acme",
        "origin_jti": "a1b2c3d4", "aud": "xxxxxxxxxxxxexample", "event_id": "64f513be-32db-42b0-b78e-b02127b4f463", "token_use": "id",
        "auth_time": now(), "name": "Ada Lovelace", "exp": now() + 3600, "iat": now(), "jti": "e5f6", "email": "ada@acme.test",
    });
    let issuer = "preset = 'cognito'\norgs = ['acme']\nissuer = 'https://cognito-idp.us-west-2.amazonaws.com/us-west-2_example'\n\
                  audience = 'xxxxxxxxxxxxexample'\nroles = { chat-admins = 'admin' }";
    let provider = Provider::new("RS256", issuer, claims).await;
    let person = provider.judge(&provider.claims).await.expect("a person");
    let expected = ["aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "ada@acme.test", "Ada Lovelace", "ada", "admin", "acme", "starter"];
    assert_eq!(shown(&person).map(Option::unwrap_or_default), expected);
    assert_eq!(provider.refuses("/email_verified", json!("true")).await, "good", "as an attribute that was mapped from elsewhere");

    assert_eq!(provider.refuses("/token_use", json!("access")).await, "shape");
    assert_eq!(provider.refuses("/email_verified", json!("false")).await, "unverified_email");
    assert_eq!(provider.refuses("/custom:org_id", json!("globex")).await, "foreign_org");
    assert_eq!(provider.refuses("/aud", json!("another-client")).await, "audience");
}

#[tokio::test]
async fn a_provider_that_is_none_of_these() {
    let claims = json!({
        "iss": "https://sso.acme.test", "aud": "tollgate", "exp": now() + 300, "iat": now(), "https://acme.test/person": {"id": "p-7", "mail": "ada@acme.test"},
        "groups": ["staff"], "tenant": {"slug": "acme", "tier": "gold"},
    });
    let issuer = "orgs = ['acme']\nissuer = 'https://sso.acme.test'\naudience = 'tollgate'\nalgorithm = 'EdDSA'\n\
                  claims = { sub = '\"https://acme.test/person\".id', email = '\"https://acme.test/person\".mail', org = 'tenant.slug', plan = 'tenant.tier', role = 'groups' }\n\
                  roles = { staff = 'viewer' }";
    let provider = Provider::new("EdDSA", issuer, claims).await;
    let person = provider.judge(&provider.claims).await.expect("a person");
    let expected = ["p-7", "ada@acme.test", "", "", "viewer", "acme", "gold"];
    assert_eq!(shown(&person).map(Option::unwrap_or_default), expected);
    assert_eq!(provider.refuses("/tenant", json!("acme")).await, "shape");
}
