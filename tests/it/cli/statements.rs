//! What orgs are billed by, from the command line: statements, prices put right, exports.

use jiff::Timestamp;
use serde_json::Value;
use tollgate::records::reckoning::Which;
use tollgate::records::seal::{MemberKey, seal};
use tollgate::records::{AuditRow, Category, Link, Severity, UsageRow};
use uuid::Uuid;

use super::{Place, Ran};
use crate::records::{self, audit, stored, usage};

const PRICES: &str = "
version = 'put-right'
[default]
input = 1.00
output = 2.00
";

/// A place on this database, whose prices are a dollar and two for a million tokens.
fn beside(database: &records::Place) -> Place {
    let place = Place::new(&format!(
        "[records]\nurl = '{}'\n[records.retention]\nusage_days = 3650\n[prices]\nfile = 'prices.toml'\n[[orgs]]\nid = 'acme'\nname = 'Acme'\ntime_zone = 'Asia/Seoul'\n\
         [[orgs]]\nid = 'other'\nname = 'Other'\n",
        database.url
    ));
    place.write("prices.toml", PRICES);
    place
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// A row of September 2025, made long after anything that these tests close. It cost $1.
fn september(number: u64, member: &str) -> UsageRow {
    UsageRow {
        time: at("2025-09-20T12:00:00Z"),
        member_id: member.into(),
        org_day: "2025-09-20".to_owned(),
        org_month: "2025-09".to_owned(),
        cost_nanousd: 1_000_000_000,
        ..usage(number)
    }
}

async fn insert(database: &records::Place, rows: &[UsageRow]) {
    for rows in rows.chunks(500) {
        database.database.records().insert_usage(&stored(rows.iter().cloned())).await.expect("rows are written");
    }
}

fn run(place: &Place, words: &str) -> Ran {
    place.run_with(&words.split(' ').collect::<Vec<_>>(), &[])
}

#[track_caller]
fn json(ran: &Ran) -> Value {
    ran.expect(0, &[]);
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("no JSON ({error}): {ran:?}"))
}

async fn actions(database: &records::Place) -> Vec<String> {
    let mut rows = database.database.records().audit_rows(1000).await.expect("readable rows");
    assert!(rows.iter().all(|row| row.category.as_str() == "DATA"), "{rows:?}");
    rows.reverse();
    rows.into_iter().map(|row| row.action).collect()
}

/// Each test on both databases.
macro_rules! on_both_databases {
    ($($test:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::records::Place::sqlite().await).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::records::Place::postgres().await).await;
            })*
        }
    };
}

on_both_databases! {
    a_closed_month_stays_and_what_changes_is_in_the_next
    prices_are_put_right_once_however_often
    rows_are_exported_whole_and_in_order
    audit_rows_are_exported_sealed_or_not
}

