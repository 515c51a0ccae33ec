//! Does what was typed ([`args`]); what commands do is `tollgate::cli`.

mod args;

use std::process::ExitCode;

use clap::Parser as _;
use tollgate::cli::{
    self, Asked, AuditAsked, DoctorAsked, Exit, Exported, Making, Migration, RebuildAsked, RepriceAsked, StatementAsked, StatementFormat,
    Wanted,
};

use args::{
    AuditCommand, Cli, Command, Days, GrafanaCommand, LimitsCommand, LockoutsCommand, OneUpstream, ReaderCommand, UpstreamCommand,
    UsageCommand,
};

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
