//! Rows in log files are the rows of the database, under the same names, and are all there after a stop.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tollgate::clock::ManualClock;
use tollgate::config::Config;
use tollgate::scripted::Options;

use crate::support::gateway::{Setup, TestGateway, value_of};

fn line(table: &str, row: &impl Serialize) -> Value {
    let mut line = serde_json::to_value(row).expect("JSON");
    line["table"] = table.into();
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_lines_of_the_day_in_the_configured_zone() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = ManualClock::at("2026-11-27T15:00:00Z".parse::<Timestamp>().expect("an instant"));
    let config = format!("[log.files]\nfolder = {:?}\ntime_zone = \"Asia/Seoul\"", folder.path());
    let librechat = Options { clock: clock.clone(), ..Options::default() };
    let gateway = Setup { librechat, clock, ..Setup::with(&config) }.start().await;
    gateway.client("ada@acme.test").chat("[[tools=1 tool=find_mcp_library tokens=2]]").await.expect("an answer");
    gateway.all_settled().await;
    let app = &gateway.running.app;
    let log = app.row_log.clone().expect("log files");
    let usage = app.records.usage_rows(10).await.expect("readable rows");
    let tools = app.records.tool_rows(10).await.expect("readable rows");
    let settled = app.records.audit_rows(10).await.expect("readable rows").into_iter().find(|row| row.action.starts_with("chat."));
    assert_eq!((usage.len(), tools.len()), (1, 1), "a chat that calls a tool");
    assert_eq!((&*tools[0].tool, tools[0].mcp_server.as_deref(), tools[0].time), ("find", Some("library"), usage[0].time));
    let TestGateway { running, librechat: _librechat, folder: _folder } = gateway;
    let app = running.app.clone();
    assert!(running.stop(), "everything is written");
    let text = std::fs::read_to_string(folder.path().join("tollgate-2026-11-28.jsonl")).expect("the file of the day in Seoul");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |table: &str| lines.iter().filter(|line| line["table"] == table).cloned().collect::<Vec<_>>();
    assert_eq!(of("usage_events"), [line("usage_events", &usage[0])]);
    assert_eq!(of("tool_calls"), [line("tool_calls", &tools[0])]);
    let settled = settled.expect("an audit row of the chat");
    let link = settled.link.clone().expect("a link");
    let mut settled = line("audit_events", &settled);
    settled.as_object_mut().expect("columns").remove("link");
    for (column, value) in [("chain_writer", link.writer.to_string()), ("chain_previous", link.previous), ("chain_hash", link.hash)] {
        settled[column] = value.into();
    }
    settled["chain_seq"] = link.seq.into();
    assert!(of("audit_events").contains(&settled), "{settled} in {text}");
    log.usage(&usage[0]);
    tollgate::admin::health::measure(&app).await;
    let counted = |result: &str| value_of(&app.metrics.exposition(), &format!("tollgate_log_file_lines_total{{result=\"{result}\"}}"));
    assert!(counted("written") >= 1.0 && counted("dropped") >= 1.0, "a line after the stop is dropped, and counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_stand_in_the_files_as_configured() {
    for (personal_fields, starts) in [("sealed", "sealed:1:"), ("clear", "ada")] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!("[log.files]\nfolder = {:?}\npersonal_fields = \"{personal_fields}\"", folder.path());
        let gateway = Setup::with(&config).start().await;
        gateway.client("ada@acme.test").chat("[[tokens=2]]").await.expect("an answer");
        gateway.all_settled().await;
        let TestGateway { running, librechat: _librechat, folder: _folder } = gateway;
        assert!(running.stop(), "everything is written");
        let file = std::fs::read_dir(folder.path()).expect("the folder").next().expect("a file").expect("its name").path();
        let text = std::fs::read_to_string(file).expect("the file");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let chat = lines.iter().find(|line| line["action"] == "chat.settled").unwrap_or_else(|| panic!("no chat in {text}"));
        assert!(chat["actor_name"].as_str().is_some_and(|name| name.starts_with(starts)), "{personal_fields}: {chat}");
        assert_eq!(chat["chain_hash"].as_str().map(str::len), Some(64), "and where it stands in its chain: {chat}");
    }
}

#[test]
fn a_folder_or_zone_that_is_not_there_is_an_error_of_the_configuration() {
    for (key, value, said) in [
        ("folder", json!("/no/such/folder"), "log.files.folder: /no/such/folder is no folder"),
        ("time_zone", json!("Seoul"), "log.files.time_zone: \"Seoul\" is no time zone"),
        ("keep", json!(0), "log.files.keep: 0 is not allowed"),
    ] {
        let text = format!("[librechat]\njwt_secret = \"0123456789abcdef\"\n[log.files]\n{key} = {value}");
        let error = Config::from_text(&text, "test", std::iter::empty()).expect_err("a bad configuration").to_string();
        assert!(error.contains(said), "{error}");
    }
}
