//! Who may come in, and whose account they get.

use tollgate::identity::directory::store::PutStanding;
use tollgate::identity::{Member, Org, Standing};
use tollgate::scripted::{ScriptedLibreChat, User};

use super::*;

/// The members that the directory has, as it was told.
async fn members(gateway: &TestGateway) -> Vec<Member> {
    gateway.running.app.orgs_and_members.changes(-1).await.expect("the directory").members
}

async fn change(gateway: &TestGateway, member: Member) {
    let app = &gateway.running.app;
    app.orgs_and_members.put_members(std::slice::from_ref(&member), SystemClock.now()).await.expect("a change");
    wait_for("the change to be known", || async { (app.directory.member(member.id).as_deref() == Some(&member)).then_some(()) }).await;
}

fn invited(email: &str) -> Member {
    Member {
        id: uuid::Uuid::now_v7(),
        org: "closed".into(),
        external_id: None,
        librechat_id: None,
        email: Some(email.into()),
        name: None,
        role: "viewer".into(),
        standing: Standing::Active,
        addresses: None,
        last_seen: None,
    }
}

/// The status, and the word for why, of what an application is answered.
async fn refused(gateway: &TestGateway, claims: &Value) -> (u16, String) {
    let answer = ask(&gateway.url(), Method::GET, &sign(claims)).await;
    (answer.status.as_u16(), answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_invited_come_into_an_org_that_says_so() {
    let gateway = setup().start().await;
    assert_eq!(refused(&gateway, &of_org("closed", claims("ann"))).await, (403, "not_invited".to_owned()));
    assert_eq!(members(&gateway).await, [], "nobody became anything");
    let row = gateway.audit_rows("auth.hand_off_refused", 1).await.remove(0);
    assert_eq!((row.org_id.as_deref(), row.error.as_deref()), (Some("closed"), Some("not_invited")));
    change(&gateway, invited("ann@acme.test")).await;
    let cookie = sign_in(&gateway.url(), &with(of_org("closed", claims("ann")), "role", Value::Null)).await;
    let token = refresh(&gateway.url(), &cookie).await.expect("a token");
    assert_eq!(payload(&token)["role"], "viewer", "as the invitation says, since the token says nothing");
    let known = members(&gateway).await;
    assert_eq!((known.len(), known[0].external_id.as_deref()), (1, Some("app|ann")));
    // Whoever uses the application's token directly is asked the same.
    let stranger = ChatClient::new(&gateway.url(), &sign(&of_org("closed", claims("bob"))));
    assert_eq!(stranger.get("/api/user").await.expect("an answer").status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_somebody_else_has_is_nobody_elses() {
    let ann = User { password: "her-own-password".into(), ..User::new("ann@acme.test") };
    let gateway = Setup { librechat: Options { users: vec![ann.clone()], ..empty_librechat() }, ..setup() }.start().await;
    assert_eq!(refused(&gateway, &claims("ann")).await, (403, "account_exists".to_owned()));
    let row = gateway.audit_rows("auth.hand_off_refused", 1).await.remove(0);
    assert_eq!(row.error.as_deref(), Some("account_exists"));
    // LibreChat counts what fails and locks out; it is not asked again and again.
    let logins = || gateway.librechat.requests().iter().filter(|request| request.path == "/api/auth/login").count();
    let before = logins();
    for _ in 0..10 {
        assert_eq!(refused(&gateway, &claims("ann")).await, (403, "account_exists".to_owned()));
    }
    assert_eq!(logins(), before);
    assert_eq!(members(&gateway).await, [], "nobody became a member by it");
    // An administrator says that they are the same.
    let told = Member { librechat_id: Some(ann.id.as_str().into()), external_id: Some("app|ann".into()), ..invited("ann@acme.test") };
    change(&gateway, Member { org: "acme".into(), ..told }).await;
    let cookie = sign_in(&gateway.url(), &claims("ann")).await;
    assert_eq!(payload(&refresh(&gateway.url(), &cookie).await.expect("a token"))["id"], ann.id.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_with_one_address_in_two_orgs_do_not_share_an_account() {
    let gateway = setup().start().await;
    sign_in(&gateway.url(), &claims("ann")).await;
    let other = of_org("beta", with(claims("ann"), "sub", json!("app|another ann")));
    assert_eq!(refused(&gateway, &other).await, (403, "account_exists".to_owned()));
    assert_eq!(refused(&gateway, &of_org("beta", claims("ann"))).await, (403, "account_exists".to_owned()), "nor does one person of both");
    // Even within one org.
    assert_eq!(refused(&gateway, &with(claims("ann"), "sub", json!("app|mallory"))).await, (403, "account_exists".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_of_librechat_keep_people_with_one_address_apart() {
    let tenants = CONFIG.replace("plan = 'team'", "plan = 'team'\n    tenant_id = 'acme-tenant'");
    let gateway = Setup { config: tenants, ..setup() }.start().await;
    sign_in(&gateway.url(), &claims("ann")).await;
    let asked = gateway.librechat.requests();
    let tenant_of = |email: &str| {
        let registration =
            asked.iter().find(|request| request.path == "/api/auth/register" && String::from_utf8_lossy(&request.body).contains(email));
        registration.and_then(|request| request.header("x-tenant-id")).map(str::to_owned)
    };
    assert_eq!(tenant_of("ann@acme.test").as_deref(), Some("acme-tenant"));
    assert_eq!(tenant_of("tollgate@service.invalid"), None, "the first account of all is of none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_suspended_is_not_signed_in() {
    let gateway = setup().start().await;
    let app = &gateway.running.app;
    sign_in(&gateway.url(), &claims("ann")).await;
    let url = address(&gateway.url(), &claims("ann")).await;
    let ann = members(&gateway).await.remove(0);
    change(&gateway, Member { standing: Standing::Suspended, ..ann }).await;
    assert_eq!(refused(&gateway, &claims("ann")).await, (403, "member_suspended".to_owned()));
    let opened = open(&url).await;
    assert_eq!((opened.status.as_u16(), opened.text.contains("Your account is suspended here")), (403, true), "{}", opened.text);
    let org = app.directory.by_id("beta").expect("an org");
    let suspended = Org { standing: Standing::Suspended, ..Org::clone(&org) };
    app.orgs_and_members.put_orgs(&[suspended], PutStanding::Written, SystemClock.now()).await.expect("a change");
    wait_for("it to be known", || async { (refused(&gateway, &of_org("beta", claims("bob"))).await.1 == "org_suspended").then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_librechat_is_down_nobody_signs_in_and_afterwards_everybody_does() {
    let librechat = ScriptedLibreChat::start(empty_librechat()).await.expect("a free port");
    let gateway = setup().in_front_of(librechat);
    gateway.librechat.set_down(true);
    let answer = ask(&gateway.url(), Method::GET, &sign(&claims("ann"))).await;
    assert_eq!((answer.status.as_u16(), answer.headers.contains_key("retry-after")), (503, true), "{}", answer.text);
    gateway.librechat.set_down(false);
    let url = wait_for("LibreChat to be asked again", || async {
        let answer = ask(&gateway.url(), Method::GET, &sign(&claims("ann"))).await;
        answer.json()["url"].as_str().map(str::to_owned)
    })
    .await;
    let cookie = cookie_of(&open(&url).await.headers).0;
    gateway.librechat.set_down(true);
    assert_eq!(page_asks(&gateway.url(), Method::POST, "/api/auth/refresh", &cookie, None).await.status, 503, "who is signed in stays so");
    gateway.librechat.set_down(false);
    assert!(refresh(&gateway.url(), &cookie).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_librechat_that_makes_no_accounts_is_said_so() {
    let gateway = Setup { librechat: Options { registration: false, ..empty_librechat() }, ..setup() }.start().await;
    assert_eq!(refused(&gateway, &claims("ann")).await, (403, "no_account".to_owned()));
    let by_hand = CONFIG.replace("[sign_in]", "[sign_in]\n    provision = 'none'");
    let gateway = Setup { config: by_hand, ..setup() }.start().await;
    assert_eq!(refused(&gateway, &claims("ann")).await, (403, "no_account".to_owned()));
    assert_eq!(registered(&gateway), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_accounts_are_made_at_once_and_each_once() {
    let gateway = setup().start().await;
    let base = gateway.url();
    // Each twice, and more than LibreChat lets one address make.
    let all = (0..24).map(|number| {
        let claims = claims(&format!("person{}", number / 2));
        let base = base.clone();
        async move { sign_in(&base, &claims).await }
    });
    futures_util::future::join_all(all).await;
    let mut made = registered(&gateway);
    made.sort_unstable();
    let count = made.len();
    made.dedup();
    assert_eq!((made.len(), count), (13, 13), "{made:?}");
    let users = members(&gateway).await;
    assert_eq!(users.iter().filter(|member| member.librechat_id.is_some()).count(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_was_deleted_is_made_again() {
    let gateway = setup().start().await;
    sign_in(&gateway.url(), &claims("ann")).await;
    gateway.librechat.remove_user("ann@acme.test");
    let again = Setup { records: format!("sqlite:{}", gateway.folder.path().join("tollgate.db").display()), ..setup() };
    let folder = tempfile::tempdir().expect("a folder");
    let other = again.gateway(&gateway.librechat, &folder);
    let base = format!("http://{}", other.public);
    let cookie = sign_in(&base, &claims("ann")).await;
    assert!(refresh(&base, &cookie).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_themselves_an_account() {
    let gateway = setup().start().await;
    for path in ["/api/auth/register", "/API/auth/Register/", "/api/auth/register?token=invited"] {
        let answer = page_asks(&gateway.url(), Method::POST, path, "", None).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.contains("Accounts are made by your application")),
            (403, true),
            "{path}: {}",
            answer.text
        );
    }
    assert_eq!(registered(&gateway), [""; 0]);
    let row = gateway.audit_rows("auth.registration_refused", 1).await.remove(0);
    assert_eq!(row.error.as_deref(), Some("registration_closed"));
}
