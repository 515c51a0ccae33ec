//! Flags and subcommands, as they are typed.

mod people;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use tollgate::cli::{self, Exit, ExportAsked, ExportFormat, Exported, Format, Observation, Password, ProvisionAsked, Source};

use tollgate::identity::ROLES;

pub use people::{KeyCommand, LockoutsCommand, MemberCommand, OrgCommand, SessionCommand};

/// Organizations, limits, charges and records in front of an unmodified LibreChat.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run until SIGTERM or Ctrl-C
    Serve {
        #[command(flatten)]
        settings: Settings,
    },
    /// Say whether a configuration is good
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Also try it: LibreChat, its secret, the store and the database
        #[arg(long)]
        live: bool,
        /// The LibreChat user id to read /api/user as
        #[arg(long = "as", value_name = "ID", requires = "live")]
        user: Option<String>,
    },
    /// Play a short conversation in front of a scripted LibreChat
    #[cfg(feature = "demo")]
    Demo {
        /// End after it, with a failure if anything was not as it should be
        #[arg(long)]
        once: bool,
    },
    /// Ask the running place the questions that go wrong, and say what to change where
    Doctor {
        /// The address that people open
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// Ask as this LibreChat user, by id
        #[arg(long = "as", value_name = "ID")]
        user: Option<String>,
        /// LibreChat's .env
        #[arg(long, value_name = "FILE")]
        librechat_env: Option<PathBuf>,
        /// LibreChat's librechat.yaml
        #[arg(long, value_name = "FILE")]
        librechat_yaml: Option<PathBuf>,
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        settings: Settings,
    },
    /// Look at limits
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Let limits refuse nobody for a while, and enforce them again
    #[command(subcommand)]
    Observe(ObserveCommand),
    /// Tell the whole decision behind a refusal
    Explain {
        /// The short reference that the refusal showed
        reference: String,
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        settings: Settings,
    },
    /// Show what an org owes for a month, or close the month
    Statement {
        /// The org's id
        #[arg(long)]
        org: String,
        /// The month in the org's calendar, such as 2026-11
        #[arg(long)]
        month: String,
        /// How it is shown
        #[arg(long, default_value = "text", value_parser = ["text", "json", "csv"])]
        format: String,
        /// Close the month: what is shown now is shown for ever
        #[arg(long)]
        close: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Export or correct what was used
    #[command(subcommand)]
    Usage(UsageCommand),
    /// Export or prove who did what
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Let others read the records of one org
    #[command(subcommand)]
    Reader(ReaderCommand),
    /// Let admins of one org see its dashboards in Grafana
    #[command(subcommand)]
    Grafana(GrafanaCommand),
    /// The orgs
    #[command(subcommand)]
    Org(OrgCommand),
    /// Members of orgs
    #[command(subcommand)]
    Member(MemberCommand),
    /// Who is signed in through Tollgate
    #[command(subcommand)]
    Session(SessionCommand),
    /// API keys of members
    #[command(subcommand)]
    Key(KeyCommand),
    /// What failed sign-ins with LibreChat's own accounts have locked
    #[command(subcommand)]
    Lockouts(LockoutsCommand),
    /// The LibreChats behind Tollgate
    #[command(subcommand)]
    Upstream(UpstreamCommand),
    /// Bring the database of the records up to date
    Migrate {
        /// Only show what there is to do
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
pub enum ReaderCommand {
    /// Make a role of the database that sees the rows of one org and no other's
    Create {
        /// The org's id
        #[arg(long)]
        org: String,
        /// The role's name; made of the org's id when left out
        #[arg(long, value_name = "NAME")]
        role: Option<String>,
        /// Only print the statements, for whoever may run them
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
pub enum ObserveCommand {
    /// From now on limits are decided and written down, and refuse nobody, on every replica within a second
    On(MaybeOneOrg),
    /// From now on limits are enforced again; without --org those of every org
    Off(MaybeOneOrg),
    /// Show whose limits are observed, since when and by whom
    List {
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Args)]
pub struct MaybeOneOrg {
    /// Only this org, by its id; every org when left out
    #[arg(long)]
    pub org: Option<String>,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Subcommand)]
pub enum GrafanaCommand {
    /// Write a data source and dashboards for an organization of Grafana that is this org's alone
    Provision(Box<Provision>),
}

#[derive(Args)]
pub struct Provision {
    /// The org's id
    #[arg(long)]
    pub org: String,
    /// The number of the organization in Grafana, made there before; 1 is the operators'
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(2..))]
    pub grafana_org: u32,
    /// Grafana's provisioning folder, as it is reached from here
    #[arg(long, value_name = "FOLDER", default_value = "grafana/provisioning")]
    pub dir: PathBuf,
    /// The same folder, as Grafana sees it
    #[arg(long, value_name = "FOLDER", default_value = "/etc/grafana/provisioning")]
    pub seen_as: String,
    /// The folder of the dashboards for orgs, as Grafana sees it
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/grafana/dashboards/orgs")]
    pub dashboards: String,
    /// The database as Grafana reaches it; where it is for Tollgate when left out
    #[arg(long, value_name = "HOST:PORT")]
    pub database: Option<String>,
    /// How Grafana speaks to it
    #[arg(long, default_value = "disable", value_parser = ["disable", "require", "verify-ca", "verify-full"])]
    pub ssl_mode: String,
    /// The role's name; made of the org's id when left out
    #[arg(long, value_name = "NAME")]
    pub role: Option<String>,
    /// Give the role another password
    #[arg(long)]
    pub new_password: bool,
    #[command(flatten)]
    pub settings: Settings,
}

impl Provision {
    pub fn parts(self) -> (Source, ProvisionAsked) {
        let Self { org, grafana_org, dir: folder, seen_as, dashboards, database, ssl_mode, role, .. } = self;
        let password = if self.new_password { Password::New } else { Password::Kept };
        (self.settings.source(), ProvisionAsked { org, grafana_org, role, folder, seen_as, dashboards, database, ssl_mode, password })
    }
}

#[derive(Subcommand)]
pub enum LimitsCommand {
    /// Show every limit that applies to a member, why, and what is left of it
    Explain {
        /// The org's id
        #[arg(long)]
        org: String,
        /// The member's id: the user's id in LibreChat
        #[arg(long)]
        member: String,
        /// The member's role, as the directory or a token of an issuer gives it; user is assumed when left out
        #[arg(long, value_parser = PossibleValuesParser::new(ROLES))]
        role: Option<String>,
        /// The member's plan; the org's when left out
        #[arg(long)]
        plan: Option<String>,
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
pub enum UsageCommand {
    /// Write the usage rows of an org to a file
    Export {
        /// The org's id
        #[arg(long)]
        org: String,
        #[command(flatten)]
        days: Days,
        #[command(flatten)]
        file: OutputFile,
        #[command(flatten)]
        settings: Settings,
    },
    /// Make the daily sums anew from their rows, after rows were put right by hand; differences are shown first
    Rebuild {
        /// The org's id; every org of the configuration when left out
        #[arg(long)]
        org: Option<String>,
        #[command(flatten)]
        days: Days,
        /// Only say what differs
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Rate what an org used anew with the present prices; differences are written as corrections
    Reprice {
        /// The org's id
        #[arg(long)]
        org: String,
        #[command(flatten)]
        days: Days,
        /// Only this model
        #[arg(long)]
        model: Option<String>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Write audit rows to a file
    Export {
        /// The org's id; every row when left out, with days of UTC
        #[arg(long)]
        org: Option<String>,
        #[command(flatten)]
        days: Days,
        #[command(flatten)]
        file: OutputFile,
        /// Say names, addresses and captured texts, which are sealed otherwise
        #[arg(long)]
        unsealed: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Say whether the audit log is what was written, and name what is not
    Verify {
        /// Only this org; an empty one stands for rows without
        #[arg(long)]
        org: Option<String>,
        /// Only rows from this time on: 2026-11-20 (UTC) or 2026-11-20T12:00:00Z
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Only rows before this time
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        /// A file of checkpoints; can be given for each Tollgate; the configured one when left out
        #[arg(long, value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// Accept rows without a link before this time, when a version that made none still ran
        #[arg(long, value_name = "TIME")]
        unlinked_until: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Print the key that checkpoints and anchors are verified with
    PublicKey {
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
pub enum UpstreamCommand {
    /// Show every LibreChat: whether it takes new people, and answers from here
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Let a LibreChat take no new people, on every replica; what runs there is finished
    Drain(OneUpstream),
    /// Let a drained LibreChat take people again
    Undrain(OneUpstream),
}

#[derive(Args)]
pub struct OneUpstream {
    /// Its name: host:port, as librechat.upstreams names it
    pub name: String,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Args)]
pub struct Days {
    /// The first day in the org's calendar, such as 2026-11-01
    #[arg(long, value_name = "DAY")]
    pub from: String,
    /// The last day
    #[arg(long, value_name = "DAY")]
    pub to: String,
}

#[derive(Args)]
pub struct OutputFile {
    /// What it looks like
    #[arg(long, value_parser = ["csv", "ndjson", "parquet"])]
    pub format: String,
    /// The file; standard output when left out
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl OutputFile {
    pub fn asked(self, what: Exported, org: Option<String>, days: Days, unsealed: bool) -> ExportAsked {
        let format = match self.format.as_str() {
            "csv" => ExportFormat::Csv,
            "parquet" => ExportFormat::Parquet,
            _ => ExportFormat::Ndjson,
        };
        ExportAsked { what, org, from: days.from, to: days.to, format, output: self.output, unsealed }
    }
}

#[derive(Args)]
pub struct Settings {
    /// The configuration file; without one the built-in defaults and the environment apply
    #[arg(long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl Settings {
    pub fn source(self) -> Source {
        Source { file: self.file, environment: environment().collect() }
    }
}

#[derive(Args)]
pub struct Shown {
    /// Show JSON, for programs
    #[arg(long)]
    pub json: bool,
}

impl Shown {
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

impl ObserveCommand {
    pub fn run(self) -> Exit {
        let (observation, MaybeOneOrg { org, settings }) = match self {
            Self::On(whose) => (Observation::On, whose),
            Self::Off(whose) => (Observation::Off, whose),
            Self::List { settings } => return cli::list_observed(&settings.source()),
        };
        cli::observe(&settings.source(), observation, org.as_deref())
    }
}

/// The environment. The standard library panics on variables that are not Unicode; here the configuration finds them by
/// the replacement characters in them.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
