//! Codes: once, soon, and only where they are for.

use std::sync::Arc;

use jiff::SignedDuration;
use tokio::task::JoinSet;
use tollgate::clock::ManualClock;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_opens_once_whoever_comes_first() {
    let gateway = setup().start().await;
    let url = address(&gateway.url(), &claims("ann")).await;
    // Whoever only looks does not use it up.
    let looked = browser().head(&url).send().await.expect("an answer");
    assert_eq!(looked.status(), 405);
    let mut opened = JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        opened.spawn(async move { open(&url).await.status.as_u16() });
    }
    let mut statuses = opened.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [302, 403, 403, 403, 403, 403, 403, 403]);
    let again = open(&url).await;
    assert_eq!((again.status.as_u16(), again.headers.get("set-cookie")), (403, None));
    assert!(again.text.contains("This link was used before"), "a page says so: {}", again.text);
    let row = gateway.audit_rows("auth.code_refused", 1).await.remove(0);
    assert_eq!(row.error.as_deref(), Some("code_used"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_comes_late_or_was_made_up_opens_nothing() {
    let start = SystemClock.now();
    let clock = ManualClock::at(start);
    let gateway = Setup { clock: Arc::clone(&clock) as _, ..setup() }.start().await;
    let base = gateway.url();
    let (soon, late) = (address(&base, &claims("ann")).await, address(&base, &claims("ann")).await);
    clock.set(start + SignedDuration::from_secs(59));
    assert_eq!(open(&soon).await.status, 302);
    clock.set(start + SignedDuration::from_secs(60));
    assert_eq!(open(&late).await.status, 403);
    let code = late.split_once("code=").expect("a code").1;
    let long = "A".repeat(4000);
    let guessed = tollgate::identity::sessions::Secret::make().expect("randomness");
    for code in ["", "x", guessed.expose(), &code.to_lowercase(), &format!("{code}A"), &long, "%00", "a&code=b"] {
        let answer = open(&format!("{base}/_tollgate/enter?code={code}")).await;
        assert_eq!((answer.status.as_u16(), answer.headers.get("set-cookie")), (403, None), "{code}");
    }
    for path in ["/_tollgate/enter", "/_Tollgate/ENTER/", "/%5ftollgate/enter"] {
        assert_eq!(open(&format!("{base}{path}")).await.status, 403, "{path}");
    }
    assert!(!gateway.librechat.requests().iter().any(|request| request.path.contains("ollgate")), "LibreChat hears of none of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_opens_at_its_own_orgs_host_and_no_others() {
    let hosts = CONFIG.replace("name = 'Beta'", "name = 'Beta'\n    hosts = ['beta.chat.test']");
    let gateway = Setup { config: hosts, ..setup() }.start().await;
    let base = gateway.url();
    let of_beta = address(&base, &of_org("beta", claims("ann"))).await;
    assert!(of_beta.starts_with(&format!("http://beta.chat.test:{}/_tollgate/enter?", gateway.running.public.port())), "{of_beta}");
    let of_acme = address(&base, &claims("bob")).await;
    let at_beta = async |url: &str| {
        let path = url.split_once("/_tollgate").expect("a path").1;
        let request = browser().get(format!("{base}/_tollgate{path}")).header("Host", "beta.chat.test");
        read(request.send().await.expect("an answer")).await
    };
    assert_eq!(at_beta(&of_acme).await.status, 403, "Acme's people come in elsewhere");
    assert_eq!(open(&of_acme).await.status, 403, "and the code is used up");
    let opened = at_beta(&of_beta).await;
    assert_eq!(opened.status, 302, "{}", opened.text);
    assert!(cookie_of(&opened.headers).1.ends_with("SameSite=Lax"), "nobody frames Beta");
    let row = gateway.audit_rows("auth.code_refused", 1).await.remove(0);
    assert_eq!(row.error.as_deref(), Some("code_foreign"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_an_address_signs_in_only_where_that_is_allowed() {
    let token = sign(&claims("ann"));
    let gateway = setup().start().await;
    let refused = open(&format!("{}/c/new?token={token}&org=acme", gateway.url())).await;
    assert_eq!((refused.status.as_u16(), refused.headers.get("set-cookie")), (403, None));
    for spelled in
        [format!("token={token}"), format!("%74oken={token}&org=acme"), format!("a=1&token[]={token}"), format!("token=1&token={token}")]
    {
        let refused = open(&format!("{}/c/new?{spelled}", gateway.url())).await;
        assert_eq!((refused.status.as_u16(), refused.headers.get("set-cookie")), (403, None), "{spelled}");
    }
    assert_eq!(open(&format!("{}/reset-password?token=abc&userId=1", gateway.url())).await.status, 200, "LibreChat's own tokens pass");
    assert!(!format!("{:?}", gateway.librechat.requests()).contains(&token), "LibreChat never hears it");

    let gateway = Setup { config: format!("{CONFIG}[insecure]\ntoken_in_url = true\n"), ..setup() }.start().await;
    let base = gateway.url();
    let opened = open(&format!("{base}/c/new?a=1&token={token}&org=acme")).await;
    assert_eq!((opened.status.as_u16(), opened.headers["location"].to_str().expect("text")), (302, "/c/new?a=1"), "{}", opened.text);
    let cookie = cookie_of(&opened.headers).0;
    assert!(refresh(&base, &cookie).await.is_some());
    for (query, status) in [
        (format!("token={token}&org=beta"), 403),
        (format!("token={token}&org="), 403),
        (format!("token={token}"), 400),
        ("token=a.b.c&org=acme".to_owned(), 401),
        (format!("token={}&org=acme", sign(&with(claims("ann"), "exp", json!(1)))), 401),
    ] {
        let answer = open(&format!("{base}/?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.headers.get("set-cookie")), (status, None), "{query}");
    }
    let heard = format!("{:?}", gateway.librechat.requests());
    assert!(!heard.contains(&token), "LibreChat never hears it");
    let rows = gateway.running.app.records.audit_rows(10_000).await.expect("rows");
    assert!(!format!("{rows:?}").contains(&token), "and nobody writes it down");
    assert_eq!(gateway.audit_rows("auth.entered", 1).await[0].org_id.as_deref(), Some("acme"));
}
