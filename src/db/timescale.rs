//! TimescaleDB, where it can be had: the event tables become hypertables whose old chunks are compressed and dropped, and
//! hours become a continuous aggregate. Everything here is also there without it, by other means.
//!
//! What is to be done is found out by looking, one [`Step`] for each thing that is not as it should be, so that doing it
//! again does nothing and what was interrupted goes on.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::records::retention::{EventTable, Held, Retention};

/// Whether it can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// No, and why, for people.
    No(&'static str),
    /// It can be installed in this database.
    Available,
    /// It is in this database, with the licence that compression and continuous aggregates need.
    Installed,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// For people.
    pub(super) says: String,
    /// Statements, each a transaction of its own.
    pub(super) sql: Vec<String>,
}

/// How a table is cut and compressed.
struct Layout {
    table: EventTable,
    /// How much time a chunk holds.
    ///
    /// The newest chunk and its indexes should fit in a quarter of the memory (TimescaleDB's own rule), and there should
    /// not be so many that planning shows: looking up a row by its id asks every chunk. Measured, 30 days of 5 million
    /// usage rows take 963 MB, so that a week takes 225 MB, and two years are 105 chunks. System metrics are few, but kept
    /// by the month: days let them go in time.
    chunk_days: u32,
    /// The age at which a chunk is compressed. Rows that come late, after an outage, should find theirs open.
    compress_days: u32,
    /// Rows that are asked for together are compressed together.
    segment_by: &'static str,
}

const LAYOUTS: [Layout; 4] = [
    Layout { table: EventTable::Usage, chunk_days: 7, compress_days: 14, segment_by: "org_id" },
    Layout { table: EventTable::Tools, chunk_days: 7, compress_days: 14, segment_by: "org_id" },
    Layout { table: EventTable::Audit, chunk_days: 7, compress_days: 14, segment_by: "org_id" },
    Layout { table: EventTable::System, chunk_days: 1, compress_days: 2, segment_by: "server" },
];

/// The part of it that is under the Apache licence has neither compression, nor continuous aggregates, nor policies.
const UNLICENSED: &str = "this TimescaleDB is without its Community licence";

/// Looks for it. Only a superuser may read what is preloaded, but everyone a setting that comes with it.
pub(super) async fn find(connection: &mut PgConnection) -> Result<Found, sqlx::Error> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS installed, \
         EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') AS available, \
         current_setting('timescaledb.disable_load', true) IS NOT NULL AS preloaded, \
         COALESCE(current_setting('timescaledb.license', true), '') AS licence, \
         has_database_privilege(current_database(), 'CREATE') AS allowed",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (available, preloaded, allowed): (bool, bool, bool) =
        (row.try_get("available")?, row.try_get("preloaded")?, row.try_get("allowed")?);
    if !row.try_get::<bool, _>("installed")? {
        // The server's setting can be read before, what a build comes with only after it is installed.
        if available && row.try_get::<String, _>("licence")? == "apache" {
            return Ok(Found::No(UNLICENSED));
        }
        return Ok(match (available, preloaded, allowed) {
            (false, ..) => Found::No("TimescaleDB is not there"),
            (true, false, _) => Found::No("TimescaleDB is there, but not in shared_preload_libraries"),
            (true, true, false) => Found::No("TimescaleDB is there, but this user may not install it in this database"),
            (true, true, true) => Found::Available,
        });
    }
    let licence: Option<String> = sqlx::query_scalar("SELECT current_setting('timescaledb.license', true)").fetch_one(connection).await?;
    Ok(match licence.as_deref() {
        Some("timescale") => Found::Installed,
        _ => Found::No(UNLICENSED),
    })
}

/// The step that brings it into this database.
pub(super) fn install() -> Step {
    Step { says: "install the extension timescaledb".to_owned(), sql: vec!["CREATE EXTENSION IF NOT EXISTS timescaledb".to_owned()] }
}

/// What is not as it should be. `installed` is false where the extension is about to be.
pub(super) async fn layout_steps(connection: &mut PgConnection, installed: bool) -> Result<Vec<Step>, sqlx::Error> {
    let mut steps = Vec::new();
    for layout in &LAYOUTS {
        let is_hypertable = installed && exists(connection, HYPERTABLE, layout.table.name()).await?;
        if !is_hypertable {
            steps.push(layout.hypertable());
        }
        if !is_hypertable || !exists(connection, COMPRESSED, layout.table.name()).await? {
            steps.push(layout.compression());
        }
    }
    if !installed || !exists(connection, CONTINUOUS, "usage_hourly").await? {
        steps.push(hourly());
    }
    Ok(steps)
}

