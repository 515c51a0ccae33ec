//! Signing in through Tollgate, from the application's question to the browser's last request.

mod codes;
mod framed;
mod hostile;
mod people;
mod revoking;
mod sessions;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::header::HeaderMap;
use reqwest::{Method, redirect};
use serde_json::{Value, json};
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::scripted::client::{Answer, BROWSER, ChatClient};
use tollgate::scripted::{Options, Strangers};

use crate::support::gateway::{Setup, TestGateway, wait_for};

pub const APP_SECRET: &str = "the-application-signs-its-tokens-with-this";

/// Two orgs whose people come with the tokens of one application; Acme may be framed by it.
/// [`Setup`] writes this behind the first keys of Acme.
const CONFIG: &str = "
    domains = ['acme.test']
    plan = 'team'
    frame_ancestors = ['https://app.example']
    [[orgs]]
    id = 'beta'
    name = 'Beta'
    [[orgs]]
    id = 'closed'
    name = 'Closed'
    join = 'invited'
    [[issuers]]
    name = 'app'
    issuer = 'https://app.example'
    orgs = ['acme', 'beta', 'closed']
    algorithm = 'HS256'
    secret = 'the-application-signs-its-tokens-with-this'
    [sign_in]
    enabled = true
    secret = 'the-passwords-of-accounts-follow-from-this'
";

/// A LibreChat in which nobody has an account yet.
fn empty_librechat() -> Options {
    Options { strangers: Strangers::Refused, ..Options::default() }
}

fn setup() -> Setup {
    Setup { librechat: empty_librechat(), default_org: String::new(), ..Setup::with(CONFIG) }
}

/// What the application says of a person of Acme.
fn claims(name: &str) -> Value {
    let now = SystemClock.now().as_second();
    json!({
        "iss": "https://app.example", "sub": format!("app|{name}"), "email": format!("{name}@acme.test"), "name": format!("{name} of Acme"),
        "username": name, "avatar": "https://app.example/a.png", "role": "user", "iat": now, "exp": now + 3600,
        "organization": {"id": "acme", "plan_type": "pro", "librechat_config": {"max_tokens": 500_000, "theme": "dark"}},
    })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn of_org(org: &str, claims: Value) -> Value {
    with(claims, "organization", json!({"id": org}))
}

fn sign(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(APP_SECRET.as_bytes())).expect("a token")
}

/// The application, which asks with the token of a person.
async fn ask(base: &str, method: Method, token: &str) -> Answer {
    let request = browser().request(method, format!("{base}/api/librechat/auth")).bearer_auth(token);
    read(request.send().await.expect("an answer")).await
}

/// The address that the application is given for a person.
async fn address(base: &str, claims: &Value) -> String {
    let answer = ask(base, Method::GET, &sign(claims)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["url"].as_str().expect("an address").to_owned()
}

/// Follows no redirects, and keeps no cookies.
fn browser() -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only([]).redirect(redirect::Policy::none()).user_agent(BROWSER).build().expect("a client")
}

async fn read(response: reqwest::Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.expect("a body") }
}

async fn open(url: &str) -> Answer {
    read(browser().get(url).send().await.expect("an answer")).await
}

/// A request of LibreChat's page, with the cookie and perhaps a token.
async fn page_asks(base: &str, method: Method, path: &str, cookie: &str, token: Option<&str>) -> Answer {
    let request = browser().request(method, format!("{base}{path}")).header("Sec-Fetch-Site", "same-origin");
    let request = if cookie.is_empty() { request } else { request.header("Cookie", cookie) };
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    read(request.send().await.expect("an answer")).await
}

/// What `Set-Cookie` gives the browser to send from now on, and the attributes.
fn cookie_of(headers: &HeaderMap) -> (String, String) {
    let set = headers.get("set-cookie").and_then(|value| value.to_str().ok()).unwrap_or_else(|| panic!("a cookie among {headers:?}"));
    let (pair, attributes) = set.split_once("; ").expect("attributes");
    (pair.to_owned(), attributes.to_owned())
}

