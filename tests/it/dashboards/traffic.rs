//! A place with people in it: LibreChat, Redis, PostgreSQL, Tollgate as a process of its own, another that ends TLS, Prometheus;
//! what people do there on a good day, and what goes wrong on others.

use std::process::Command;
use std::sync::Arc;

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use serde_json::json;
use tempfile::TempDir;
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::scripted::client::{ChatBody, ChatClient};
use tollgate::scripted::{Options, PASSWORD, ScriptedLibreChat, User};

use super::at_rest::Case;
use crate::support::gateway::{Setup, TestGateway};
use crate::support::postgres::Postgres;
use crate::support::process::TollgateProcess;
use crate::support::prometheus::Prometheus;
use crate::support::redis::RedisServer;

/// Whose dashboards are looked at.
pub const ADA: &str = "ada@acme.test";
/// Who may send one message a day, and sends more.
const CARL: &str = "carl@acme.test";

/// Who is of the other org.
pub const EVE: &str = "eve@blue.test";

/// A limit for Carl comes with his id; here is one that everybody is beyond and that only watches. Models without a price are free.
const PLACE: &str = r#"
    domains = ["acme.test"]
    time_zone = "Asia/Seoul"
    [[orgs]]
    id = "blue"
    name = "Blue"
    domains = ["blue.test"]
    time_zone = "America/New_York"
    [[limits]]
    applies_to = "org"
    tokens_per_day = 10
    mode = "shadow"
    [[limits]]
    applies_to = "org"
    org = "acme"
    messages_per_day = 100_000
    usd_per_month = 100
    [prices]
    unknown_model = "free"
    [body]
    max_chat_bytes = 20000
    [log.files]
    folder = "ROWS"
"#;

pub struct Place {
    // In the order in which they stop.
    pub prometheus: Prometheus,
    /// Another one, which ends TLS itself and has nobody else to talk to.
    _encrypted: TestGateway,
    pub tollgate: TollgateProcess,
    pub librechat: ScriptedLibreChat,
    pub redis: RedisServer,
    pub server: Arc<Postgres>,
    pub database: String,
    _rows: TempDir,
}

