//! Opening, migrating, and asking how a database stands.

use tollgate::db::{Database, DatabaseError, Status};

use super::{Place, stored, usage};
use crate::support::postgres::Postgres;

#[tokio::test]
async fn urls_that_name_no_database_are_refused_with_what_is_allowed() {
    for url in ["", "tollgate.db", "mysql://root@localhost/x", "redis://localhost"] {
        let error = Database::open(url).expect_err("not a database of records");
        assert!(matches!(error, DatabaseError::UnknownScheme(_)), "{url}: {error}");
        assert!(error.to_string().contains("sqlite:PATH"), "the message says what to write: {error}");
    }
    let error = Database::open("postgres://user@host:notaport/db").expect_err("a port is a number");
    assert!(matches!(error, DatabaseError::BadUrl(_)), "{error}");
}

#[tokio::test]
async fn sqlite_is_created_by_migrating_and_not_by_asking() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("with space.db");
    let database = Database::open(&format!("sqlite:{}", file.display())).expect("a file that is missing is no error");
    assert_eq!(database.status().await, Status::Missing(file.clone()));
    assert!(!file.exists(), "asking creates nothing");
    database.migrate().await.expect("migrating");
    assert_eq!(database.status().await, Status::Ready);
    assert_eq!(super::sqlite(&file, "PRAGMA journal_mode").await, "wal");
    database.close().await;
    assert!(!file.with_extension("db-wal").exists(), "closing leaves one whole file");
}

#[tokio::test]
async fn sqlite_in_memory_keeps_its_rows_as_long_as_it_is_open() {
    let database = Database::open("sqlite::memory:").expect("a database in memory");
    database.migrate().await.expect("migrating");
    let records = database.records();
    records.insert_usage(&stored([usage(1)])).await.expect("writing");
    assert_eq!(database.records().usage_rows(9).await.expect("reading").len(), 1);
}

#[tokio::test]
async fn sqlite_that_cannot_be_created_says_which_file() {
    let database = Database::open("sqlite:/nowhere/tollgate.db").expect("only a name so far");
    let error = database.migrate().await.expect_err("the folder does not exist").to_string();
    assert!(error.contains("/nowhere/tollgate.db"), "{error}");
}

#[tokio::test]
async fn postgres_that_is_away_says_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let database = Database::open(&format!("postgres://tollgate:hidden@127.0.0.1:{port}/tollgate")).expect("only a name so far");
    let Status::Unreachable(reason) = database.status().await else { panic!("nobody listens on port {port}") };
    assert!(reason.contains("refused") && !reason.contains("hidden"), "{reason}");
    assert!(matches!(database.migrate().await, Err(DatabaseError::Unreachable(_))));
}

#[tokio::test]
async fn postgres_that_is_empty_is_not_migrated_yet() {
    let server = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
    let database = Database::open(&server.database()).unwrap();
    assert!(matches!(database.status().await, Status::NotMigrated { pending: 1.. }));
    database.migrate().await.expect("migrating");
    assert_eq!(database.status().await, Status::Ready);
}

#[tokio::test]
async fn migrating_sqlite_again_changes_nothing() {
    migrating_again_changes_nothing(Place::sqlite().await, "SELECT group_concat(sql, ' ') FROM sqlite_schema").await;
}

#[tokio::test]
async fn migrating_postgres_again_changes_nothing() {
    let schema = "SELECT string_agg(table_name || column_name || data_type, ' ' ORDER BY table_name, ordinal_position) \
        FROM information_schema.columns WHERE table_schema = 'public'";
    migrating_again_changes_nothing(Place::postgres().await, schema).await;
}

