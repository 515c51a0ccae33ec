//! Flags and subcommands; what they do is `tollgate::cli`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Parser, Subcommand};
use tollgate::cli::{
    self, Asked, AuditAsked, Change, DoctorAsked, Exit, ExportAsked, ExportFormat, Exported, Format, ImportAsked, KeyAsked, Making,
    MembersOf, Migration, Observation, Password, ProvisionAsked, RebuildAsked, RepriceAsked, SessionsOf, Source, StatementAsked,
    StatementFormat, Wanted,
};
use tollgate::identity::ROLES;

/// Organizations, limits, charges and records in front of an unmodified LibreChat.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
enum ReaderCommand {
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
enum ObserveCommand {
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
struct MaybeOneOrg {
    /// Only this org, by its id; every org when left out
    #[arg(long)]
    org: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum GrafanaCommand {
    /// Write a data source and dashboards for an organization of Grafana that is this org's alone
    Provision(Box<Provision>),
}

#[derive(Args)]
struct Provision {
    /// The org's id
    #[arg(long)]
    org: String,
    /// The number of the organization in Grafana, made there before; 1 is the operators'
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(2..))]
    grafana_org: u32,
    /// Grafana's provisioning folder, as it is reached from here
    #[arg(long, value_name = "FOLDER", default_value = "grafana/provisioning")]
    dir: PathBuf,
    /// The same folder, as Grafana sees it
    #[arg(long, value_name = "FOLDER", default_value = "/etc/grafana/provisioning")]
    seen_as: String,
    /// The folder of the dashboards for orgs, as Grafana sees it
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/grafana/dashboards/orgs")]
    dashboards: String,
    /// The database as Grafana reaches it; where it is for Tollgate when left out
    #[arg(long, value_name = "HOST:PORT")]
    database: Option<String>,
    /// How Grafana speaks to it
    #[arg(long, default_value = "disable", value_parser = ["disable", "require", "verify-ca", "verify-full"])]
    ssl_mode: String,
    /// The role's name; made of the org's id when left out
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Give the role another password
    #[arg(long)]
    new_password: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Provision {
    fn parts(self) -> (Source, ProvisionAsked) {
        let Self { org, grafana_org, dir: folder, seen_as, dashboards, database, ssl_mode, role, .. } = self;
        let password = if self.new_password { Password::New } else { Password::Kept };
        (self.settings.source(), ProvisionAsked { org, grafana_org, role, folder, seen_as, dashboards, database, ssl_mode, password })
    }
}

#[derive(Subcommand)]
enum LimitsCommand {
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
enum UsageCommand {
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
enum AuditCommand {
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
enum OrgCommand {
    /// Show every org
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Take orgs from a CSV file; shows what would change unless --apply is given
    Import(Import),
    /// Let an org use nothing that costs something, from now on
    Suspend(OneOrg),
    /// Let it again
    Resume(OneOrg),
}

#[derive(Args)]
struct OneOrg {
    /// The org's id
    #[arg(long)]
    org: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct Import {
    /// The CSV file; its first line names the columns
    #[arg(value_name = "FILE")]
    csv: PathBuf,
    /// Do it
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Import {
    fn parts(self) -> (Source, ImportAsked) {
        (self.settings.source(), ImportAsked { file: self.csv, apply: self.apply })
    }
}

#[derive(Args)]
struct OneMember {
    /// The org's id
    #[arg(long)]
    org: String,
    /// A LibreChat id, an external id, or an e-mail address
    #[arg(long)]
    member: String,
    #[command(flatten)]
    settings: Settings,
}

impl OneMember {
    fn change(self, change: &Change) -> Exit {
        cli::change_member(&self.settings.source(), &self.org, &self.member, change)
    }
}

#[derive(Subcommand)]
enum MemberCommand {
    /// Show the members of an org
    List(OneOrg),
    /// Show people of LibreChat whom no org claims
    Unclaimed {
        #[command(flatten)]
        settings: Settings,
    },
    /// Take members from a CSV file; shows what would change unless --apply is given
    Import(Import),
    /// Let a member use nothing that costs something, from now on; what runs for them ends
    Suspend(OneMember),
    /// Let them again
    Resume(OneMember),
    /// Give a member another role
    Role {
        /// The role
        #[arg(value_parser = PossibleValuesParser::new(ROLES))]
        role: String,
        #[command(flatten)]
        member: OneMember,
    },
    /// Say where a member may come from, on top of where their org lets them
    Ranges {
        /// Networks with commas between them, or anywhere
        #[arg(value_name = "RANGES")]
        ranges: String,
        #[command(flatten)]
        member: OneMember,
    },
    /// Show when a member signed in with LibreChat's own account, or somebody tried to
    Logins {
        /// So many days back
        #[arg(long, default_value_t = 30)]
        days: u16,
        #[command(flatten)]
        member: OneMember,
    },
    /// Make unreadable, for ever, what the audit log knows of a person beyond their id
    Erase {
        /// The org's id
        #[arg(long)]
        org: String,
        /// The member's id: the user's id in LibreChat
        #[arg(long)]
        member: String,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
enum SessionCommand {
    /// Show the sessions of an org
    List(WhoseSessions),
    /// Sign people out, on every replica; answers that run in their sessions end
    // Nobody signs a whole org out by leaving a word out.
    #[command(group(ArgGroup::new("which").required(true).args(["all", "member", "id"])))]
    Revoke {
        /// All sessions of the org
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        whose: WhoseSessions,
    },
}

#[derive(Args)]
struct WhoseSessions {
    /// The org's id
    #[arg(long)]
    org: String,
    /// Only those of this member: a LibreChat id, an external id or an e-mail address
    #[arg(long, conflicts_with = "id")]
    member: Option<String>,
    /// Only this session
    #[arg(long, value_name = "SESSION")]
    id: Option<uuid::Uuid>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum UpstreamCommand {
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
struct OneUpstream {
    /// Its name: host:port, as librechat.upstreams names it
    name: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key for a member, and show it this once
    Create {
        /// What it is called
        #[arg(long)]
        name: String,
        /// What it may, with commas between: chat, read, usage
        #[arg(long)]
        scopes: String,
        /// After how many days it ends; as late as it may when left out
        #[arg(long, value_name = "DAYS")]
        expires_days: Option<u32>,
        /// Where it may be used: networks with commas between them; anywhere when left out
        #[arg(long, value_name = "RANGES")]
        address_ranges: Option<String>,
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        member: OneMember,
    },
    /// Show the keys of an org, or of one member
    List {
        /// The org's id
        #[arg(long)]
        org: String,
        /// A LibreChat id, an external id, or an e-mail address; everyone when left out
        #[arg(long)]
        member: Option<String>,
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        settings: Settings,
    },
    /// End a key, on every replica within a second
    Revoke {
        /// The key's id
        id: String,
        #[command(flatten)]
        org: OneOrg,
    },
}

#[derive(Subcommand)]
enum LockoutsCommand {
    /// Show what is locked now
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Open a lock before its time, and forget the failures behind it
    Open {
        /// An e-mail address, the LibreChat id of somebody whose codes failed, or a network address
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Args)]
struct Days {
    /// The first day in the org's calendar, such as 2026-11-01
    #[arg(long, value_name = "DAY")]
    from: String,
    /// The last day
    #[arg(long, value_name = "DAY")]
    to: String,
}

#[derive(Args)]
struct OutputFile {
    /// What it looks like
    #[arg(long, value_parser = ["csv", "ndjson", "parquet"])]
    format: String,
    /// The file; standard output when left out
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl OutputFile {
    fn asked(self, what: Exported, org: Option<String>, days: Days, unsealed: bool) -> ExportAsked {
        let format = match self.format.as_str() {
            "csv" => ExportFormat::Csv,
            "parquet" => ExportFormat::Parquet,
            _ => ExportFormat::Ndjson,
        };
        ExportAsked { what, org, from: days.from, to: days.to, format, output: self.output, unsealed }
    }
}

#[derive(Args)]
struct Settings {
    /// The configuration file; without one the built-in defaults and the environment apply
    #[arg(long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Settings {
    fn source(self) -> Source {
        Source { file: self.file, environment: environment().collect() }
    }
}

#[derive(Args)]
struct Shown {
    /// Show JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Shown {
    fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(cli.command).into(),
        Err(usage) => {
            // Nothing can be done about a standard error that is closed.
            let _ = usage.print();
            if usage.use_stderr() { Exit::Configuration } else { Exit::Success }.into()
        }
    }
}

fn run(command: Command) -> Exit {
    match command {
        Command::Serve { settings } => cli::serve(&settings.source()),
        Command::Check { settings, live: false, .. } => cli::check(&settings.source()),
        Command::Check { settings, live: true, user } => cli::check_live(&settings.source(), user.as_deref()),
        Command::Doctor { url, user, librechat_env, librechat_yaml, shown, settings } => {
            cli::doctor(&settings.source(), &DoctorAsked { url, user, librechat_env, librechat_yaml }, shown.format())
        }
        #[cfg(feature = "demo")]
        Command::Demo { once } => cli::demo(if once { cli::DemoEnd::Once } else { cli::DemoEnd::StayUp }),
        Command::Limits(LimitsCommand::Explain { org, member, role, plan, shown, settings }) => {
            cli::explain_limits(&settings.source(), &Asked { org, member, role, plan }, shown.format())
        }
        Command::Explain { reference, shown, settings } => cli::explain(&settings.source(), &reference, shown.format()),
        Command::Statement { org, month, format, close, settings } => {
            let format = match format.as_str() {
                "json" => StatementFormat::Json,
                "csv" => StatementFormat::Csv,
                _ => StatementFormat::Text,
            };
            cli::statement(&settings.source(), &StatementAsked { org, month, format, close })
        }
        Command::Usage(UsageCommand::Export { org, days, file, settings }) => {
            cli::export(&settings.source(), &file.asked(Exported::Usage, Some(org), days, false))
        }
        Command::Usage(UsageCommand::Rebuild { org, days: Days { from, to }, dry_run, settings }) => {
            cli::rebuild(&settings.source(), &RebuildAsked { org, from, to, dry_run })
        }
        Command::Usage(UsageCommand::Reprice { org, days: Days { from, to }, model, dry_run, settings }) => {
            cli::reprice(&settings.source(), &RepriceAsked { org, from, to, model, dry_run })
        }
        Command::Audit(AuditCommand::Export { org, days, file, unsealed, settings }) => {
            cli::export(&settings.source(), &file.asked(Exported::Audit, org, days, unsealed))
        }
        Command::Reader(ReaderCommand::Create { org, role, print, settings }) => {
            let making = if print { Making::Printed } else { Making::Done };
            cli::create_reader(&settings.source(), &Wanted { org, role, making })
        }
        Command::Grafana(GrafanaCommand::Provision(provision)) => {
            let (source, asked) = provision.parts();
            cli::provision_grafana(&source, &asked)
        }
        Command::Migrate { settings, dry_run } => {
            cli::migrate(&settings.source(), if dry_run { Migration::Shown } else { Migration::Done })
        }
        Command::Audit(AuditCommand::Verify { org, from, to, checkpoints, unlinked_until, settings }) => {
            cli::verify_audit(&settings.source(), &AuditAsked { org, from, to, checkpoints, unlinked_until })
        }
        Command::Audit(AuditCommand::PublicKey { settings }) => cli::audit_public_key(&settings.source()),
        Command::Observe(command) => command.run(),
        Command::Org(command) => command.run(),
        Command::Member(command) => command.run(),
        Command::Session(command) => command.run(),
        Command::Upstream(UpstreamCommand::List { settings }) => cli::list_upstreams(&settings.source()),
        Command::Upstream(UpstreamCommand::Drain(OneUpstream { name, settings })) => cli::drain_upstream(&settings.source(), &name),
        Command::Upstream(UpstreamCommand::Undrain(OneUpstream { name, settings })) => cli::undrain_upstream(&settings.source(), &name),
        Command::Key(command) => command.run(),
        Command::Lockouts(LockoutsCommand::List { settings }) => cli::list_lockouts(&settings.source()),
        Command::Lockouts(LockoutsCommand::Open { name, settings }) => cli::open_lockout(&settings.source(), &name),
    }
}

impl ObserveCommand {
    fn run(self) -> Exit {
        let (observation, MaybeOneOrg { org, settings }) = match self {
            Self::On(whose) => (Observation::On, whose),
            Self::Off(whose) => (Observation::Off, whose),
            Self::List { settings } => return cli::list_observed(&settings.source()),
        };
        cli::observe(&settings.source(), observation, org.as_deref())
    }
}

impl OrgCommand {
    fn run(self) -> Exit {
        match self {
            Self::List { settings } => cli::list_orgs(&settings.source()),
            Self::Import(import) => {
                let (source, asked) = import.parts();
                cli::import_orgs(&source, &asked)
            }
            Self::Suspend(OneOrg { org, settings }) => cli::change_org(&settings.source(), &org, &Change::Suspend),
            Self::Resume(OneOrg { org, settings }) => cli::change_org(&settings.source(), &org, &Change::Resume),
        }
    }
}

impl SessionCommand {
    fn run(self) -> Exit {
        match self {
            Self::List(whose) => {
                let of = whose.of();
                cli::list_sessions(&whose.settings.source(), &whose.org, &of)
            }
            Self::Revoke { whose, .. } => {
                let of = whose.of();
                cli::revoke_sessions(&whose.settings.source(), &whose.org, &of)
            }
        }
    }
}

impl WhoseSessions {
    fn of(&self) -> SessionsOf {
        match (&self.member, self.id) {
            (_, Some(id)) => SessionsOf::One(id),
            (Some(member), None) => SessionsOf::Member(member.clone()),
            (None, None) => SessionsOf::Org,
        }
    }
}

impl KeyCommand {
    fn run(self) -> Exit {
        match self {
            Self::Create { name, scopes, expires_days, address_ranges, shown, member } => {
                let OneMember { org, member, settings } = member;
                let asked = KeyAsked { org, member, name, scopes, expires_days, address_ranges };
                cli::create_key(&settings.source(), &asked, shown.format())
            }
            Self::List { org, member, shown, settings } => cli::list_keys(&settings.source(), &org, member.as_deref(), shown.format()),
            Self::Revoke { id, org } => cli::revoke_key(&org.settings.source(), &org.org, &id),
        }
    }
}

impl MemberCommand {
    fn run(self) -> Exit {
        match self {
            Self::List(OneOrg { org, settings }) => cli::list_members(&settings.source(), &MembersOf::Org(org)),
            Self::Unclaimed { settings } => cli::list_members(&settings.source(), &MembersOf::Nobody),
            Self::Import(import) => {
                let (source, asked) = import.parts();
                cli::import_members(&source, &asked)
            }
            Self::Suspend(member) => member.change(&Change::Suspend),
            Self::Resume(member) => member.change(&Change::Resume),
            Self::Role { role, member } => member.change(&Change::Role(role)),
            Self::Ranges { ranges, member } => member.change(&Change::Ranges(ranges)),
            Self::Logins { days, member } => cli::member_logins(&member.settings.source(), &member.org, &member.member, days),
            Self::Erase { org, member, settings } => cli::erase_member(&settings.source(), &org, &member),
        }
    }
}

/// The environment. The standard library panics on variables that are not Unicode; here the configuration finds them by
/// the replacement characters in them.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
