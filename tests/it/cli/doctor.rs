//! `tollgate doctor`: each finding by its id, as it should be and as it goes wrong.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::db::Database;
use tollgate::records::StoredUsage;
use tollgate::scripted::Wire;

use super::Place;
use super::live::{ada, in_front_of, librechat};
use crate::records::{stored, usage};
use crate::support::gateway::Setup;
use crate::support::postgres::Postgres;
use crate::support::redis::RedisServer;
use crate::support::wire::HandmadeLibreChat;

/// What the scripted LibreChat says of itself, whatever its port.
const ITS_DOMAIN: &str = "http://localhost:3080";

/// Every finding by its id, and whether the program was content.
struct Found(BTreeMap<String, Value>, bool);

impl Found {
    fn at(place: &Place, arguments: &[&str]) -> Self {
        let ran = place.run_with(&[&["doctor", "--json"], arguments].concat(), &[]);
        let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        let findings = told["findings"].as_array().expect("findings").iter();
        let by_id = findings.map(|finding| (finding["id"].as_str().expect("an id").to_owned(), finding.clone())).collect();
        let is_well = ran.status == Some(0);
        assert_eq!(told["ok"], is_well, "the exit status is what is told: {ran:?}");
        Self(by_id, is_well)
    }

    #[track_caller]
    fn expect(&self, id: &str, outcome: &str) -> &Value {
        let finding = self.0.get(id).unwrap_or_else(|| panic!("nothing was found of {id}: {:?}", self.0.keys()));
        assert_eq!(finding["outcome"], outcome, "{finding}");
        let change = finding["change"].as_str().unwrap_or_default();
        assert!(outcome != "warn" || !change.is_empty(), "what is to be looked at names what to change: {finding}");
        finding
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_well() {
    let (redis, postgres) = (RedisServer::start(), Postgres::shared());
    let librechat = librechat(Wire::Resumable).await;
    let stores = format!("[store]\nurl = '{}'\ntimeout_ms = 5000\n[records]\nurl = '{}'\n", redis.url(), postgres.database());
    let place = in_front_of(&librechat, &format!("{stores}[metrics]\nlisten = '127.0.0.1:1'\n"));
    place.run(&["migrate"]).expect(0, &[]);
    let env = format!("JWT_SECRET=\"{}\"\nDOMAIN_CLIENT={ITS_DOMAIN}\nDOMAIN_SERVER={ITS_DOMAIN}\nTRUST_PROXY=1\n", librechat.jwt_secret());
    place.write("librechat.env", &env);
    place.write("librechat.yaml", "version: 1.2.1\nendpoints:\n  custom:\n    - name: Lab\n      addParams: {streamUsage: true}\n");
    let files = ["--librechat-env", "librechat.env", "--librechat-yaml", "librechat.yaml"];
    let found = Found::at(&place, &[&["--as", &ada().id], &files[..]].concat());
    let well = [
        "librechat.reached",
        "librechat.secret",
        "librechat.wire",
        "librechat.clock",
        "librechat.version",
        "store.reached",
        "store.clock",
        "store.version",
        "records.reached",
        "records.clock",
        "records.version",
        "records.stream_usage",
        "yaml.stream_usage",
        "env.jwt_secret",
        "env.trust_proxy",
        "env.domain_client",
        "env.limit_message_ip",
        "env.limit_message_user",
        "env.limit_concurrent_messages",
        "env.bans",
        "env.login_max",
        "env.keep_alive",
        "env.openid_reuse_tokens",
    ];
    for id in well {
        // Without --url localhost could be meant.
        found.expect(id, if id == "env.domain_client" { "warn" } else { "ok" });
    }
    found.expect("librechat.domain", "skipped");
    found.expect("tollgate.ready", "skipped");
    assert!(found.1, "nothing fails");
    assert!(librechat.requests().iter().all(|request| request.method == "GET"), "LibreChat is only read");
    assert_eq!(redis.keys(), [] as [&str; 0], "nothing is left in Redis");

    let said = place.run_with(&["doctor", "--as", &ada().id], &[]);
    said.expect(0, &["ok       librechat.secret", "0 failed", "docs/doctor.md"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_that_people_open() {
    let gateway = Setup::default().start().await;
    let place = in_front_of(&gateway.librechat, &format!("[metrics]\nlisten = '{}'\n", gateway.running.metrics));
    let found = Found::at(&place, &["--url", &gateway.url()]);
    found.expect("address.tollgate", "ok");
    let around = found.expect("address.around", "warn");
    assert!(around["change"].as_str().is_some_and(|change| change.contains("close LibreChat's port")), "{around}");
    let domain = found.expect("librechat.domain", "fail");
    assert!(domain["change"].as_str().is_some_and(|change| change.contains(&format!("DOMAIN_SERVER={}", gateway.url()))), "{domain}");
    found.expect("tollgate.ready", "ok");
    assert!(!found.1, "something fails");

    // People still reach LibreChat itself.
    let found = Found::at(&place, &["--url", &gateway.librechat.url()]);
    found.expect("address.tollgate", "fail");
    let found = Found::at(&place, &["--url", "http://127.0.0.1:1"]);
    found.expect("address.tollgate", "fail");
    let found = Found::at(&place, &["--url", ITS_DOMAIN]);
    found.expect("librechat.domain", "ok");
    place.run_with(&["doctor", "--url", "chat.example"], &[]).expect(64, &["--url chat.example", "https://chat.example"]);
}

#[test]
fn each_setting_of_librechats_environment() {
    let place = Place::new("[librechat]\nupstreams = ['http://127.0.0.1:1']\njwt_secret = 'a-secret-of-librechat-0123456789'\n");
    let cases = [
        ("JWT_SECRET=another", "env.jwt_secret", "fail"),
        ("TRUST_PROXY=2", "env.trust_proxy", "warn"),
        ("TRUST_PROXY=true", "env.trust_proxy", "ok"),
        ("DOMAIN_CLIENT=https://chat.example/", "env.domain_client", "ok"),
        ("DOMAIN_CLIENT=http://localhost:3080", "env.domain_client", "fail"),
        ("DOMAIN_SERVER=https://old.example", "env.domain_server", "fail"),
        ("X=1", "env.domain_server", "fail"),
        ("LIMIT_MESSAGE_IP=true", "env.limit_message_ip", "warn"),
        ("LIMIT_MESSAGE_USER=true", "env.limit_message_user", "warn"),
        ("LIMIT_CONCURRENT_MESSAGES=True", "env.limit_concurrent_messages", "warn"),
        ("BAN_VIOLATIONS=true\nBAN_INTERVAL=5", "env.bans", "warn"),
        ("BAN_VIOLATIONS=true", "env.bans", "ok"),
        ("LOGIN_MAX=3", "env.login_max", "warn"),
        ("HTTP_KEEP_ALIVE_TIMEOUT_MS=1000", "env.keep_alive", "fail"),
        ("HTTP_KEEP_ALIVE_TIMEOUT_MS=70000", "env.keep_alive", "ok"),
        ("OPENID_REUSE_TOKENS=true", "env.openid_reuse_tokens", "fail"),
    ];
    for (line, id, outcome) in cases {
        place.write("librechat.env", line);
        let found = Found::at(&place, &["--librechat-env", "librechat.env", "--url", "https://chat.example.invalid"]);
        let outcome = if line.contains("https://chat.example/") { "fail" } else { outcome };
        found.expect(id, outcome);
    }
    place.write("librechat.env", "DOMAIN_CLIENT=https://chat.example.invalid/\n");
    let found = Found::at(&place, &["--librechat-env", "librechat.env", "--url", "https://chat.example.invalid"]);
    found.expect("env.domain_client", "ok");
    found.expect("env.jwt_secret", "skipped");
    place.run_with(&["doctor", "--librechat-env", "gone.env"], &[]).expect(64, &["gone.env"]);
}

#[test]
fn custom_endpoints_that_do_not_ask_are_named() {
    let place = Place::new("[librechat]\nupstreams = ['http://127.0.0.1:1']\njwt_secret = 'a-secret-of-librechat-0123456789'\n");
    let yaml = "endpoints:\n  custom:\n    - name: Lab\n    - name: Other\n      addParams: {streamUsage: true}\n    - {name: Third, addParams: {streamUsage: false}}\n";
    place.write("librechat.yaml", yaml);
    let found = Found::at(&place, &["--librechat-yaml", "librechat.yaml"]);
    let finding = found.expect("yaml.stream_usage", "warn");
    assert!(finding["said"].as_str().is_some_and(|said| said.ends_with("Lab, Third")), "{finding}");
    assert!(finding["change"].as_str().is_some_and(|change| change.contains("streamUsage: true")), "{finding}");
    found.expect("librechat.reached", "fail");
    place.write("librechat.yaml", "endpoints: [\n");
    place.run_with(&["doctor", "--librechat-yaml", "librechat.yaml"], &[]).expect(64, &["librechat.yaml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_were_charged_by_estimates_are_named() {
    let place = Place::new("[librechat]\nupstreams = ['http://127.0.0.1:1']\njwt_secret = 'a-secret-of-librechat-0123456789'\n");
    place.run(&["migrate"]).expect(0, &[]);
    let database = Database::open(&format!("sqlite:{}", place.path("tollgate.db").display())).expect("the place's database");
    let at = |age: SignedDuration| SystemClock.now() - age;
    let row = |number: u64, endpoint: &str, source: &str, time: Timestamp| {
        let [row]: [StoredUsage; 1] = stored([usage(number)]).try_into().expect("one row");
        StoredUsage { endpoint: endpoint.to_owned(), usage_source: source.to_owned(), time, ..row }
    };
    let hour = SignedDuration::from_hours(1);
    let mut rows: Vec<_> = (0..6).map(|number| row(number, "Lab", if number < 4 { "counted" } else { "frames" }, at(hour))).collect();
    rows.extend((10..16).map(|number| row(number, "openAI", "frames", at(hour))));
    rows.extend((20..30).map(|number| row(number, "Old", "counted", at(hour * 30))));
    rows.extend((40..43).map(|number| row(number, "Rare", "counted", at(hour))));
    database.records().insert_usage(&rows).await.expect("usage rows");
    database.close().await;
    let found = Found::at(&place, &[]);
    let finding = found.expect("records.stream_usage", "warn");
    assert!(finding["said"].as_str().is_some_and(|said| said.ends_with("by estimates: Lab (4 of 6)")), "{finding}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_librechat_of_another_time_and_an_old_one() {
    let upstream = HandmadeLibreChat::start(|request, mut wire| async move {
        let (target, html) = (request.target().to_owned(), "<html>");
        let body = if target == "/api/config" { r#"{"serverDomain":"https://chat.example"}"# } else { html };
        let status = if target == "/livez" { "404 Not Found" } else { "200 OK" };
        let date = (SystemClock.now() - SignedDuration::from_secs(90)).strftime("%a, %d %b %Y %H:%M:%S GMT");
        let head = format!("HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        wire.send(head + body).await;
        wire.finish().await;
        None
    })
    .await;
    let place = Place::new(&format!("[librechat]\nupstreams = ['{}']\njwt_secret = 'a-secret-of-librechat-0123456789'\n", upstream.url()));
    let found = Found::at(&place, &["--url", "https://chat.example"]);
    found.expect("librechat.reached", "ok");
    let clock = found.expect("librechat.clock", "fail");
    assert!(clock["said"].as_str().is_some_and(|said| said.contains("s behind ours")), "{clock}");
    found.expect("librechat.version", "warn");
    found.expect("librechat.domain", "ok");
}
