//! Tokens that sign nobody in, and requests that say two things about whose they are.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_old_or_not_the_applications_sign_nobody_in() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let now = SystemClock.now().as_second();
    let aged = |seconds: i64| with(with(claims("ann"), "iat", json!(now - seconds)), "exp", json!(now + 30 * 86_400));
    let without = |name: &str| {
        let mut claims = claims("ann");
        claims.as_object_mut().expect("an object").remove(name);
        claims
    };
    let foreign = |secret: &str| {
        encode(&Header::new(Algorithm::HS256), &claims("ann"), &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
    };
    let cases = [
        ("a day and a minute old", sign(&aged(86_460)), 403),
        ("without its age", sign(&without("iat")), 403),
        ("of five minutes ahead", sign(&with(claims("ann"), "iat", json!(now + 300))), 401),
        ("over", sign(&with(claims("ann"), "exp", json!(now - 300))), 401),
        ("of another org", sign(&of_org("globex", claims("ann"))), 403),
        ("of two orgs", sign(&with(claims("ann"), "org", json!("beta"))), 401),
        ("without a person", sign(&without("sub")), 401),
        ("without an address", sign(&without("email")), 401),
        ("signed by another", foreign("somebody-elses-secret-of-enough-bytes"), 401),
        ("LibreChat's own", gateway.token("ann@acme.test"), 403),
        ("nothing", String::new(), 401),
    ];
    for (what, token, status) in cases {
        for method in [Method::GET, Method::POST] {
            let answer = ask(&base, method.clone(), &token).await;
            assert_eq!(answer.status, status, "a token {what}, {method}: {}", answer.text);
            assert!(!answer.text.contains("code="), "{}", answer.text);
        }
    }
    assert_eq!(ask(&base, Method::GET, &sign(&aged(86_000))).await.status, 200, "an old one of less than a day");
    assert_eq!(ask(&base, Method::GET, &sign(&with(claims("ann"), "iat", json!(now + 30)))).await.status, 200, "clocks differ a little");
    assert_eq!(ask(&base, Method::PUT, &sign(&claims("ann"))).await.status, 405);
    assert_eq!(registered(&gateway), ["tollgate@service.invalid", "ann@acme.test"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_and_a_token_of_two_people_are_never_mixed() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let (ann, bob) = (sign_in(&base, &claims("ann")).await, sign_in(&base, &claims("bob")).await);
    let (anns, bobs) = (refresh(&base, &ann).await.expect("a token"), refresh(&base, &bob).await.expect("a token"));

    let answer = page_asks(&base, Method::GET, "/api/user", &bob, Some(&anns)).await;
    assert_eq!(answer.json()["email"], "ann@acme.test", "what is asked goes by the token alone");
    let answer = page_asks(&base, Method::POST, "/api/auth/refresh", &bob, Some(&anns)).await;
    assert_eq!(payload(answer.json()["token"].as_str().expect("a token"))["email"], "bob@acme.test", "a refresh by the cookie alone");
    let answer = page_asks(&base, Method::GET, "/api/user", &bob, None).await;
    assert_eq!(answer.status, 401, "a cookie alone is nobody to LibreChat's own routes");

    let answer = page_asks(&base, Method::POST, "/api/auth/logout", &bob, Some(&anns)).await;
    assert_eq!((answer.status.as_u16(), answer.text.contains("signed in as somebody else")), (403, true), "{}", answer.text);
    assert!(refresh(&base, &ann).await.is_some() && refresh(&base, &bob).await.is_some(), "nobody was signed out");
    let row = gateway.audit_rows("auth.logout", 1).await.remove(0);
    assert_eq!(row.error.as_deref(), Some("other_person"));

    for cookie in ["__Host-tollgate=x", "__Host-tollgate=", &format!("{ann}; {bob}"), &format!("{ann}A")] {
        assert_eq!(refresh(&base, cookie).await, None, "{cookie}");
    }
    assert_eq!(refresh(&base, &ann.to_lowercase()).await, None);
    // A page of another origin gets nothing by the cookie.
    let foreign = browser().post(format!("{base}/api/auth/refresh")).header("Cookie", &*ann).header("Origin", "https://evil.test");
    assert_eq!(foreign.send().await.expect("an answer").status(), 403);
    drop(bobs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_changes_hands_leaves_nobody_behind() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let ann = sign_in(&base, &claims("ann")).await;
    let url = address(&base, &claims("bob")).await;
    let opened = read(browser().get(url).header("Cookie", &*ann).send().await.expect("an answer")).await;
    let bob = cookie_of(&opened.headers).0;
    assert_eq!(refresh(&base, &ann).await, None, "whoever was signed in before is not any more");
    // The same person again keeps what runs in another tab.
    let url = address(&base, &claims("bob")).await;
    let opened = read(browser().get(url).header("Cookie", &*bob).send().await.expect("an answer")).await;
    assert_eq!(opened.status, 302);
    assert!(refresh(&base, &bob).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_logins_go_on_beside_it() {
    let gateway = setup().start().await;
    let base = gateway.url();
    gateway.librechat.add_user(tollgate::scripted::User::new("carl@elsewhere.test"));
    let login =
        browser().post(format!("{base}/api/auth/login")).json(&json!({"email": "carl@elsewhere.test", "password": "scripted-password"}));
    let answer = read(login.send().await.expect("an answer")).await;
    let cookies: Vec<_> =
        answer.headers.get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok()?.split(';').next()).collect();
    let cookies = cookies.join("; ");
    let token = refresh(&base, &cookies).await.expect("LibreChat's own refresh");
    assert_eq!(payload(&token)["sid"], Value::Null);
    let left = page_asks(&base, Method::POST, "/api/auth/logout", &cookies, Some(&token)).await;
    assert_eq!((left.status.as_u16(), left.headers.get_all("set-cookie").iter().count()), (200, 2), "LibreChat's own answer");
    // Somebody else's session in the same browser is the one that counts, as long as it lasts.
    let both = format!("{cookies}; {}", sign_in(&base, &claims("ann")).await);
    assert_eq!(payload(&refresh(&base, &both).await.expect("a token"))["email"], "ann@acme.test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_section_nothing_of_it_is_there() {
    let off = CONFIG.replace("enabled = true", "enabled = false");
    let gateway = Setup { config: off, ..setup() }.start().await;
    let base = gateway.url();
    assert_eq!(ask(&base, Method::GET, &sign(&claims("ann"))).await.status, 403, "somebody without an account");
    assert_eq!(open(&format!("{base}/_tollgate/enter?code=x")).await.status, 404);
    let answer = page_asks(&base, Method::POST, "/api/auth/refresh", "__Host-tollgate=x", None).await;
    assert_eq!(answer.text, "Refresh token not provided");
    let account = json!({"email": "d@x.test", "password": "12345678", "name": "Dora", "confirm_password": "12345678"});
    let made = browser().post(format!("{base}/api/auth/register")).header("Sec-Fetch-Site", "same-origin").json(&account);
    assert_eq!(made.send().await.expect("an answer").status(), 200, "LibreChat decides");
}
