//! `limits explain` and `explain`, beside a gateway that runs, one that ran, and none.

use serde_json::Value;
use tollgate::scripted::User;

use super::{Place, Ran};
use crate::support::gateway::{Setup, TestGateway};
use crate::support::redis::RedisServer;

const LIMITS: &str = "
[[limits]]
applies_to = 'member'
messages_per_day = 2
tokens_per_day = 100_000
[[limits]]
applies_to = 'member'
role = 'admin'
messages_per_day = 9
[[limits]]
applies_to = 'org'
org = 'acme'
usd_per_month = 50.0
";

/// A place for commands beside this gateway: the same secret, limits, store and database, its public address.
fn beside(gateway: &TestGateway, store: &str) -> Place {
    let database = gateway.folder().path().join("tollgate.db");
    Place::new(&format!(
        "[public]\nlisten = '{}'\n[librechat]\njwt_secret = '{}'\n[store]\nurl = '{store}'\ntimeout_ms = 5000\n\
         [records]\nurl = 'sqlite:{}'\n[[orgs]]\nid = 'acme'\nname = 'Acme'\n{LIMITS}",
        gateway.running.public,
        gateway.librechat.jwt_secret(),
        database.display(),
    ))
}

fn explain_limits(place: &Place, member: &str, more: &[&str]) -> Ran {
    place.run_with(&[&["limits", "explain", "--org", "acme", "--member", member], more].concat(), &[])
}

/// One limit of the JSON: what is used and left of it.
#[track_caller]
fn level(ran: &Ran, scope: &str, resource: &str) -> (u64, u64) {
    let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("no JSON ({error}): {ran:?}"));
    let limits = told["limits"].as_array().expect("a list of limits");
    let limit = limits.iter().find(|limit| limit["scope"] == scope && limit["resource"] == resource);
    let limit = limit.unwrap_or_else(|| panic!("no limit of {scope} {resource}: {}", ran.out));
    (limit["used"].as_u64().expect("a known use"), limit["left"].as_u64().expect("a known rest"))
}

