//! Flags and subcommands; what they do is `tollgate::cli`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use tollgate::cli::{self, Asked, Exit, Format, Making, Migration, Source, Wanted};
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
    /// Look at limits
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Tell the whole decision behind a refusal
    Explain {
        /// The short reference that the refusal showed
        reference: String,
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        settings: Settings,
    },
    /// Let others read the records of one org
    #[command(subcommand)]
    Reader(ReaderCommand),
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
enum LimitsCommand {
    /// Show every limit that applies to a member, why, and what is left of it
    Explain {
        /// The org's id
        #[arg(long)]
        org: String,
        /// The member's id: the user's id in LibreChat
        #[arg(long)]
        member: String,
        /// The member's role, as a token of an issuer gives it; user is assumed when left out
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
        #[cfg(feature = "demo")]
        Command::Demo { once } => cli::demo(if once { cli::DemoEnd::Once } else { cli::DemoEnd::StayUp }),
        Command::Limits(LimitsCommand::Explain { org, member, role, plan, shown, settings }) => {
            cli::explain_limits(&settings.source(), &Asked { org, member, role, plan }, shown.format())
        }
        Command::Explain { reference, shown, settings } => cli::explain(&settings.source(), &reference, shown.format()),
        Command::Reader(ReaderCommand::Create { org, role, print, settings }) => {
            let making = if print { Making::Printed } else { Making::Done };
            cli::create_reader(&settings.source(), &Wanted { org, role, making })
        }
        Command::Migrate { settings, dry_run } => {
            cli::migrate(&settings.source(), if dry_run { Migration::Shown } else { Migration::Done })
        }
    }
}

/// The environment. The standard library panics on variables that are not Unicode; here the configuration finds them by
/// the replacement characters in them.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
