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

/// The cookies that an answer sets, each with whether it takes the cookie away.
fn set_cookies(headers: &HeaderMap) -> Vec<(String, bool)> {
    let all = headers.get_all("set-cookie").iter().map(|set| set.to_str().expect("text"));
    all.map(|set| (set.split('=').next().expect("a name").to_owned(), set.contains("Max-Age=0"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_enters_or_leaves_leaves_nobodys_own_sign_in_behind() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let opened = open(&address(&base, &claims("ann")).await).await;
    let cookie = cookie_of(&opened.headers).0;
    let token = refresh(&base, &cookie).await.expect("a token");
    let left = page_asks(&base, Method::POST, "/api/auth/logout", &cookie, Some(&token)).await;
    let over = page_asks(&base, Method::POST, "/api/auth/refresh", &cookie, None).await;
    for (what, answer) in [("entering", &opened), ("leaving", &left), ("a session that is over", &over)] {
        let set = set_cookies(&answer.headers);
        for name in ["refreshToken", "token_provider", "openid_user_id", "connect.sid"] {
            assert!(set.contains(&(name.to_owned(), true)), "{what} forgets {name}: {set:?}");
        }
        assert_eq!(set.iter().filter(|(name, _)| name == "__Host-tollgate").count(), 2, "{what}, in both forms: {set:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_in_with_librechats_own_account_is_not_taken_for_who_was_there_before() {
    let gateway = setup().start().await;
    let base = gateway.url();
    gateway.librechat.add_user(tollgate::scripted::User::new("carl@elsewhere.test"));
    let ann = sign_in(&base, &claims("ann")).await;
    let login = async |password: &str| {
        let login = browser().post(format!("{base}/api/auth/login")).header("Cookie", &*ann).header("Sec-Fetch-Site", "same-origin");
        read(login.json(&json!({"email": "carl@elsewhere.test", "password": password})).send().await.expect("an answer")).await
    };
    assert_ne!(login("a wrong one").await.status, 200);
    assert!(refresh(&base, &ann).await.is_some(), "a try that fails changes nothing");
    let carl = login("scripted-password").await;
    let set = set_cookies(&carl.headers);
    assert_eq!((carl.status.as_u16(), set.iter().filter(|(name, gone)| name == "__Host-tollgate" && *gone).count()), (200, 2), "{set:?}");
    assert!(set.contains(&("refreshToken".to_owned(), false)), "{set:?}");
    assert_eq!(refresh(&base, &ann).await, None, "her session is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_wants_to_leave_can_while_librechat_is_away() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let (by_cookie, by_both) = (sign_in(&base, &claims("ann")).await, sign_in(&base, &claims("ann")).await);
    let token = refresh(&base, &by_both).await.expect("a token");
    gateway.librechat.set_down(true);
    for (cookie, token) in [(&by_cookie, None), (&by_both, Some(&*token))] {
        let left = page_asks(&base, Method::POST, "/api/auth/logout", cookie, token).await;
        assert_eq!(left.status, 200, "{}", left.text);
    }
    gateway.librechat.set_down(false);
    assert_eq!((refresh(&base, &by_cookie).await, refresh(&base, &by_both).await), (None, None));
    let rows = gateway.audit_rows("auth.logout", 2).await;
    assert!(rows.iter().all(|row| row.org_id.as_deref() == Some("acme") && row.actor_id.is_some()), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_codes_and_cookies_write_nothing_and_hold_nobody_up() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let ann = sign_in(&base, &claims("ann")).await;
    let made_up = |length: usize| "A".repeat(length);
    let length = ann.split_once('=').expect("a value").1.len();
    let all = (0..200).map(|number| {
        let (base, secret) = (base.clone(), format!("{}{number:04}", made_up(length - 4)));
        async move {
            let code = open(&format!("{base}/_tollgate/enter?code={secret}")).await;
            let cookie = page_asks(&base, Method::POST, "/api/auth/refresh", &format!("__Host-tollgate={secret}"), None).await;
            (code.status.as_u16(), cookie.text)
        }
    });
    let (all, signed_in) = tokio::join!(futures_util::future::join_all(all), refresh(&base, &ann));
    assert!(signed_in.is_some(), "whoever is signed in stays so");
    assert!(all.iter().all(|(status, said)| *status == 403 && said == "Refresh token not provided"), "{all:?}");
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
