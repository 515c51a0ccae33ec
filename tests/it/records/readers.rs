//! A reader of one org sees that org's rows. Everything else here is an attempt to see more.

use tollgate::db::ReaderError;
use tollgate::records::{AuditRow, ToolRow, UsageRow};

use super::{Place, audit, stored, tool, usage};

/// What only the other org's rows hold. Attempts never spell it out, so that it can come from nowhere else.
const SECRET: &str = "secret-of-blue";

/// What readers see.
const SEEN: [&str; 17] = [
    "usage_events",
    "tool_calls",
    "audit_events",
    "usage_daily",
    "members_daily",
    "models_daily",
    "usage_by_hour",
    "tools_daily",
    "requests_daily",
    "usage_monthly",
    "tools_monthly",
    "requests_monthly",
    "usage_hourly",
    "chat_sessions",
    "usage_metrics",
    "orgs",
    "members",
];

/// A function that tells what it is shown, and costs so little that the planner would call it first.
const LEAK: &str = "CREATE FUNCTION pg_temp.leak(seen TEXT) RETURNS BOOLEAN LANGUAGE plpgsql COST 0.0000001 AS \
    $$ BEGIN RAISE NOTICE 'saw %', seen; RETURN TRUE; END $$;";

/// Attempts that need no names.
const ATTEMPTS: &[&str] = &[
    // Being somebody else.
    "SET ROLE postgres; SELECT * FROM public.usage_events",
    "SET SESSION AUTHORIZATION postgres; SELECT * FROM public.usage_events",
    "DO $$ BEGIN EXECUTE 'SET ROLE postgres'; END $$; SELECT * FROM public.usage_events",
    "SELECT set_config('role', 'postgres', FALSE); SELECT * FROM public.usage_events",
    "SELECT set_config('session_authorization', 'postgres', FALSE); SELECT * FROM public.usage_events",
    // Settings.
    "SET tollgate.org = 'blue'; SET app.org_id = 'blue'; SELECT * FROM usage_events",
    "SELECT set_config('tollgate_reader.org', 'blue', FALSE); SELECT * FROM usage_events",
    "SET row_security = off; SELECT * FROM usage_events",
    // Saying whose reader one is.
    "UPDATE tollgate_reader.roles SET org_id = 'blue'; SELECT * FROM usage_events",
    "INSERT INTO tollgate_reader.roles VALUES (session_user, 'blue') ON CONFLICT (role_name) DO UPDATE SET org_id = 'blue'",
    "CREATE TEMP TABLE roles (role_name NAME, org_id TEXT); INSERT INTO roles VALUES (session_user, 'blue'); SELECT * FROM usage_events",
    "CREATE OR REPLACE FUNCTION tollgate_reader.org() RETURNS TEXT LANGUAGE SQL AS 'SELECT ''blue'''; SELECT * FROM usage_events",
    "CREATE FUNCTION pg_temp.org() RETURNS TEXT LANGUAGE SQL AS 'SELECT ''blue'''; SET search_path = pg_temp, tollgate_reader; \
     SELECT * FROM usage_events",
    "CREATE SCHEMA mine; SELECT * FROM usage_events",
    "CREATE FUNCTION public.session_user() RETURNS NAME LANGUAGE SQL AS 'SELECT ''x''::NAME'; SELECT * FROM usage_events",
    "CREATE OPERATOR public.= (FUNCTION = texteq, LEFTARG = TEXT, RIGHTARG = TEXT); SELECT * FROM usage_events",
    // Other ways to the tables.
    "SET search_path = public; SELECT * FROM usage_daily",
    "COPY public.usage_events TO STDOUT",
    "COPY (SELECT * FROM tollgate_reader.usage_events) TO STDOUT",
    "COPY (SELECT * FROM tollgate_reader.usage_events) TO PROGRAM 'cat'",
    "SELECT u.* FROM tollgate_reader.usage_daily AS mine JOIN public.usage_daily AS u USING (org_day)",
    "SELECT query_to_xml('SELECT * FROM public.usage_events', TRUE, FALSE, '')",
    "SELECT table_to_xml('public.usage_events', TRUE, FALSE, '')",
    "SELECT database_to_xml(TRUE, FALSE, '')",
    "CREATE TEMP VIEW mine AS SELECT * FROM public.usage_events; SELECT * FROM mine",
    "CREATE TEMP VIEW mine AS SELECT * FROM tollgate_reader.usage_events; SELECT * FROM mine",
    "CREATE OR REPLACE VIEW tollgate_reader.usage_events AS SELECT * FROM public.usage_events",
    "ALTER VIEW tollgate_reader.usage_events SET (security_barrier = FALSE)",
    "ALTER TABLE public.usage_daily DISABLE ROW LEVEL SECURITY; SELECT * FROM public.usage_daily",
    "LOCK TABLE public.usage_events; SELECT * FROM public.usage_events",
    // What the planner knows.
    "SELECT * FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    "SELECT * FROM pg_stats_ext",
    "SELECT * FROM pg_statistic",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM tollgate_reader.usage_events WHERE member_id > 'a'",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM tollgate_reader.usage_monthly",
    "SELECT query FROM pg_stat_activity",
    // Joins, sets and samples over a barrier.
    "SELECT * FROM usage_events RIGHT JOIN (SELECT 1) AS one ON TRUE",
    "SELECT * FROM usage_events TABLESAMPLE SYSTEM (100)",
    "WITH RECURSIVE r AS (SELECT member_id FROM usage_events UNION SELECT member_id FROM usage_daily) SELECT * FROM r",
    "SELECT * FROM usage_events WHERE org_id = 'blue' OR TRUE",
    "SELECT * FROM audit_events WHERE org_id IS NULL",
    // Values in the words of errors.
    "SELECT * FROM usage_events WHERE member_id::INTEGER = 1",
    "SELECT * FROM usage_daily WHERE model::INTEGER = 1",
    "SELECT * FROM chat_sessions WHERE user_id::INTEGER = 1",
    "SELECT member_id::INTEGER FROM usage_monthly",
    // Files and programs.
    "SELECT pg_read_file('global/pg_control')",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION file_fdw",
    "SELECT lo_import('/etc/passwd')",
];