async fn chat(gateway: &TestGateway, email: &str) {
    gateway.client(email).chat("Hello [[tokens=12 in=100 out=57]]").await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_in_memory_are_asked_of_the_process_and_rebuilt_without_it() {
    let gateway = Setup::with(LIMITS).start().await;
    chat(&gateway, "ada@acme.test").await;
    gateway.usage_rows(1).await;
    gateway.all_settled().await;
    let (place, ada) = (beside(&gateway, "memory:"), User::new("ada@acme.test").id);

    let ran = explain_limits(&place, &ada, &["--json"]);
    ran.expect(0, &["asked of the Tollgate that runs at"]);
    assert_eq!(level(&ran, "member", "messages"), (1, 1));
    assert_eq!(level(&ran, "member", "tokens"), (157, 99_843));
    explain_limits(&place, &ada, &[]).expect(0, &["member messages per day", "limits[0]: any member", "limits[2]: org acme", "$50.00"]);
    let ran = explain_limits(&place, &ada, &["--role", "admin", "--json"]);
    assert_eq!(level(&ran, "member", "messages"), (1, 8), "another role has another limit on the same counter");

    explain_limits(&place, &ada, &["--role", "admin"]).expect(0, &["role admin (as the directory or a token of an issuer gives it)"]);
    // Nobody is asked with a token that would be refused: the running Tollgate would take it for an attack.
    let secretless = {
        let text = std::fs::read_to_string(place.path("tollgate.toml")).unwrap().replace("jwt_secret =", "# jwt_secret =");
        explain_limits(&Place::new(&text), &ada, &[])
    };
    secretless.expect(0, &["rebuilt from the usage rows", "cannot be asked without LibreChat's secret"]);
    explain_limits(&place, "key:0123456789abcdef", &[]).expect(0, &["rebuilt from the usage rows"]);
    explain_limits(&place, "ada@acme.test", &[]).expect(64, &["\"ada@acme.test\" is no member's id"]);
    assert!(gateway.audit_rows("auth.token_refused", 0).await.is_empty(), "no alarm was raised");

    let stranger = place.run_with(
        &["limits", "explain", "--org", "acme", "--member", &ada, "--json"],
        &[("TOLLGATE_LIBRECHAT__JWT_SECRET", "some-other-secret-0123456789")],
    );
    stranger.expect(0, &["rebuilt from the usage rows", "answers 401"]);
    assert_eq!(level(&stranger, "member", "tokens"), (157, 99_843));

    let TestGateway { running, librechat, folder } = gateway;
    assert!(running.stop(), "it stops cleanly");
    let ran = explain_limits(&place, &ada, &["--json"]);
    ran.expect(0, &["nothing listens at", "rebuilt from the usage rows"]);
    assert_eq!(level(&ran, "member", "messages"), (1, 1));
    assert_eq!(level(&ran, "member", "tokens"), (157, 99_843));
    drop((librechat, folder));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_in_redis_are_read_there() {
    let redis = RedisServer::start();
    let setup = Setup { store: redis.url(), ..Setup::with(&format!("{LIMITS}\n")) };
    let gateway = setup.start().await;
    chat(&gateway, "ada@acme.test").await;
    gateway.usage_rows(1).await;
    gateway.all_settled().await;
    let place = beside(&gateway, &redis.url());
    let ran = explain_limits(&place, &User::new("ada@acme.test").id, &["--json"]);
    ran.expect(0, &["read from Redis at"]);
    assert_eq!(level(&ran, "member", "tokens"), (157, 99_843));
    assert_eq!(level(&explain_limits(&place, "0123456789abcdef01234567", &["--json"]), "member", "tokens"), (0, 100_000));

    drop(redis);
    explain_limits(&place, "0123456789abcdef01234567", &[]).expect(1, &["Redis"]);
}

#[test]
fn what_is_asked_for_must_exist() {
    let place = Place::new("[[orgs]]\nid = 'acme'");
    let member = "0123456789abcdef01234567";
    place.run(&["limits", "explain", "--org", "acmee", "--member", member]).expect(64, &["\"acmee\"", "acme"]);
    place.run(&["limits", "explain", "--org", "acme", "--member", member, "--role", "root"]).expect(64, &["super_admin"]);
    place
        .run(&["limits", "explain", "--org", "acme", "--member", member])
        .expect(0, &["No limit applies", "nothing listens at", "no usage rows"]);
    let ran = explain_limits(&place, member, &[]);
    ran.expect(0, &["No limit applies", "cannot be asked without LibreChat's secret", "no usage rows"]);
    assert!(!place.path("tollgate.db").exists(), "asking makes no database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_explained_by_its_reference() {
    let gateway = Setup::with("[[limits]]\napplies_to = 'member'\nmessages_per_day = 0\nusd_per_day = 5.0").start().await;
    let refused = gateway.client("ada@acme.test").chat("Hello").await;
    assert!(refused.is_err() || refused.is_ok_and(|exchange| exchange.last().is_none()), "the chat is refused");
    let row = gateway.audit_rows("chat.refused", 1).await.remove(0);
    let reference = row.reference.expect("a refusal has a reference");
    let place = beside(&gateway, "memory:");

    let typed = format!("{}-{}", &reference[..5].to_lowercase(), &reference[5..]);
    let ran = place.run_with(&["explain", &typed], &[]);
    let ada = User::new("ada@acme.test").id;
    ran.expect(
        0,
        &[
            &reference,
            "refused at",
            "a limit did not leave room",
            &ada,
            "org acme",
            "limits[0]: any member",
            "messages per day of the member",
            "The estimate it was judged by",
            "counted with o200k_base, the nearest to the model's own",
            "Every limit that applied",
            "member cost per day",
            "$5.00",
            "answered 429",
        ],
    );
    let ran = place.run_with(&["explain", &reference, "--json"], &[]);
    let told: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(told["reference"], reference.as_str());
    assert_eq!(told["decision"]["refused_by"]["resource"], "messages");
    assert_eq!(told["decision"]["limits"].as_array().map(Vec::len), Some(2));

    let read = gateway.audit_rows("audit.read", 2).await.remove(0);
    assert_eq!((read.resource_id.as_deref(), read.org_id.as_deref()), (Some(&*reference), Some("acme")), "who reads it is audited");

    place.run_with(&["explain", "0123456789"], &[]).expect(1, &["holds no refusal with the reference 0123456789"]);
    place.run_with(&["explain", "what?"], &[]).expect(64, &["is no reference"]);
    Place::new("").run_with(&["explain", "0123456789"], &[]).expect(1, &["does not exist"]);
}