async fn a_closed_month_stays_and_what_changes_is_in_the_next(database: records::Place) {
    let place = beside(&database);
    insert(&database, &[september(1, "ada"), UsageRow { usage_source: "context", ..september(2, "bob") }]).await;
    let open = json(&run(&place, "statement --org acme --month 2025-09 --format json"));
    assert!(open["closed_at"].is_null(), "{open}");
    assert_eq!(open["used"]["messages"], 2);
    assert_eq!(open["by_member"]["ada"]["cost_nanousd"], 1_000_000_000);
    assert_eq!((&open["estimated_permille"], &open["owed_nanousd"]), (&500.into(), &2_000_000_000_i64.into()));
    run(&place, "statement --org acme --month 2099-01 --close").expect(1, &["2099-01 is not over"]);
    run(&place, "statement --org nobody --month 2025-09").expect(64, &["there is no org \"nobody\"", "acme, other"]);
    run(&place, "statement --org acme --month 2025-9").expect(64, &["is no month"]);

    let closed = json(&run(&place, "statement --org acme --month 2025-09 --format json --close"));
    assert!(closed["closed_at"].is_string(), "{closed}");
    insert(&database, &[september(3, "ada")]).await;
    for close in ["", " --close"] {
        let again = json(&run(&place, &format!("statement --org acme --month 2025-09 --format json{close}")));
        assert_eq!(again, closed, "what was said is said for ever");
    }
    run(&place, "usage reprice --org acme --from 2025-09-01 --to 2025-09-30").expect(0, &["3 of 3 usage rows corrected"]);

    let october = json(&run(&place, "statement --org acme --month 2025-10 --format json"));
    let changes = october["corrections"].as_array().expect("changes");
    // 2,910 tokens in and 90 out cost $0.00309 by the new prices, where a row said a dollar.
    let told: Vec<_> = changes.iter().map(|change| (change["reason"].as_str().unwrap(), change["used"]["cost_nanousd"].as_i64())).collect();
    assert_eq!(
        told,
        [
            ("rated anew with price version put-right", Some(3 * (3_090_000 - 1_000_000_000))),
            ("rows that came after the month was closed", Some(1_000_000_000)),
        ]
    );
    assert_eq!(changes[1]["used"]["messages"], 1);
    json(&run(&place, "statement --org acme --month 2025-10 --format json --close"));
    let november = json(&run(&place, "statement --org acme --month 2025-11 --format json"));
    assert_eq!(november["corrections"], Value::Array(Vec::new()), "they are shown once");

    let text = run(&place, "statement --org acme --month 2025-10");
    text.expect(0, &["closed at", "correction of 2025-09: rows that came after the month was closed", "owed"]);
    let csv = run(&place, "statement --org acme --month 2025-09 --format csv");
    csv.expect(0, &["acme,2025-09,member,ada,1,2910,90,1000000000\r\n", "acme,2025-09,total,owed,0,0,0,2000000000\r\n"]);
    assert_eq!(
        actions(&database).await.iter().filter(|action| *action == "statement.closed").count(),
        2,
        "closing and reading are audited: {:?}",
        actions(&database).await
    );
    let kept = std::fs::read_to_string(place.path("tollgate.toml")).expect("the configuration");
    place.write("tollgate.toml", &kept.replace("usage_days = 3650", "usage_days = 1"));
    run(&place, "statement --org acme --month 2025-08").expect(1, &["kept for 1 days"]);
    assert_eq!(json(&run(&place, "statement --org acme --month 2025-09 --format json")), closed, "rows may go, statements stay");
    place.write("tollgate.toml", &kept);
    database.sql("UPDATE statements SET content = replace(content, '\"ada\"', '\"eve\"')").await;
    run(&place, "statement --org acme --month 2025-09").expect(1, &["was changed", "hash"]);
}

async fn prices_are_put_right_once_however_often(database: records::Place) {
    let place = beside(&database);
    let other = UsageRow { org_id: "other".into(), ..september(9, "eve") };
    let dear = UsageRow { model: "dear".to_owned(), ..september(3, "ada") };
    insert(&database, &[september(1, "ada"), september(2, "bob"), dear, other]).await;
    let whole = "usage reprice --org acme --from 2025-09-20 --to 2025-09-20";
    run(&place, &format!("{whole} --dry-run")).expect(0, &["3 of 3 usage rows would be corrected by -$2.990", "price version put-right"]);
    run(&place, &format!("{whole} --model dear")).expect(0, &["1 of 1 usage rows corrected"]);
    run(&place, whole).expect(0, &["2 of 3 usage rows corrected"]);
    run(&place, whole).expect(0, &["0 of 3 usage rows corrected"]);
    run(&place, "usage reprice --org acme --from 2025-09-21 --to 2025-09-30").expect(0, &["0 of 0"]);
    // There and back again.
    for (input, expected) in [("3.00", "3 of 3"), ("1.00", "3 of 3"), ("3.00", "3 of 3"), ("3.00", "0 of 3")] {
        place.write("prices.toml", &PRICES.replace("1.00", input));
        run(&place, whole).expect(0, &[expected]);
    }
    let statement = json(&run(&place, "statement --org acme --month 2025-09 --format json"));
    assert_eq!(statement["used"]["cost_nanousd"], 3 * (2910 * 3000 + 90 * 2000));
    assert_eq!(statement["as_recorded"]["cost_nanousd"], 3_000_000_000_i64, "rows stay as they were");
    let corrected = (3 * (2910 * 3000 + 90 * 2000)).to_string();
    let days = "SELECT CAST(SUM(cost_nanousd) AS BIGINT) FROM usage_daily WHERE org_id = 'acme'";
    assert_eq!(database.sql(days).await, corrected, "daily sums take corrections in");
    let counted = database.database.records().used_since(at("2025-09-01T00:00:00Z")).await.expect("sums");
    let cost = |days: &mut dyn Iterator<Item = tollgate::records::Sums>| days.map(|sums| sums.cost_nanousd).sum::<u64>().to_string();
    let acme = &mut counted.members.iter().filter(|day| &*day.org_id == "acme").map(|day| day.sums);
    assert_eq!(cost(acme), corrected, "counters that are rebuilt count at the corrected cost");
    let everyone: u64 = counted.everyone.iter().map(|day| day.sums.cost_nanousd).sum();
    assert_eq!((everyone - 1_000_000_000).to_string(), corrected, "everyone's too");
    let records = database.database.records();
    let which = |before| Which { since: at("2025-09-01T00:00:00Z"), before };
    let of_acme = records.used_by_org("acme", which(Uuid::max())).await.expect("sums");
    assert!(of_acme.iter().eq(counted.members.iter().filter(|day| &*day.org_id == "acme")), "as when all are counted: {of_acme:?}");
    assert_eq!(records.used_by_everyone(which(Uuid::max())).await.expect("sums"), counted.everyone);
    let first = records.usage_rows(10).await.expect("rows").iter().map(|row| row.generation_id).min().expect("a row");
    assert_eq!(records.used_by_org("acme", which(first)).await.expect("sums"), [], "nothing was before the first");
    assert_eq!(records.used_by_everyone(which(first)).await.expect("sums"), []);
    let unbilled = json(&run(&place, "statement --org other --month 2025-09 --format json"));
    assert_eq!(unbilled["used"]["cost_nanousd"], 1_000_000_000);
}