/// Signs a person in as the application and a browser do: the cookie.
async fn sign_in(base: &str, claims: &Value) -> String {
    let opened = open(&address(base, claims).await).await;
    assert_eq!(opened.status, 302, "{}", opened.text);
    cookie_of(&opened.headers).0
}

/// The token that LibreChat's page gets for a cookie; `None` where nobody is signed in.
async fn refresh(base: &str, cookie: &str) -> Option<String> {
    let answer = page_asks(base, Method::POST, "/api/auth/refresh", cookie, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["token"].as_str().map(str::to_owned)
}

/// The payload of a token.
fn payload(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

/// Who LibreChat has accounts of, by what it was sent.
fn registered(gateway: &TestGateway) -> Vec<String> {
    let requests = gateway.librechat.requests();
    let sent = requests.iter().filter(|request| request.path == "/api/auth/register");
    sent.filter_map(|request| serde_json::from_slice::<Value>(&request.body).ok()?["email"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_whom_librechat_has_never_seen_chats_and_leaves() {
    let gateway = setup().start().await;
    let base = gateway.url();

    let answer = ask(&base, Method::GET, &sign(&claims("ann"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let said = answer.json();
    let organization = json!({
        "id": "acme", "name": "Acme", "domain": "acme.test", "plan_type": "pro", "librechat_config": {"max_tokens": 500_000, "theme": "dark"},
    });
    assert_eq!(said["organization"], organization);
    let url = said["url"].as_str().expect("an address");
    assert!(url.starts_with(&format!("{base}/_tollgate/enter?code=")) && !url.contains("eyJ"), "{url}");
    assert_eq!(registered(&gateway), ["tollgate@service.invalid", "ann@acme.test"], "nobody who signs in becomes the administrator");

    let opened = open(url).await;
    assert_eq!((opened.status.as_u16(), &opened.headers["location"]), (302, &"/".parse().expect("a header")));
    let (cookie, attributes) = cookie_of(&opened.headers);
    assert!(cookie.starts_with("__Host-tollgate="), "{cookie}");
    assert_eq!(attributes, "Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=None; Partitioned");
    assert_eq!(
        (&opened.headers["cache-control"], &opened.headers["referrer-policy"]),
        (&"no-store".parse().unwrap(), &"no-referrer".parse().unwrap())
    );

    let answer = page_asks(&base, Method::POST, "/api/auth/refresh", &cookie, None).await;
    let refreshed = answer.json();
    assert_eq!((&refreshed["user"]["email"], &refreshed["user"]["role"]), (&json!("ann@acme.test"), &json!("USER")), "{}", answer.text);
    let token = refreshed["token"].as_str().expect("a token").to_owned();
    let said = payload(&token);
    assert_eq!(
        (&said["org"], &said["role"], &said["iss"], &said["plan"]),
        (&json!("acme"), &json!("user"), &json!("tollgate"), &json!("pro"))
    );
    assert_eq!(said["exp"].as_i64().zip(said["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(900));
    assert!(said["sid"].as_str().is_some_and(|sid| sid.len() == 36), "{said}");

    let ann = ChatClient::new(&base, &token);
    let me = ann.get("/_tollgate/me").await.expect("an answer").json();
    assert_eq!(
        (&me["org"]["id"], &me["plan"], &me["role"], &me["user"]),
        (&json!("acme"), &json!("pro"), &json!("user"), &refreshed["user"]["_id"])
    );
    assert!(me["limits"].to_string().contains("500000"), "the application's own cap holds: {}", me["limits"]);
    ann.chat("Hello [[in=10 out=5]]").await.expect("an answer");
    let row = gateway.usage_rows(1).await.remove(0);
    assert_eq!((&*row.org_id, &json!(row.member_id)), ("acme", &refreshed["user"]["_id"]));

    let left = page_asks(&base, Method::POST, "/api/auth/logout", &cookie, Some(&token)).await;
    assert_eq!((left.status.as_u16(), &left.json()["message"]), (200, &json!("Logout successful")));
    assert!(left.headers["set-cookie"].to_str().expect("text").starts_with("__Host-tollgate=-; "));
    assert_eq!(refresh(&base, &cookie).await, None, "the session is over");
    assert_eq!(ann.get("/api/user").await.expect("an answer").status, 401, "and so are its tokens, at once");

    for action in ["auth.handed_off", "auth.entered", "auth.logout"] {
        let row = gateway.audit_rows(action, 1).await.remove(0);
        assert_eq!((row.org_id.as_deref(), row.actor_id.as_deref()), (Some("acme"), Some(&*ann_id(&refreshed))), "{action}");
    }
    let rows = gateway.running.app.records.audit_rows(10_000).await.expect("rows");
    let secret = cookie.split_once('=').expect("a value").1;
    let code = url.split_once("code=").expect("a code").1;
    let written = format!("{rows:?}");
    assert!(!written.contains(secret) && !written.contains(code) && !written.contains(&token), "nothing that signs in is written down");
}

fn ann_id(refreshed: &Value) -> String {
    refreshed["user"]["_id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_gets_a_token_for_a_person_without_a_browser() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let answer = ask(&base, Method::POST, &sign(&with(claims("ann"), "role", json!("admin")))).await;
    assert_eq!((answer.status.as_u16(), answer.headers.get("set-cookie")), (200, None), "{}", answer.text);
    let said = answer.json();
    let user = &said["user"];
    assert_eq!(
        (&user["email"], &user["name"], &user["username"], &user["avatar"], &user["role"], &user["organization"]["plan_type"]),
        (
            &json!("ann@acme.test"),
            &json!("ann of Acme"),
            &json!("ann"),
            &json!("https://app.example/a.png"),
            &json!("admin"),
            &json!("pro")
        )
    );
    let ann = ChatClient::new(&base, said["token"].as_str().expect("a token"));
    assert_eq!(ann.get("/_tollgate/me").await.expect("an answer").json()["role"], "admin");
    ann.chat("Hello [[in=10 out=5]]").await.expect("an answer");
    assert_eq!(json!(gateway.usage_rows(1).await[0].member_id), user["id"]);

    // The application's own token is good for the API, too, as the same person.
    let by_app = ChatClient::new(&base, &sign(&claims("ann")));
    assert_eq!(by_app.get("/api/user").await.expect("an answer").json()["email"], "ann@acme.test");
    // Signing in again makes nothing anew.
    sign_in(&base, &claims("ann")).await;
    assert_eq!(registered(&gateway).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_configuration_hides_the_ways_in_from_those_who_came_signed_in() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let config = async |cookie: &str| {
        let answer = page_asks(&base, Method::GET, "/api/config", cookie, None).await;
        assert_eq!((answer.status.as_u16(), answer.headers.get("etag")), (200, None));
        answer.json()
    };
    let plain = config("refreshToken=x").await;
    assert_eq!((&plain["emailLoginEnabled"], &plain["registrationEnabled"]), (&json!(true), &json!(false)), "{plain}");
    let cookie = sign_in(&base, &claims("ann")).await;
    for cookie in [&*cookie, "__Host-tollgate=-"] {
        let hidden = config(cookie).await;
        assert_eq!((&hidden["emailLoginEnabled"], &hidden["appTitle"]), (&json!(false), &plain["appTitle"]), "{hidden}");
    }
    let gateway = Setup { config: format!("{CONFIG}hide_login_form = true\n"), ..setup() }.start().await;
    let hidden = page_asks(&gateway.url(), Method::GET, "/api/config", "", None).await.json();
    assert_eq!(hidden["emailLoginEnabled"], json!(false));
}