impl Place {
    /// Starts everything. The database is TimescaleDB where there is one.
    pub async fn start() -> Self {
        let server = tokio::task::spawn_blocking(|| Postgres::timescale().unwrap_or_else(Postgres::shared)).await.expect("PostgreSQL");
        let (database, redis, rows) = (server.database(), RedisServer::start(), tempfile::tempdir().expect("a folder"));
        let users = [ADA, CARL, "bob@acme.test"].map(User::new).to_vec();
        let librechat = ScriptedLibreChat::start(Options { users, ..Options::default() }).await.expect("a free port");
        let carl =
            format!("[[limits]]\napplies_to = \"member\"\norg = \"acme\"\nmember = \"{}\"\nmessages_per_day = 1\n", User::new(CARL).id);
        let setup = Setup {
            config: PLACE.replace("    [prices]", &format!("{carl}    [prices]")).replace("ROWS", &rows.path().display().to_string()),
            store: redis.url(),
            records: database.clone(),
            default_org: String::new(),
            librechat_keys: "trust_email_domains = true".to_owned(),
            ..Setup::default()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let tollgate = TollgateProcess::start(&setup.text(&librechat, &folder)).await;
        let today = SystemClock.now().to_zoned(TimeZone::UTC).date();
        let certificate = crate::tls::valid(today - 30.days(), today + 60.days());
        let (cert, key) = certificate.write(tollgate.folder());
        let encrypted = Setup::default().set("TOLLGATE_PUBLIC__TLS_CERT", &cert).set("TOLLGATE_PUBLIC__TLS_KEY", &key).start().await;
        let prometheus = Prometheus::asking(&[tollgate.metrics, encrypted.running.metrics]).await;
        Self { prometheus, _encrypted: encrypted, tollgate, librechat, redis, server, database, _rows: rows }
    }

    fn client(&self, email: &str) -> ChatClient {
        ChatClient::new(&self.tollgate.url(), &self.librechat.token(email))
    }

    async fn says(&self, email: &str, endpoint: &str, model: &str, text: &str) {
        let answer = self.client(email).exchange(&ChatBody::new(text).model(endpoint, model)).await;
        answer.expect("an answer, whatever it is");
    }

    /// Who says what to which model of which endpoint.
    async fn say_at_once(&self, said: &[(&str, &str, &str, &str)]) {
        let said = said.iter().map(|(email, endpoint, model, text)| self.says(email, endpoint, model, text));
        futures_util::future::join_all(said).await;
    }

    /// A good day, a little of it: people of two orgs talk to some models, with tools and caches.
    pub async fn good_round(&self) {
        self.say_at_once(&[
            (ADA, "openAI", "gpt-4o", "Hello [[tokens=20 first=20 in=900 cached=300]]"),
            (ADA, "anthropic", "claude-sonnet-4-5", "Find it [[tools=2 tokens=5 tool_delay=15]]"),
            ("bob@acme.test", "google", "gemini-2.5-flash", "Look [[tools=1 tool=find_mcp_library tool_delay=30 tokens=4]]"),
            (EVE, "openAI", "gpt-4o-mini", "Hi [[tokens=30 first=40 delay=2]]"),
        ])
        .await;
        let settings = self.client(ADA).get("/api/user").await.expect("an answer");
        assert_eq!(settings.status, 200, "{}", settings.text);
        assert_eq!(self.login(ADA, PASSWORD, "192.0.2.1").await, 200, "Ada signs in");
    }

    /// A bad day, a little of it: everything that is refused, fails or is not seen.
    pub async fn bad_round(&self) {
        let too_long = "More than may be said at once. ".repeat(1000);
        self.say_at_once(&[
            (CARL, "openAI", "gpt-4o", "Me again [[tokens=5]]"),
            ("nobody@nowhere.test", "openAI", "gpt-4o", "Let me in"),
            (ADA, "openAI", "gpt-4o", "Break [[die=2]]"),
            (ADA, "openAI", "a-model-without-a-price", "Guess [[tokens=7]]"),
            ("bob@acme.test", "openAI", "another-without-a-price", "Guess too [[tokens=7]]"),
            (EVE, "openAI", "gpt-4o-mini", "Quietly [[usage=off tokens=9]]"),
            (ADA, "openAI", "gpt-4o", "Try [[tools=1 tool=find_mcp_library tool_fails tokens=3]]"),
            (ADA, "openAI", "gpt-4o", "Wait [[tools=1 tool_hangs tokens=3]]"),
            (ADA, "openAI", "gpt-4o", &too_long),
            ("bob@acme.test", "openAI", "gpt-4o", "Soon [[refuse=not_ready]]"),
        ])
        .await;
        let stranger = ChatClient::new(&self.tollgate.url(), "no token at all");
        stranger.start(&ChatBody::new("Let me in")).await.expect("an answer");
        for _ in 0..3 {
            self.login("bob@acme.test", "wrong", "198.51.100.7").await;
        }
    }

    /// What people do meanwhile.
    pub async fn round_of(&self, case: Case) {
        match case {
            Case::BadDay => self.bad_round().await,
            Case::StoreAway => {
                self.say_at_once(&[EVE, CARL].map(|person| (person, "openAI", "gpt-4o", "Is anybody there?"))).await;
            }
            Case::Repriced => {}
        }
    }

    async fn login(&self, email: &str, password: &str, address: &str) -> u16 {
        let client = ChatClient::new(&self.tollgate.url(), "").header("x-forwarded-for", address);
        let answer = client.post("/api/auth/login", &json!({ "email": email, "password": password })).await;
        answer.expect("an answer").status.as_u16()
    }

    /// What the program says of this place's own configuration and these settings over it.
    pub fn tollgate(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments).args(["--config", "tollgate.toml"]).current_dir(self.tollgate.folder());
        let output = command.env_clear().envs(environment.iter().copied()).output().expect("the program starts");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// Rates what the model without a price was used for anew, as if it had one now.
    pub fn reprice(&self) {
        let days = ["--from", "2020-01-01", "--to", "2099-12-31"];
        let arguments = [&["usage", "reprice", "--org", "acme", "--model", "a-model-without-a-price"][..], &days].concat();
        self.tollgate(&arguments, &[("TOLLGATE_PRICES__UNKNOWN_MODEL", "default_price")]);
    }

    /// The role that Grafana's operators read with, made as docker-compose.yml makes it.
    pub fn operator(&self) -> String {
        let script = include_str!("../../../deploy/timescaledb/grafana-reader.sh");
        let statements = script.split("<<'SQL'\n").nth(1).and_then(|rest| rest.strip_suffix("SQL\n")).expect("statements");
        let name = format!("grafana_{}", self.database.rsplit('_').next().unwrap_or_default());
        let statements = statements.replace("grafana", &name).replace(":'password'", "'not asked for'");
        self.server.sql(&self.database, &statements).expect("the role of Grafana's operators");
        name
    }
}
