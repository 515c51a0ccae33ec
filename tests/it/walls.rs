//! The check of the walls: it lets this crate pass, and finds every kind of breach.

use std::io::Result;
use std::path::Path;
use std::process::{Command, Output};

fn check(root: &Path) -> Result<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check-walls.sh");
    Command::new("bash").arg(script).arg(root).output()
}

fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The complaints about a crate that holds one file.
fn complaints_about(file: &str, code: &str) -> Result<String> {
    let crate_root = tempfile::tempdir()?;
    let path = crate_root.path().join(file);
    path.parent().map(std::fs::create_dir_all).transpose()?;
    std::fs::write(&path, code)?;
    let output = check(crate_root.path())?;
    assert_eq!(output.status.success(), output.stderr.is_empty(), "{file}: {output:?}");
    Ok(complaints(&output))
}

#[test]
fn the_walls_of_this_crate_stand() {
    let output = check(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(output.status.success(), "\n{}", complaints(&output));
}

#[test]
fn a_breach_is_found_with_its_place_and_its_rule() {
    for (file, code, rule) in [
        ("src/limits/memory.rs", "\n  use pingora_core::Result;\n", "Pingora"),
        ("src/app.rs", "\nfn f(x: &mut ::redis::Client) {}\n", "Redis"),
        ("src/limits/memory.rs", "\nuse redis as store;\n", "Redis"),
        ("src/records/recorder.rs", "\n#[derive(sqlx::FromRow)]\n", "sqlx"),
        ("src/proxy/relay.rs", "\nlet id = body[\"conversationId\"];\n", "LibreChat's JSON"),
        ("src/proxy/relay.rs", "\n#[serde(rename = \"streamId\")]\n#[cfg(test)]\nmod tests {}\n", "LibreChat's JSON"),
    ] {
        let complaints = complaints_about(file, code).unwrap();
        assert!(complaints.starts_with(&format!("{file}:2:")), "{file} with {code:?} gave: {complaints}");
        assert!(complaints.contains(rule), "{file} with {code:?} gave: {complaints}");
    }
}

#[test]
fn what_stands_in_its_own_room_is_no_breach() {
    for (file, code) in [
        ("src/proxy/admit.rs", "use pingora_proxy::Session;\n"),
        ("src/serve.rs", "use pingora_core::server::Server;\n"),
        ("src/limits/redis.rs", "use redis::Script;\n"),
        ("src/limits/redis_scripts.rs", "use redis::Script;\n"),
        ("src/shared/mod.rs", "use redis::aio::ConnectionManager;\n"),
        ("src/records/sqlite.rs", "use sqlx::SqlitePool;\n"),
        ("src/records/postgres.rs", "use sqlx::PgPool;\n"),
        ("src/db/mod.rs", "use sqlx::PgPool;\n"),
        ("src/limits/mod.rs", "pub use self::redis::RedisStore;\nuse crate::limits::redis::Other;\n"),
        ("src/librechat/frames.rs", "let id = body[\"conversationId\"];\n"),
        ("src/scripted/mod.rs", "let id = body[\"conversationId\"];\n"),
        ("src/proxy/relay.rs", "// Pingora's pingora_core::Result and sqlx::Error are only talked about.\n"),
        ("src/proxy/relay.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    const BODY: &str = r#\"{\"conversationId\":1}\"#;\n}\n"),
        ("src/error.rs", "const CODE: &str = \"SERVER_NOT_READY\";\n"),
    ] {
        assert_eq!(complaints_about(file, code).unwrap(), "", "{file} with {code:?}");
    }
}