#[tokio::test]
async fn a_reader_of_one_org_sees_no_other_on_postgres() {
    a_reader_sees_one_org(Place::postgres().await).await;
}

#[tokio::test]
async fn a_reader_of_one_org_sees_no_other_on_timescale() {
    if let Some(place) = Place::timescale().await {
        a_reader_sees_one_org(place).await;
    }
}

#[tokio::test]
async fn sqlite_has_no_readers() {
    let error = Place::sqlite().await.database.create_reader("acme", None).await.expect_err("no roles");
    assert!(matches!(error, ReaderError::NoRoles), "{error}");
}

/// Roles belong to the server and not to a database, so that each test has names of its own.
struct Roles {
    acme: String,
    blue: String,
    everyone: String,
}

async fn a_reader_sees_one_org(place: Place) {
    fill(&place).await;
    let own = place.url.rsplit('_').next().unwrap_or_default();
    let roles = Roles { acme: format!("acme_{own}"), blue: format!("blue_{own}"), everyone: format!("everyone_{own}") };
    let made = place.database.create_reader("acme", Some(&roles.acme)).await.expect("a reader of acme");
    assert!(made.password.is_some_and(|password| password.len() == 32), "a new role has a password");
    place.database.create_reader("blue", Some(&roles.blue)).await.expect("a reader of blue");
    own_rows_are_seen(&place, &roles);
    for attempt in attempts(&place, &roles).await {
        let said = place.server().said_to(&roles.acme, &place.url, &attempt);
        assert!(!said.contains(SECRET), "a reader of acme saw blue's rows by:\n{attempt}\n\n{said}");
    }
    failing_tells_nothing(&place, &roles);
    nothing_can_be_changed(&place, &roles).await;
    rights_on_tables_still_show_one_org(&place, &roles).await;
    readers_are_made_once(&place, &roles).await;
}

async fn fill(place: &Place) {
    let records = place.database.records();
    let blue_usage = |number| UsageRow {
        org_id: "blue".into(),
        member_id: SECRET.into(),
        model: format!("model-{SECRET}"),
        // What is of no member has it too.
        org_month: SECRET.to_owned(),
        conversation_id: Some(SECRET.to_owned()),
        ..usage(number)
    };
    records.insert_usage(&stored([usage(1), usage(2), blue_usage(3), blue_usage(4), blue_usage(5)])).await.expect("usage rows");
    let blue_audit = AuditRow { org_id: Some("blue".into()), actor_id: Some(SECRET.into()), error: Some(SECRET.to_owned()), ..audit(2) };
    let of_no_org = AuditRow { org_id: None, org_day: None, error: Some(SECRET.to_owned()), ..audit(3) };
    records.insert_audit(&stored([audit(1), blue_audit, of_no_org])).await.expect("audit rows");
    let blue_tool = ToolRow { org_id: "blue".into(), member_id: SECRET.into(), tool: SECRET.to_owned(), ..tool(2) };
    records.insert_tools(&[tool(1), blue_tool]).await.expect("tool rows");
    for (org, name) in [("acme", "Acme"), ("blue", SECRET)] {
        let org_row = format!(
            "INSERT INTO orgs VALUES ('{org}', '{name}', '', NULL, 'UTC', 'active', NULL, NULL, '', NULL, 'none', FALSE, now(), now(), 1)"
        );
        let member = format!(
            "INSERT INTO members (id, org_id, external_id, librechat_id, name, role, status, created_at, updated_at, revision) \
             VALUES (gen_random_uuid(), '{org}', 'external', '{org}-1', '{name}', 'user', 'active', now(), now(), 1)"
        );
        place.script(&format!("{org_row}; {member}")).await;
    }
    place.sql("ANALYZE").await;
}