async fn rows_are_exported_whole_and_in_order(database: records::Place) {
    let place = beside(&database);
    let mut rows: Vec<_> = (1..=1234).map(|number| september(number, "ada")).collect();
    rows[0].member_id = "=HYPERLINK(\"http://evil\")".into();
    rows.push(UsageRow { time: at("2025-09-20T15:00:00Z"), ..september(2000, "late") });
    rows.push(UsageRow { org_id: "other".into(), ..september(2001, "eve") });
    insert(&database, &rows).await;

    let span = "--org acme --from 2025-09-01 --to 2025-09-20";
    let csv = run(&place, &format!("usage export {span} --format csv"));
    csv.expect(0, &["id,time,generation_id,org_id,member_id"]);
    assert_eq!(csv.out.lines().count(), 1 + 1234, "a day ends at midnight in Seoul, and other orgs are left out");
    assert!(csv.out.contains("\"'=HYPERLINK(\"\"http://evil\"\")\""), "a formula is text");
    assert!(!csv.err.contains('\r') && !csv.err.contains("rows"), "no bar where there is no terminal: {}", csv.err);

    let ran = run(&place, &format!("usage export {span} --format ndjson --output rows.ndjson"));
    ran.expect(0, &["1234 rows are in rows.ndjson"]);
    let text = std::fs::read_to_string(place.path("rows.ndjson")).expect("the file");
    let ids: Vec<Uuid> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().parse().unwrap()).collect();
    let expected: Vec<Uuid> = (1..=1234).map(|number| usage(number).id).collect();
    assert_eq!(ids, expected, "each once, in the order of time and id");

    run(&place, &format!("usage export {span} --format parquet --output rows.parquet")).expect(0, &["1234 rows are in rows.parquet"]);
    let ndjson: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parquet_rows(&place.path("rows.parquet")), ndjson, "a reader of Parquet sees the same rows");

    run(&place, &format!("usage export {span} --format csv --output no/such/folder.csv")).expect(1, &["cannot be written"]);
    run(&place, "usage export --org acme --from 2025-09-20 --to 2025-09-01 --format csv").expect(64, &["is after"]);
    let audit = run(&place, "audit export --from 2020-01-01 --to 2099-12-31 --format ndjson");
    audit.expect(0, &[]);
    let exported = |line: &&str| line.contains("\"action\":\"usage.exported\"") && line.contains("\"org_id\":\"acme\"");
    assert_eq!(audit.out.lines().filter(exported).count(), 4, "exports are audited, those that fail too: {}", audit.out);
    assert_eq!(actions(&database).await.last().map(String::as_str), Some("audit.exported"));
}

/// The columns of a table, in order.
async fn columns(database: &records::Place, table: &str) -> String {
    let question = if database.url.starts_with("sqlite:") {
        format!("SELECT group_concat(name) FROM (SELECT name FROM pragma_table_info('{table}') ORDER BY name)")
    } else {
        let names = "SELECT string_agg(column_name, ',' ORDER BY column_name COLLATE \"C\") FROM information_schema.columns";
        format!("{names} WHERE table_name = '{table}'")
    };
    database.sql(&question).await
}

