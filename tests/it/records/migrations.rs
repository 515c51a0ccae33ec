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
