//! Near the edge of a limit, beside it, and without a price.

use tollgate::clock::{Clock as _, SystemClock};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_shrinks_before_anyone_is_refused() {
    let config = "[[limits]]\napplies_to = 'member'\ntokens_per_day = 1000\n\
                  [estimate]\nanswer_tokens = 800\nleast_answer_tokens = 50\n[generations]\nfollow_after_ms = 100\n";
    let gateway = setup(config).start().await;
    let client = gateway.client("ann@acme.test");
    gateway.librechat.hold_answers(true);
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.start(&ChatBody::new(ORDINARY)).await }
    });
    gateway.librechat.wait_for_runs(1).await.expect("the first is let through");
    let held = |me: &Value| me["limits"][0]["held"].as_u64().expect("a number");
    let whole = held(&me(&client).await);
    assert!((801..850).contains(&whole), "its text and 800 tokens of room are held: {whole}");
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.start(&ChatBody::new(ORDINARY)).await }
    });
    gateway.librechat.wait_for_runs(2).await.expect("the second is let through with what is left");
    let full = me(&client).await;
    assert_eq!((held(&full), &full["limits"][0]["left"]), (1000, &0.into()), "all that was left is room for its answer");
    let (_, told) = refused(&gateway, &client, ORDINARY).await;
    assert!(told.contains("answers still running"), "now there is no room for the least answer: {told}");
    gateway.librechat.hold_answers(false);
    for start in [first, second] {
        let answer = start.await.expect("a task").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    gateway.all_settled().await;
    let estimates: Vec<_> = gateway.usage_rows(2).await.iter().map(|row| row.estimate_tokens).collect();
    assert!(estimates.contains(&whole) && estimates.contains(&(1000 - whole)), "the rows say what was reserved: {estimates:?}");
    assert_eq!(me(&client).await["limits"][0]["used"], 314, "what was really used is charged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_refuses_nobody_and_counts() {
    let config = "[[limits]]\napplies_to = 'member'\nmessages_per_day = 1\nmode = 'enforce'\n\
                  [[limits]]\napplies_to = 'org'\ntokens_per_day = 200\n[limits_defaults]\nmode = 'shadow'\n";
    let gateway = setup(&(config.to_owned() + HUNDRED)).start().await;
    let client = gateway.client("ann@acme.test");
    for _ in 0..3 {
        answered(&gateway, &client, ORDINARY).await;
    }
    let metrics = gateway.metrics().await;
    let decisions = |decision: &str, scope: &str, resource: &str, window: &str| {
        let labels = format!(r#"decision="{decision}",resource="{resource}",scope="{scope}",window="{window}""#);
        value_of(&metrics, &format!("tollgate_decisions_total{{{labels}}}"))
    };
    assert!((decisions("shadow_refused", "member", "messages", "day") - 2.0).abs() < 1e-9, "two would have been refused");
    assert!((decisions("shadow_refused", "org", "tokens", "day") - 2.0).abs() < 1e-9, "by either limit");
    assert!((decisions("refused", "member", "messages", "day")).abs() < 1e-9, "nobody was refused");
    assert!((decisions("admitted", "none", "none", "none") - 3.0).abs() < 1e-9, "all were let through");
    let told = me(&client).await;
    let modes: Vec<_> = told["limits"].as_array().expect("a list").iter().map(|limit| (&limit["mode"], &limit["used"])).collect();
    assert_eq!(modes, [(&"shadow".into(), &3.into()), (&"shadow".into(), &471.into())], "what they would count is shown: {told}");
    let rows = gateway.audit_rows("chat.started", 3).await;
    let shadowed = rows.iter().filter(|row| row.error.as_deref() == Some("shadow")).count();
    assert_eq!(shadowed, 2, "and written down, so that it can be explained");
}

/// An org-scoped token for a LibreChat account of acme, with a cap for its org.
fn org_token(user: &User, max_tokens: u64) -> String {
    let now = SystemClock.now().as_second();
    let claims = serde_json::json!({
        "sub": "person-1", "email": user.email, "name": "Ann", "role": "user", "iat": now, "exp": now + 600,
        "organization": {"id": "acme", "name": "Acme", "domain": "acme.test", "plan_type": "pro", "librechat_config": {"max_tokens": max_tokens}},
        "librechat_user_id": user.id,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(b"an-issuers-own-secret-0123456789");
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key).expect("a token")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_cap_its_org_but_never_loosen() {
    let config = "[[limits]]\napplies_to = 'org'\ntokens_per_month = 1000\n[[issuers]]\nname = 'dashboard'\norgs = ['acme']\n\
                  algorithm = 'HS256'\nsecret = 'an-issuers-own-secret-0123456789'\nmay_name_users = true\n";
    let gateway = setup(&(config.to_owned() + HUNDRED)).start().await;
    let ann = User::new("ann@acme.test");
    gateway.librechat.add_user(ann.clone());
    let capped = ChatClient::new(&gateway.url(), &org_token(&ann, 200));
    answered(&gateway, &capped, ORDINARY).await;
    let (_, told) = refused(&gateway, &capped, "Again").await;
    assert!(told.starts_with("Your organization's monthly token limit") && told.contains("of 200 tokens"), "{told}");
    let limit = me(&capped).await["limits"][0].clone();
    assert_eq!((&limit["limit"], &limit["used"]), (&200.into(), &157.into()));
    assert!(limit["why"].as_str().is_some_and(|why| why.contains("sign-in token")), "it says why: {limit}");
    let loose = ChatClient::new(&gateway.url(), &org_token(&ann, 1_000_000));
    assert_eq!(me(&loose).await["limits"][0]["limit"], 1000, "a token never loosens");
    answered(&gateway, &loose, ORDINARY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_model_costs_the_default_price_or_nothing_or_is_refused() {
    let limits = "[[limits]]\napplies_to = 'member'\nusd_per_day = 0.003\n".to_owned() + HUNDRED;
    for unknown_model in ["default_price", "free", "reject"] {
        let gateway = setup(&format!("{limits}[prices]\nunknown_model = '{unknown_model}'\n")).start().await;
        let client = gateway.client("ann@acme.test");
        if unknown_model == "reject" {
            let answer = client.start(&ChatBody::new("Hello")).await.expect("an answer");
            assert_eq!(answer.status, 403, "{}", answer.text);
            assert!(answer.text.contains("has no price"), "{}", answer.text);
            assert_eq!(starts(&gateway.librechat), 0, "nothing was forwarded");
            let metrics = gateway.metrics().await;
            for counter in [
                "tollgate_unpriced_messages_total",
                r#"tollgate_decisions_total{decision="policy",resource="none",scope="none",window="none"}"#,
            ] {
                assert!((value_of(&metrics, counter) - 1.0).abs() < 1e-9, "{counter} counts it");
            }
            let known = client.exchange(&ChatBody::new(ORDINARY).with("model", "gpt-5-nano")).await.expect("an answer");
            assert!(known.last().is_some(), "a model with a price is let through: {}", known.start.text);
            continue;
        }
        answered(&gateway, &client, ORDINARY).await;
        let row = gateway.usage_rows(1).await.remove(0);
        let expected = if unknown_model == "free" { 0 } else { 1_925_000 };
        assert_eq!(row.cost_nanousd, expected, "with {unknown_model}");
        let metrics = gateway.metrics().await;
        assert!((value_of(&metrics, "tollgate_unpriced_messages_total") - 1.0).abs() < 1e-9, "it is counted, with {unknown_model}");
        if unknown_model == "free" {
            answered(&gateway, &client, ORDINARY).await;
        } else {
            refused(&gateway, &client, "Again").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_up_is_estimated_with_what_its_conversation_carries() {
    let config = "[[limits]]\napplies_to = 'member'\ntokens_per_day = 8000\n".to_owned() + HUNDRED;
    let gateway = setup(&config).start().await;
    let client = gateway.client("ann@acme.test");
    let first = answered(&gateway, &client, "Hello [[tokens=5 context=4000 in=4000 out=57]]").await;
    let (conversation, answer) = (first.conversation_id().expect("a conversation"), first.answer_id().expect("an answer"));
    let follow_up = ChatBody::new("And now? [[delay=1]]").after(&conversation, &answer);
    let refusal = client.start(&follow_up).await.expect("an answer");
    assert_eq!(refusal.status, 429, "4,057 tokens again do not fit into 8,000: {}", refusal.text);
    assert!(refusal.json()["info"].as_str().is_some_and(|told| told.contains("A shorter message or a new conversation may fit")));
    tokio::time::timeout(Duration::from_secs(20), answered(&gateway, &client, ORDINARY)).await.expect("a new conversation fits");
}