async fn audit_rows_are_exported_sealed_or_not(database: records::Place) {
    let place = beside(&database);
    let now = at("2025-09-20T12:00:00Z");
    let key = MemberKey::generate("acme", "ada", now).expect("a key");
    database.database.member_keys().insert_keys(std::slice::from_ref(&key)).await.expect("the key is kept");
    let rows = (1..=600_u64).map(|number| {
        let mut row = AuditRow { time: now + jiff::SignedDuration::from_millis(number.cast_signed()), ..audit(number) };
        match number {
            1 => {
                row = AuditRow { id: row.id, ..AuditRow::plain(row.time, Category::System, Severity::Info, "gateway.started") };
            }
            _ => seal(&mut row, &key).expect("it can be sealed"),
        }
        row.link = (number > 2).then(|| Link { writer: Uuid::nil(), seq: number, previous: "0".repeat(64), hash: "1".repeat(64) });
        row
    });
    let rows: Vec<AuditRow> = rows.collect();
    for rows in rows.chunks(300) {
        database.database.records().insert_audit(&stored(rows.iter().cloned())).await.expect("rows are written");
    }

    let span = "--from 2025-09-20 --to 2025-09-20";
    let ndjson = |more: &str| {
        let ran = run(&place, &format!("audit export {span} --format ndjson{more}"));
        ran.expect(0, &[]);
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let sealed = ndjson("");
    assert_eq!(sealed.len(), 600);
    for (row, told) in rows.iter().zip(&sealed) {
        assert_eq!(serde_json::to_value(row).unwrap()["id"], told["id"], "in order");
        assert!(told["actor_name"].as_str().is_none_or(|name| name.starts_with("sealed:1:")), "{told}");
    }
    assert_eq!(sealed[0]["detail"], Value::Null);
    assert_eq!((&sealed[5]["status"], &sealed[5]["chain_seq"]), (&429.into(), &6.into()));
    assert_eq!(sealed[5]["detail"]["limit"]["used"], 200_000, "JSON in JSON is JSON");
    let opened = ndjson(" --unsealed");
    assert_eq!((&opened[5]["actor_name"], &opened[5]["address"]), (&"Ada".into(), &"192.0.2.1".into()));

    for (more, expected) in [("", &sealed), (" --unsealed", &opened)] {
        run(&place, &format!("audit export {span} --format parquet --output rows.parquet{more}"))
            .expect(0, &["600 rows are in rows.parquet"]);
        assert_eq!(&parquet_rows(&place.path("rows.parquet")), expected, "a reader of Parquet sees the same rows");
    }
    let org = run(&place, &format!("audit export --org acme {span} --format csv"));
    assert_eq!(org.out.lines().count(), 1 + 599, "what is of no org is left out");
    let unsealed = "SELECT COUNT(*) FROM audit_events WHERE action = 'audit.exported' AND CAST(detail AS TEXT) LIKE '%unsealed%true%'";
    assert_eq!(database.sql(unsealed).await, "2", "that they were opened is audited");

    for (command, table, more) in [("usage", "usage_events", Some("corrections_nanousd")), ("audit", "audit_events", None)] {
        let csv = run(&place, &format!("{command} export --org acme {span} --format csv"));
        let mut named: Vec<&str> = csv.out.lines().next().expect("names").split(',').filter(|name| Some(*name) != more).collect();
        named.sort_unstable();
        assert_eq!(named.join(","), columns(&database, table).await, "every column of {table} is exported");
    }
}

/// The rows of a Parquet file as the other format writes them.
fn parquet_rows(file: &std::path::Path) -> Vec<Value> {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;
    let reader = SerializedFileReader::new(std::fs::File::open(file).expect("the file")).expect("a whole Parquet file");
    let value = |name: &str, field: &Field| match field {
        Field::Null => Value::Null,
        Field::Long(number) => Value::from(*number),
        Field::Str(text) if name == "detail" => serde_json::from_str(text).expect("JSON"),
        Field::Str(text) => Value::from(text.as_str()),
        Field::TimestampMicros(micros) => Value::from(jiff::Timestamp::from_microsecond(*micros).expect("a time").to_string()),
        other => panic!("no column is of the type of {other:?}"),
    };
    let rows = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row"));
    rows.map(|row| row.get_column_iter().map(|(name, field)| (name.clone(), value(name, field))).collect()).collect()
}
