//! A database with a history, which PostgreSQL makes: for pictures and measurements.

use crate::support::postgres::Postgres;

/// How much of everything there is.
pub struct History {
    pub rows: u64,
    pub orgs: u32,
    pub members: u32,
    pub days: u32,
    /// How far apart looks at the machines are, and how many there are of each.
    pub system: (u32, u32),
}

/// Makes it. Indexes are made last, and daily sums as the migration makes them of rows that are there already.
pub fn fill(server: &Postgres, database: &str, history: &History) {
    let indexes =
        regex::Regex::new(r"CREATE INDEX IF NOT EXISTS (\w+) ON (?:usage_events|tool_calls|audit_events|system_metrics) [^;]*;").unwrap();
    let migrations = [
        include_str!("../../../migrations/postgres/0001_records.sql"),
        include_str!("../../../migrations/postgres/0002_rollups.sql"),
        include_str!("../../../migrations/postgres/0004_statements.sql"),
        include_str!("../../../migrations/postgres/0005_audit_chain.sql"),
        include_str!("../../../migrations/postgres/0012_more_rollups.sql"),
    ]
    .concat();
    let names: Vec<&str> = indexes.captures_iter(&migrations).map(|found| found.get(1).expect("a name").as_str()).collect();
    let run = |statements: &str| drop(server.sql(database, statements).expect("rows are made"));
    run(&format!("DROP INDEX IF EXISTS {}", names.join(", ")));
    let statements = [
        ("SYSTEM_SECONDS", history.system.0.to_string()),
        ("SYSTEM_ROWS", history.system.1.to_string()),
        ("ROWS", history.rows.to_string()),
        ("ORGS", history.orgs.to_string()),
        ("MEMBERS", history.members.to_string()),
        ("DAYS", history.days.to_string()),
    ];
    let made = statements.iter().fold(include_str!("history.sql").to_owned(), |text, (name, value)| text.replace(name, value));
    run(&made);
    indexes.find_iter(&migrations).for_each(|index| run(index.as_str()));
    for insert in ["INSERT INTO usage_daily\n", "INSERT INTO members_daily\n", "INSERT INTO models_daily\n", "INSERT INTO usage_by_hour\n"]
    {
        let from = migrations.split_once(insert).expect("sums").1;
        let sums = from.split_once("ON CONFLICT DO NOTHING;").expect("sums").0;
        run(&format!("{insert}{sums}ON CONFLICT DO NOTHING"));
    }
    run("VACUUM ANALYZE");
}
