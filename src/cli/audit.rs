//! `tollgate audit`: whether the audit log is what was written.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::say::{complain_aloud, say};
use super::{Exit, Source, failed, misconfigured, wait_for};
use crate::app::database_url;
use crate::config::Config;
use crate::db::{Database, Status};
use crate::records::audit_keys::{self, AuditKeys};
use crate::records::chains::Span;
use crate::records::verify::{Problem, Report, Scope, Verifier};
use crate::records::witnesses::Witnesses;

/// What `tollgate audit verify` is asked.
#[derive(Debug, Clone, Default)]
pub struct AuditAsked {
    /// Only this org; the empty one for rows without.
    pub org: Option<String>,
    /// Only rows from this time on: an instant, or a day in UTC.
    pub from: Option<String>,
    /// Only rows before this time.
    pub to: Option<String>,
    /// Files of checkpoints; the configured one when there is none.
    pub checkpoints: Vec<PathBuf>,
    /// Rows before this time may have no link.
    pub unlinked_until: Option<String>,
}

/// `tollgate audit verify`: walks every chain of the audit log and names what is not as it was written.
pub fn verify_audit(source: &Source, asked: &AuditAsked) -> Exit {
    let scope = match scope(asked) {
        Ok(scope) => scope,
        Err(reason) => return misconfigured(&reason),
    };
    let config = match source.load_without_secret() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    wait_for(async move {
        match verify(&config, &scope, &asked.checkpoints).await {
            Ok((checked, report)) => match say(&format!("{checked}{}", told(&report))) {
                Exit::Success if report.problem_count > 0 => Exit::Failure,
                said => said,
            },
            Err(reason) => failed(&reason),
        }
    })
}

/// `tollgate audit public-key`: what the signatures of checkpoints and anchors are verified with.
pub fn audit_public_key(source: &Source) -> Exit {
    let config = match source.load_without_secret() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    match audit_keys::signer(&config.records.audit_files) {
        Ok(signer) => {
            complain_aloud(&format!("key {}\n", signer.public().id()));
            say(&signer.public().pem())
        }
        Err(error) => failed(&error),
    }
}

fn scope(asked: &AuditAsked) -> Result<Scope, String> {
    let time = |flag: &str, text: &Option<String>| text.as_deref().map(|text| instant(flag, text)).transpose();
    Ok(Scope {
        org: asked.org.clone(),
        span: Span { from: time("--from", &asked.from)?, to: time("--to", &asked.to)? },
        unlinked_until: time("--unlinked-until", &asked.unlinked_until)?,
    })
}

/// An instant, or the beginning of a day in UTC.
fn instant(flag: &str, text: &str) -> Result<Timestamp, String> {
    let day = || Some(text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    text.parse().ok().or_else(day).ok_or_else(|| format!("{flag} {text}: no time; allowed: 2026-11-20 (UTC) or 2026-11-20T12:00:00Z"))
}

async fn verify(config: &Config, scope: &Scope, checkpoints: &[PathBuf]) -> Result<(String, Report), String> {
    let place = &config.records.url;
    let keys = AuditKeys::read(&config.records.audit_files).map_err(|error| error.to_string())?;
    let public = keys.signer.public();
    let witnesses = witnesses(config, checkpoints, &public)?;
    let database = Database::open(&database_url(place)).map_err(|error| error.to_string())?;
    match database.status().await {
        Status::Missing(_) => return Err(format!("{place} does not exist")),
        Status::Unreachable(reason) => return Err(format!("{place} cannot be read: {reason}")),
        Status::NotMigrated { .. } => return Err(format!("{place} is not migrated; run tollgate migrate")),
        Status::Ready => {}
    }
    let chains = database.chains();
    let verifier = Verifier { chains: &*chains, key: &keys.chain, public: &public, witnesses: &witnesses };
    let report = verifier.verify(scope).await.map_err(|error| error.to_string());
    database.close().await;
    let mut checked = format!("{place}, key {}, {} checkpoints\n", public.id(), witnesses.lines());
    for remark in witnesses.remarks() {
        checked += "Remark: ";
        checked += remark;
        checked.push('\n');
    }
    if witnesses.lines() == 0 {
        checked.push_str(
            "Remark: without checkpoints it does not show when the end of a chain was cut off, or when whoever has the key wrote it anew\n",
        );
    }
    Ok((checked, report?))
}

/// The files that were named, or the configured one where it is there.
fn witnesses(config: &Config, files: &[PathBuf], public: &crate::records::signing::PublicKey) -> Result<Witnesses, String> {
    let mut witnesses = Witnesses::default();
    let own = &config.records.audit_files.checkpoint_file;
    let files = if files.is_empty() && own.exists() { std::slice::from_ref(own) } else { files };
    for file in files {
        witnesses.read(file, public).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(witnesses)
}

fn told(report: &Report) -> String {
    let mut lines: Vec<String> = report.problems.iter().map(line_of).collect();
    let Report { rows, chains, unlinked, left_over, anchored, compared, problem_count, .. } = report;
    lines.push(format!("{rows} rows in {chains} chains, {compared} of them compared with checkpoints"));
    if *anchored > 0 {
        lines.push(format!(
            "{anchored} chains begin after what retention removed; {left_over} rows before it are left, each as it was written"
        ));
    }
    if *unlinked > 0 {
        lines.push(format!("{unlinked} rows are older than the chains and cannot be proved"));
    }
    let told = report.problems.len() as u64;
    lines.push(match (*problem_count, *problem_count - told.min(*problem_count)) {
        (0, _) => "The audit log is what was written.".to_owned(),
        (count, 0) => format!("THE AUDIT LOG IS NOT WHAT WAS WRITTEN: {count} {}.", if count == 1 { "problem" } else { "problems" }),
        (count, more) => format!("THE AUDIT LOG IS NOT WHAT WAS WRITTEN: {count} problems, {more} more than are told above."),
    });
    lines.into_iter().map(|line| line + "\n").collect()
}

fn line_of(problem: &Problem) -> String {
    let row = problem.row.map(|(id, time)| format!("row {id} of {time}"));
    let chain = problem.chain.as_ref().map(|chain| match chain.org.as_str() {
        "" => format!("no org, writer {}", chain.writer),
        org => format!("org {org}, writer {}", chain.writer),
    });
    let seq = problem.seq.map(|seq| format!("seq {seq}"));
    let place: Vec<String> = [row, chain, seq].into_iter().flatten().collect();
    if place.is_empty() { format!("BAD: {}", problem.what) } else { format!("BAD: {}: {}", place.join(", "), problem.what) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants_or_days() {
        let noon = "2026-11-20T12:00:00Z";
        assert_eq!(instant("--from", noon), Ok(noon.parse().expect("an instant")));
        assert_eq!(instant("--from", "2026-11-20"), Ok("2026-11-20T00:00:00Z".parse().expect("an instant")));
        assert!(instant("--to", "yesterday").expect_err("no time").contains("--to yesterday"));
    }
}