fn own_rows_are_seen(place: &Place, roles: &Roles) {
    for table in SEEN {
        let all = place.server().said_to(&roles.acme, &place.url, &format!("SELECT * FROM {table}"));
        assert!(!all.contains("ERROR") && all.contains("acme") && !all.contains(SECRET), "{table} as a reader of acme sees it: {all}");
        let all = place.server().said_to(&roles.blue, &place.url, &format!("SELECT * FROM {table}"));
        assert!(all.contains(SECRET) && !all.contains("acme"), "{table} as a reader of blue sees it: {all}");
    }
    let sum = place.server().said_to(&roles.acme, &place.url, "SELECT SUM(messages) FROM usage_monthly");
    assert_eq!(sum.trim(), "2", "sums are the org's own");
}

async fn attempts(place: &Place, roles: &Roles) -> Vec<String> {
    let Roles { acme, blue, .. } = roles;
    let mut attempts: Vec<String> = ATTEMPTS.iter().map(|attempt| (*attempt).to_owned()).collect();
    attempts.extend([
        format!("SET ROLE {blue}; SELECT * FROM tollgate_reader.usage_events"),
        format!("SET SESSION AUTHORIZATION {blue}; SELECT * FROM tollgate_reader.usage_events"),
        format!("GRANT {blue} TO {acme}; SET ROLE {blue}; SELECT * FROM tollgate_reader.usage_events"),
        format!("ALTER ROLE {acme} RENAME TO other; SELECT * FROM tollgate_reader.usage_events"),
        format!("ALTER ROLE {acme} BYPASSRLS; SELECT * FROM public.usage_daily"),
    ]);
    for table in SEEN {
        attempts.push(format!("SELECT * FROM public.{table}"));
        attempts.push(format!("{LEAK} SELECT * FROM tollgate_reader.{table} AS seen WHERE pg_temp.leak(seen::TEXT)"));
        attempts.push(format!("{LEAK} SELECT COUNT(*) FROM tollgate_reader.{table} AS seen GROUP BY pg_temp.leak(seen::TEXT)"));
    }
    for column in ["member_id", "model", "conversation_id"] {
        let select = format!("SELECT 1 FROM tollgate_reader.usage_events WHERE pg_temp.leak({column})");
        attempts.push(format!("{LEAK} {select}"));
        attempts.push(format!("{LEAK} EXPLAIN ANALYZE {select} AND org_id = 'blue'"));
    }
    // Whatever tables TimescaleDB keeps chunks and aggregates in.
    let hidden = "SELECT COALESCE(string_agg(format('%I.%I', nspname, relname), ' '), '') FROM pg_class JOIN pg_namespace AS space \
        ON space.oid = relnamespace WHERE starts_with(nspname, '_timescaledb') AND relkind IN ('r', 'v', 'p', 'm')";
    let hidden = place.sql(hidden).await;
    attempts.extend(hidden.split_whitespace().map(|table| format!("SELECT * FROM {table}")));
    attempts
}

/// Divisions by zero that would only come about over the other org's rows.
fn failing_tells_nothing(place: &Place, roles: &Roles) {
    for table in ["usage_events", "usage_daily", "usage_monthly", "tool_calls"] {
        let divides = "1 / (CASE WHEN member_id LIKE 'secret%' THEN 0 ELSE 1 END)";
        let attempt = format!("SELECT {divides} FROM tollgate_reader.{table} WHERE {divides} = 1");
        let said = place.server().said_to(&roles.acme, &place.url, &attempt);
        assert!(!said.contains("division"), "a reader of acme learnt of blue's rows by:\n{attempt}\n\n{said}");
    }
}

