//! Readers of one org: roles for Grafana and the like, which see that org's rows and nothing else. How they are kept apart
//! stands in `readers.sql`.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::timescale::Step;

/// What readers see. Where a table grows, the view on it is made anew.
const SEEN: [&str; 16] = [
    "usage_events",
    "tool_calls",
    "audit_events",
    "usage_corrections",
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
];

/// Of these readers see some columns, which the views name.
const SEEN_IN_PART: [&str; 2] = ["orgs", "members"];

/// So many connections at once: a dashboard must not take all there are.
const CONNECTIONS: u32 = 10;

/// PostgreSQL's longest name, in bytes.
const LONGEST_NAME: usize = 63;

/// A role that reads one org's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The role's name.
    pub role: String,
    /// Its password, if the role was made just now. It is not kept anywhere.
    pub password: Option<String>,
}

/// Why there is no reader.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// An SQLite file knows no roles.
    #[error("an SQLite file has no roles; readers of one org need PostgreSQL")]
    NoRoles,
    /// The name is no plain one.
    #[error("`{0}` is no name for a role: letters from a to z, digits and _, beginning with a letter, at most 63")]
    BadName(String),
    /// The role is somebody else's.
    #[error("the role {0} exists and is no reader of this org; name another one with --role")]
    Taken(String),
    /// The database refused.
    #[error("the reader cannot be made: {0}")]
    Database(String),
}

impl From<sqlx::Error> for ReaderError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// The role's name where none was given.
pub(super) fn role_of(org: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let mut role: String = "tollgate_reader_".chars().chain(org.chars().map(plain)).collect();
    role.truncate(LONGEST_NAME);
    role
}

/// What is to be done where readers are, and tables have grown since they were made.
pub(super) async fn steps(connection: &mut PgConnection) -> Result<Vec<Step>, sqlx::Error> {
    let outdated: bool = sqlx::query_scalar(
        "SELECT to_regclass('tollgate_reader.roles') IS NOT NULL AND EXISTS ( \
            SELECT table_name::TEXT, column_name::TEXT FROM information_schema.columns \
            WHERE table_schema = current_schema() AND (table_name::TEXT = ANY($1) OR table_name::TEXT = ANY($2) AND column_name = 'id') \
            EXCEPT SELECT table_name::TEXT, column_name::TEXT FROM information_schema.columns WHERE table_schema = 'tollgate_reader')",
    )
    .bind(&SEEN[..])
    .bind(&SEEN_IN_PART[..])
    .fetch_one(&mut *connection)
    .await?;
    if !outdated {
        return Ok(Vec::new());
    }
    Ok(vec![Step { says: "make the views of readers of one org anew".to_owned(), sql: vec![seen_by_readers(connection).await?] }])
}

/// Makes a reader, or gives one that is there what it lacks.
pub(super) async fn create(connection: &mut PgConnection, org: &str, role: &str) -> Result<Reader, ReaderError> {
    check_name(role)?;
    let mut transaction = connection.begin().await?;
    let seen = seen_by_readers(&mut transaction).await?;
    run(&mut transaction, &seen).await?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)").bind(role).fetch_one(&mut *transaction).await?;
    let reads: Option<String> = sqlx::query_scalar("SELECT org_id FROM tollgate_reader.roles WHERE role_name = $1::TEXT::NAME")
        .bind(role)
        .fetch_optional(&mut *transaction)
        .await?;
    if reads.as_deref().is_some_and(|reads| reads != org) || (exists && reads.is_none()) {
        return Err(ReaderError::Taken(role.to_owned()));
    }
    let password = (!exists).then(|| Uuid::new_v4().simple().to_string());
    for statement in statements(&mut transaction, org, role, password.as_deref()).await?.iter().skip(usize::from(exists)) {
        run(&mut transaction, statement).await?;
    }
    transaction.commit().await?;
    Ok(Reader { role: role.to_owned(), password })
}

/// The same, and gives it another password where it had one.
pub(super) async fn renew(connection: &mut PgConnection, org: &str, role: &str) -> Result<Reader, ReaderError> {
    let reader = create(connection, org, role).await?;
    if reader.password.is_some() {
        return Ok(reader);
    }
    let password = Uuid::new_v4().simple().to_string();
    run(connection, &format!("ALTER ROLE {role} PASSWORD '{password}'")).await?;
    Ok(Reader { password: Some(password), ..reader })
}

/// The statements that make a reader, for whoever may.
pub(super) async fn script(connection: &mut PgConnection, org: &str, role: &str) -> Result<String, ReaderError> {
    check_name(role)?;
    let mut script = seen_by_readers(connection).await?;
    for statement in statements(connection, org, role, None).await? {
        script.push('\n');
        script.push_str(&statement);
        script.push(';');
    }
    Ok(format!("BEGIN;\n{script}\nCOMMIT;\n-- It cannot sign in with a password until it has one: \\password {role}"))
}

/// The role comes first.
async fn statements(connection: &mut PgConnection, org: &str, role: &str, password: Option<&str>) -> Result<Vec<String>, sqlx::Error> {
    let database: String = sqlx::query_scalar("SELECT quote_ident(current_database())").fetch_one(&mut *connection).await?;
    let org: String = sqlx::query_scalar("SELECT quote_literal($1)").bind(org).fetch_one(connection).await?;
    let password = password.map(|password| format!(" PASSWORD '{password}'")).unwrap_or_default();
    let seen: Vec<String> = SEEN.iter().chain(&SEEN_IN_PART).map(|view| format!("tollgate_reader.{view}")).collect();
    let seen = seen.join(", ");
    Ok(vec![
        format!("CREATE ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT {CONNECTIONS}{password}"),
        // Conveniences, which the role may change: no wall stands on them.
        format!("ALTER ROLE {role} SET search_path = tollgate_reader"),
        format!("ALTER ROLE {role} SET default_transaction_read_only = on"),
        format!("GRANT CONNECT ON DATABASE {database} TO {role}"),
        format!("GRANT SELECT ON {seen} TO {role}"),
        format!("INSERT INTO tollgate_reader.roles (role_name, org_id) VALUES ('{role}', {org}) ON CONFLICT DO NOTHING"),
    ])
}

async fn seen_by_readers(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let schema: String = sqlx::query_scalar("SELECT quote_ident(current_schema())").fetch_one(connection).await?;
    Ok(include_str!("readers.sql").replace("TABLES", &schema))
}

async fn run(connection: &mut PgConnection, statements: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(|_| ())
}

fn check_name(role: &str) -> Result<(), ReaderError> {
    let plain = role.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_');
    let begins = role.bytes().next().is_some_and(|letter| letter.is_ascii_lowercase());
    if plain && begins && role.len() <= LONGEST_NAME { Ok(()) } else { Err(ReaderError::BadName(role.to_owned())) }
}