/// What is to be done so that the rows of the tables are dropped in time, or not at all while an org's are held.
///
/// Audit rows are not among them: before they go an anchor of their chain is left, which only Tollgate can do.
pub(super) async fn retention_steps(
    connection: &mut PgConnection,
    installed: bool,
    retention: &Retention,
    held: &Held,
) -> Result<Vec<Step>, sqlx::Error> {
    let mut steps = Vec::new();
    for table in EventTable::ALL.into_iter().filter(|table| *table != EventTable::Audit) {
        let kept: Option<String> = if installed {
            sqlx::query_scalar(RETAINED).bind(table.name()).fetch_optional(&mut *connection).await?.flatten()
        } else {
            None
        };
        let wanted = (held.is_empty() || !table.is_of_orgs()).then(|| format!("{} days", retention.days(table)));
        if kept == wanted {
            continue;
        }
        let name = table.name();
        let mut sql = vec![format!("SELECT remove_retention_policy('{name}', if_exists => true)")];
        let says = match &wanted {
            Some(wanted) => {
                sql.push(format!("SELECT add_retention_policy('{name}', INTERVAL '{wanted}')"));
                format!("drop chunks of {name} after {wanted}")
            }
            None => format!("no longer drop whole chunks of {name}: rows of some orgs are held"),
        };
        steps.push(Step { says, sql });
    }
    Ok(steps)
}

const HYPERTABLE: &str =
    "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema() AND hypertable_name = $1)";

const COMPRESSED: &str = "SELECT EXISTS (SELECT FROM timescaledb_information.jobs WHERE hypertable_schema = current_schema() \
    AND hypertable_name = $1 AND proc_name IN ('policy_compression', 'policy_columnstore'))";

const CONTINUOUS: &str =
    "SELECT EXISTS (SELECT FROM timescaledb_information.continuous_aggregates WHERE view_schema = current_schema() AND view_name = $1)";

const RETAINED: &str = "SELECT config->>'drop_after' FROM timescaledb_information.jobs \
    WHERE hypertable_schema = current_schema() AND hypertable_name = $1 AND proc_name = 'policy_retention'";

async fn exists(connection: &mut PgConnection, query: &'static str, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(query).bind(name).fetch_one(connection).await
}

impl Layout {
    fn hypertable(&self) -> Step {
        let Self { table, chunk_days, .. } = self;
        let name = table.name();
        Step {
            says: format!("make {name} a hypertable with chunks of {chunk_days} days; it cannot be written meanwhile"),
            sql: vec![
                // It refuses row security on what it compresses; readers of one org have views.
                format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"),
                format!(
                    "SELECT create_hypertable('{name}', 'time', chunk_time_interval => INTERVAL '{chunk_days} days', migrate_data => true, \
                 if_not_exists => true, create_default_indexes => false)"
                ),
            ],
        }
    }

    fn compression(&self) -> Step {
        let Self { table, compress_days, segment_by, .. } = self;
        let name = table.name();
        Step {
            says: format!("compress chunks of {name} after {compress_days} days"),
            sql: vec![
                format!(
                    "ALTER TABLE {name} SET (timescaledb.compress, timescaledb.compress_segmentby = '{segment_by}', \
                     timescaledb.compress_orderby = 'time DESC, id')"
                ),
                format!("SELECT add_compression_policy('{name}', INTERVAL '{compress_days} days', if_not_exists => true)"),
            ],
        }
    }
}

/// Real-time: hours that are not aggregated yet are read from the rows, so that a reader sees what the plain view shows.
/// The policy looks back far enough for rows that an outage kept waiting.
fn hourly() -> Step {
    Step {
        says: "keep usage_hourly as a continuous aggregate in place of a view".to_owned(),
        sql: vec![
            // Views of readers that stand on it are made anew afterwards.
            "DO $$ BEGIN IF EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('usage_hourly') AND relkind = 'v') \
             THEN DROP VIEW usage_hourly CASCADE; END IF; END $$"
                .to_owned(),
            include_str!("usage_hourly.sql").to_owned(),
            "CALL refresh_continuous_aggregate('usage_hourly', NULL, NULL)".to_owned(),
            "SELECT add_continuous_aggregate_policy('usage_hourly', start_offset => INTERVAL '14 days', \
             end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '15 minutes', if_not_exists => true)"
                .to_owned(),
        ],
    }
}

/// Does it.
pub(super) async fn take(connection: &mut PgConnection, step: &Step) -> Result<(), sqlx::Error> {
    for statement in &step.sql {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str())).execute(&mut *connection).await?;
    }
    Ok(())
}
