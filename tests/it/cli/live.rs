//! `check --live`, against what works, what does not, and nothing at all.

use tollgate::scripted::{Options, ScriptedLibreChat, Strangers, User, Wire};

use super::{Place, Ran};
use crate::issuers::publisher::{Publisher, Says};
use crate::issuers::signer::{Signer, key_set};
use crate::support::postgres::Postgres;
use crate::support::redis::RedisServer;

pub(super) async fn librechat(wire: Wire) -> ScriptedLibreChat {
    let options = Options { wire, users: vec![ada()], strangers: Strangers::Refused, ..Options::default() };
    ScriptedLibreChat::start(options).await.expect("a free port")
}

pub(super) fn ada() -> User {
    User::new("ada@acme.test")
}

/// A place in front of this LibreChat, with more configuration.
pub(super) fn in_front_of(librechat: &ScriptedLibreChat, config: &str) -> Place {
    let (url, secret) = (librechat.url(), librechat.jwt_secret());
    Place::new(&format!("[librechat]\nupstreams = ['{url}']\njwt_secret = '{secret}'\n{config}"))
}

fn check(place: &Place, user: Option<&str>) -> Ran {
    let mut arguments = vec!["check", "--live"];
    arguments.extend(user.into_iter().flat_map(|user| ["--as", user]));
    place.run_with(&arguments, &[])
}

/// What was said of one thing that was tried: `ok ...`, `failed ...` or `not tried ...`.
#[track_caller]
fn said_of(ran: &Ran, what: &str) -> String {
    let (_, tried) = ran.out.split_once("Tried:").unwrap_or_else(|| panic!("nothing was tried: {ran:?}"));
    let line = tried.lines().find(|line| line.contains(&format!("  {what}  ")) || line.contains(&format!("  {what} ")));
    line.unwrap_or_else(|| panic!("{what} was not tried:\n{}", ran.out)).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works() {
    let (redis, postgres) = (RedisServer::start(), Postgres::shared());
    let librechat = librechat(Wire::Resumable).await;
    let stores = format!("[store]\nurl = '{}'\ntimeout_ms = 5000\n[records]\nurl = '{}'", redis.url(), postgres.database());
    let place = in_front_of(&librechat, &stores);

    let ran = check(&place, Some(&ada().id));
    ran.expect(1, &["tollgate migrate"]);
    assert!(said_of(&ran, "records").starts_with("failed"), "an empty database is not migrated: {ran:?}");

    place.run(&["migrate"]).expect(0, &[]);
    let ran = check(&place, Some(&ada().id));
    ran.expect(0, &["The configuration is good."]);
    for what in ["LibreChat", "secret", "chat wire", "store", "records"] {
        assert!(said_of(&ran, what).starts_with("ok "), "{what}: {}", ran.out);
    }
    assert!(said_of(&ran, "chat wire").contains("0.8.2 and later"), "{}", ran.out);
    assert_eq!(redis.keys(), [] as [&str; 0], "nothing is left in Redis");
    assert!(librechat.requests().iter().all(|request| request.method == "GET"), "LibreChat is only read: {:?}", librechat.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_wire_is_told_apart() {
    let librechat = librechat(Wire::Direct).await;
    let ran = check(&in_front_of(&librechat, ""), Some(&ada().id));
    ran.expect(0, &["before 0.8.2", "the first start makes it"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_user_is_not_tried_without_one() {
    let librechat = librechat(Wire::Resumable).await;
    let ran = check(&in_front_of(&librechat, ""), None);
    ran.expect(0, &["--as ID"]);
    assert!(said_of(&ran, "secret").starts_with("not tried"), "{}", ran.out);
    assert!(said_of(&ran, "chat wire").starts_with("not tried"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_and_a_wrong_user_are_said() {
    let librechat = librechat(Wire::Resumable).await;
    let place = Place::new(&format!("[librechat]\nupstreams = ['{}']", librechat.url()));
    let ran = place.run(&["check", "--live", "--as", &ada().id]);
    ran.expect(1, &["JWT_SECRET"]);
    assert!(said_of(&ran, "secret").starts_with("failed"), "{}", ran.out);

    let place = in_front_of(&librechat, "");
    check(&place, Some(&User::new("nobody@acme.test").id)).expect(1, &["no such user"]);
    check(&place, Some("ada@acme.test")).expect(1, &["is no id of a LibreChat user"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_scripts_is_found_out() {
    let redis = RedisServer::start_without_scripts();
    let librechat = librechat(Wire::Resumable).await;
    let ran = check(&in_front_of(&librechat, &format!("[store]\nurl = '{}'\ntimeout_ms = 5000", redis.url())), None);
    ran.expect(1, &["does not run our scripts"]);
    assert!(said_of(&ran, "store").starts_with("failed"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_issuers_are_fetched() {
    let librechat = librechat(Wire::Resumable).await;
    let issuer = |name: &str, url: &str, algorithm: &str| {
        format!(
            "[[issuers]]\nname = '{name}'\norgs = ['acme']\nissuer = 'https://{name}.example'\naudience = 'a'\nalgorithm = '{algorithm}'\njwks_url = '{url}'\n"
        )
    };
    let publisher = Publisher::start(Says::Keys(key_set(&[&Signer::new("ES256", "k")]))).await;
    let good = issuer("good", &publisher.url, "ES256");
    let ran = check(&in_front_of(&librechat, &format!("[[orgs]]\nid = 'acme'\n{good}")), None);
    ran.expect(0, &["publishes keys for ES256: 1"]);
    assert!(said_of(&ran, "keys of good").starts_with("ok"), "{}", ran.out);

    let others = issuer("away", "http://127.0.0.1:1/keys", "ES256") + &issuer("other", &format!("{}?", publisher.url), "RS256");
    let ran = check(&in_front_of(&librechat, &format!("[[orgs]]\nid = 'acme'\n{good}{others}")), None);
    ran.expect(1, &["publishes no key for RS256 (1 others)", "let Tollgate reach it"]);
    for name in ["keys of away", "keys of other"] {
        assert!(said_of(&ran, name).starts_with("failed"), "{}", ran.out);
    }
    publisher.say(Says::Redirect("https://elsewhere.example/keys".to_owned()));
    let ran = check(&in_front_of(&librechat, &format!("[[orgs]]\nid = 'acme'\n{good}")), None);
    ran.expect(1, &["redirects are not followed"]);
}

#[test]
fn where_nothing_is_everything_is_said_at_once() {
    let place = Place::new(
        "[librechat]\nupstreams = ['http://127.0.0.1:1']\n[store]\nurl = 'redis://:hunter2@127.0.0.1:1'\n\
         [records]\nurl = 'postgres://me:hunter2@127.0.0.1:1/x'",
    );
    let ran = place.run(&["check", "--live", "--as", &ada().id]);
    ran.expect(1, &[]);
    for what in ["LibreChat", "store", "records"] {
        let said = said_of(&ran, what);
        assert!(said.starts_with("failed") && said.contains("correct "), "{what} says what to do: {said}");
    }
    assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"), "a password is shown: {ran:?}");

    let ran = Place::new("[librechat]\nupstreams = ['http://127.0.0.1:1']\n[records]\nurl = 'sqlite:/proc/x.db'").run(&["check", "--live"]);
    assert!(said_of(&ran, "records").starts_with("failed"), "a file that cannot be made: {}", ran.out);
}