async fn migrating_again_changes_nothing(place: Place, schema: &str) {
    let records = place.database.records();
    records.insert_usage(&stored([usage(1)])).await.expect("writing");
    let before = place.sql(schema).await;
    assert!(before.contains("total_tokens"), "the schema holds our tables: {before}");
    let newer = "INSERT INTO tollgate_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'from tomorrow', TRUE, '', 0)";
    let newer = if place.url.starts_with("sqlite:") { newer.replace("''", "x''") } else { newer.to_owned() };
    place.sql(&newer).await;
    let again = Database::open(&place.url).unwrap();
    again.migrate().await.expect("migrating again, also where a newer Tollgate has been");
    assert_eq!(place.sql(schema).await, before);
    assert_eq!(again.status().await, Status::Ready);
    assert_eq!(records.usage_rows(9).await.expect("reading").len(), 1, "rows stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_migrate_sqlite_at_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        many_migrate_at_once(&format!("sqlite:{}", folder.path().join("records.db").display())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_migrate_postgres_at_once() {
    let server = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
    for _ in 0..3 {
        many_migrate_at_once(&server.database()).await;
    }
}

async fn many_migrate_at_once(url: &str) {
    let migrating: Vec<_> = (0..8)
        .map(|_| {
            let database = Database::open(url).unwrap();
            tokio::spawn(async move { database.migrate().await })
        })
        .collect();
    for migrated in migrating {
        migrated.await.unwrap().expect("whoever comes second finds nothing left to do");
    }
    assert_eq!(Database::open(url).unwrap().status().await, Status::Ready);
}

/// Each migration's number and text, in order.
fn migrations(kind: &str) -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| (file.file_name().unwrap().display().to_string(), std::fs::read_to_string(file).unwrap())).collect()
}

/// What an older version, which knows the schema up to some migration, meets in the newest one: each column that it reads and
/// writes is there and of its type, takes what it took, and none that it does not know has to be written.
async fn older_versions_find_their_columns(place: Place, kind: &str, columns: &str) {
    type Column = (String, String, bool, bool);
    let read = |text: String| -> Vec<Column> {
        let columns = text.split(' ').filter(|column| !column.is_empty()).map(|column| {
            let parts: Vec<&str> = column.split('|').collect();
            assert_eq!(parts.len(), 4, "{column}");
            (parts[0].to_owned(), parts[1].to_owned(), parts[2] == "1", parts[3] == "1")
        });
        columns.collect()
    };
    let mut versions: Vec<(String, Vec<Column>)> = Vec::new();
    for (name, statements) in migrations(kind) {
        place.script(&statements).await;
        versions.push((name, read(place.sql(columns).await)));
    }
    let (last, newest) = versions.pop().expect("there are migrations");
    assert!(versions.len() > 4 && newest.len() > 100, "{last}: {newest:?}");
    for (version, known) in versions {
        for (name, kind, may_be_missing, _) in &known {
            let now = newest.iter().find(|(column, ..)| column == name);
            let now = now.unwrap_or_else(|| panic!("{name}, which the version up to {version} uses, is gone"));
            assert_eq!(now.1, *kind, "{name} is of another type than the version up to {version} knows");
            assert!(now.2 || !may_be_missing, "{name} could be left out by the version up to {version}");
        }
        let tables: std::collections::BTreeSet<&str> = known.iter().filter_map(|(name, ..)| name.split('.').next()).collect();
        for (name, _, may_be_missing, has_default) in &newest {
            let is_new = known.iter().all(|(column, ..)| column != name);
            let of_known_table = name.split('.').next().is_some_and(|table| tables.contains(table));
            assert!(!is_new || !of_known_table || *may_be_missing || *has_default, "the version up to {version} cannot leave out {name}");
        }
    }
}

#[tokio::test]
async fn older_versions_go_on_working_on_the_newest_postgres() {
    let columns = "SELECT coalesce(string_agg(table_name || '.' || column_name || '|' || replace(data_type, ' ', '_') || '|' || \
        (is_nullable = 'YES')::int || '|' || (column_default IS NOT NULL)::int, ' '), '') FROM information_schema.columns \
        WHERE table_schema = 'public' AND table_name IN (SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE')";
    older_versions_find_their_columns(Place::empty_postgres().await, "postgres", columns).await;
}

#[tokio::test]
async fn older_versions_go_on_working_on_the_newest_sqlite() {
    let columns = "SELECT coalesce(group_concat(tables.name || '.' || columns.name || '|' || columns.type || '|' || (NOT columns.\"notnull\") \
        || '|' || (columns.dflt_value IS NOT NULL), ' '), '') FROM sqlite_schema tables, pragma_table_info(tables.name) columns \
        WHERE tables.type = 'table'";
    older_versions_find_their_columns(Place::empty_sqlite(), "sqlite", columns).await;
}

#[test]
fn no_migration_takes_anything_away() {
    for kind in ["postgres", "sqlite"] {
        for (name, text) in migrations(kind) {
            let words: String =
                text.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join(" ").to_uppercase();
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            for gone in ["DROP TABLE", "DROP COLUMN", "RENAME", "ALTER COLUMN", "TRUNCATE", "SET NOT NULL"] {
                assert!(!words.contains(gone), "{kind}/{name} has {gone}: an older version may still need what that changes");
            }
        }
    }
}