async fn nothing_can_be_changed(place: &Place, roles: &Roles) {
    for write in [
        "DELETE FROM tollgate_reader.usage_events",
        "UPDATE tollgate_reader.usage_daily SET messages = 0",
        "INSERT INTO tollgate_reader.usage_daily SELECT * FROM tollgate_reader.usage_daily",
        "DELETE FROM public.usage_events",
        "TRUNCATE public.usage_events",
        "DROP VIEW tollgate_reader.usage_events",
        "SELECT * FROM tollgate_reader.usage_events FOR UPDATE",
    ] {
        let said = place.server().said_to(&roles.acme, &place.url, write);
        assert!(said.contains("ERROR"), "a reader may not {write}: {said}");
    }
    assert_eq!(place.sql("SELECT COUNT(*) FROM usage_events").await, "5");
    assert_eq!(place.sql("SELECT COUNT(*) FROM tollgate_reader.roles").await, "2");
    assert_eq!(place.sql("SELECT COUNT(*) FROM tollgate_reader.usage_events").await, "0", "who reads for no org sees none there");
}

/// Should somebody give a reader rights on tables, row security still stands, where there is row security.
async fn rights_on_tables_still_show_one_org(place: &Place, roles: &Roles) {
    let Roles { acme, everyone, .. } = roles;
    place.script(&format!("CREATE ROLE {everyone} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {everyone}")).await;
    let mut secured = 0;
    let tables = [
        "usage_events",
        "tool_calls",
        "audit_events",
        "usage_daily",
        "members_daily",
        "models_daily",
        "usage_by_hour",
        "tools_daily",
        "requests_daily",
    ];
    for table in tables {
        let select = format!("SELECT * FROM public.{table}");
        if place.sql(&format!("SELECT relrowsecurity FROM pg_class WHERE oid = 'public.{table}'::REGCLASS")).await == "t" {
            secured += 1;
            place.script(&format!("GRANT SELECT ON public.{table} TO {acme}")).await;
            let said = place.server().said_to(acme, &place.url, &select);
            assert!(said.contains("acme") && !said.contains(SECRET), "row security of {table}: {said}");
            let said = place.server().said_to(acme, &place.url, &format!("SET row_security = off; {select}"));
            assert!(!said.contains(SECRET), "row security of {table} cannot be turned off: {said}");
        }
        let said = place.server().said_to(everyone, &place.url, &select);
        assert!(said.contains("acme") && said.contains(SECRET), "who is no reader sees {table} as before: {said}");
    }
    let on_timescale = place.sql("SELECT COUNT(*) FROM pg_extension WHERE extname = 'timescaledb'").await == "1";
    assert_eq!(secured, if on_timescale { 6 } else { 9 }, "plain tables have row security");
    place.database.records().insert_usage(&stored([usage(6)])).await.expect("Tollgate itself still writes");
}

async fn readers_are_made_once(place: &Place, roles: &Roles) {
    let Roles { acme, everyone, .. } = roles;
    let again = place.database.create_reader("acme", Some(acme)).await.expect("again");
    assert_eq!(again.password, None, "its password stays as it is");
    for (org, role) in [("blue", acme.as_str()), ("acme", "postgres"), ("acme", everyone.as_str())] {
        let error = place.database.create_reader(org, Some(role)).await.expect_err("somebody else's role");
        assert!(matches!(error, ReaderError::Taken(_)), "{error}");
    }
    for name in ["", "Acme", "a b", "a\"b", "1a", "a;drop role x", "a".repeat(64).as_str()] {
        let error = place.database.create_reader("acme", Some(name)).await.expect_err("no name for a role");
        assert!(matches!(error, ReaderError::BadName(_)), "{error}");
    }
    // An org's id may hold anything.
    let (odd, org) = (format!("odd_{acme}"), "o'; DROP TABLE x; -- \\");
    place.database.create_reader(org, Some(&odd)).await.expect("an odd org");
    assert_eq!(place.server().said_to(&odd, &place.url, "SELECT tollgate_reader.org()").trim(), org);
    let script = place.database.reader_script("acme", Some("printed")).await.expect("a script");
    assert!(script.contains("CREATE ROLE printed LOGIN") && script.contains("security_barrier"), "{script}");
    // Tables grow; so do the views, and what is granted stays.
    place.script("ALTER TABLE usage_daily ADD COLUMN grown TEXT").await;
    place.database.migrate().await.expect("migrating");
    let said = place.server().said_to(acme, &place.url, "SELECT COUNT(*), MAX(grown) FROM usage_daily");
    assert!(!said.contains("ERROR"), "{said}");
}
