//! `tollgate doctor`: asks the running place the questions that go wrong, and says of each what to change where.
//!
//! What `tollgate check --live` tries is tried here too ([`super::live`]). Nothing is changed anywhere.

mod address;
mod clocks;
mod environment;
mod finding;
mod running;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::live::{self, Tried};
use super::say::{say, say_json};
use super::{Exit, Format, Source, misconfigured, wait_for};
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::identity::Minter;
use crate::librechat::client::LibreChat;
use crate::librechat::upstreams::Upstreams;
use address::PublicUrl;
use environment::Environment;
use finding::{Finding, Outcome};

/// What the doctor is told beyond the configuration. What it is not told, it leaves out.
#[derive(Debug, Clone, Default)]
pub struct DoctorAsked {
    /// The address that people open.
    pub url: Option<String>,
    /// The id of a LibreChat user to ask as.
    pub user: Option<String>,
    /// LibreChat's `.env`.
    pub librechat_env: Option<PathBuf>,
    /// LibreChat's `librechat.yaml`.
    pub librechat_yaml: Option<PathBuf>,
}

/// `tollgate doctor`.
pub fn doctor(source: &Source, asked: &DoctorAsked, format: Format) -> Exit {
    let config = match source.load() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let Given { environment, yaml, url } = match Given::read(asked) {
        Ok(given) => given,
        Err(reason) => return misconfigured(&reason),
    };
    wait_for(async move {
        let mut findings: Vec<Finding> = tried(live::librechat(&config, asked.user.as_deref()).await).collect();
        findings.extend(tried(live::store_and_records(&config).await.into()));
        findings.extend(tried(live::issuers(&config).await));
        let reached = findings.iter().any(|finding| finding.id == "librechat.reached" && finding.outcome == Outcome::Ok);
        for librechat in clients(&config).filter(|_| reached) {
            findings.extend(clocks::librechat(&librechat).await);
            findings.push(address::domain(&librechat, url.as_ref()).await);
        }
        findings.extend(clocks::store(&config).await);
        findings.extend(clocks::records(&config).await);
        if let Some(url) = &url {
            findings.push(address::leads_here(url).await);
            for upstream in &config.librechat.upstreams {
                findings.push(address::leads_around(url, upstream).await);
            }
        }
        findings.push(streams::estimated(&config).await);
        findings.extend(yaml.as_ref().map(streams::asked_for));
        findings.extend(environment.iter().flat_map(|environment| environment.findings(&config, url.as_ref())));
        findings.push(running::found(&config).await);
        show(&findings, format)
    })
}

/// What the doctor is told, read.
struct Given {
    environment: Option<Environment>,
    yaml: Option<serde_yaml::Value>,
    url: Option<PublicUrl>,
}

impl Given {
    fn read(asked: &DoctorAsked) -> Result<Self, String> {
        Ok(Self {
            environment: asked.librechat_env.as_deref().map(Environment::read).transpose()?,
            yaml: asked.librechat_yaml.as_deref().map(streams::read).transpose()?,
            url: asked.url.as_deref().map(address::of).transpose()?,
        })
    }
}

/// One of each LibreChat.
fn clients(config: &Config) -> impl Iterator<Item = LibreChat> {
    let minter = Arc::new(Minter::new(config.librechat.jwt_secret.expose().as_bytes()));
    config.librechat.upstreams.iter().filter_map(move |upstream| {
        let only = config::LibreChat { upstreams: vec![upstream.clone()], ..config.librechat.clone() };
        LibreChat::new(Arc::new(Upstreams::new(&only)), minter.clone(), Arc::new(SystemClock)).ok()
    })
}

/// What `check --live` tried, as findings. It says in its sentences what to change.
fn tried(tried: Vec<Tried>) -> impl Iterator<Item = Finding> {
    tried.into_iter().map(|Tried { what, outcome }| {
        let id = match what.as_str() {
            "LibreChat" => "librechat.reached".to_owned(),
            "secret" => "librechat.secret".to_owned(),
            "chat wire" => "librechat.wire".to_owned(),
            "store" => "store.reached".to_owned(),
            "records" => "records.reached".to_owned(),
            keys => format!("issuer.{}", keys.trim_start_matches("keys of ")),
        };
        match outcome {
            live::Outcome::Works(said) => Finding::ok(id, said),
            live::Outcome::Fails(said) => Finding::fail(id, said, ""),
            live::Outcome::NotTried(said) => Finding::skipped(id, said),
        }
    })
}

fn show(findings: &[Finding], format: Format) -> Exit {
    let is_well = findings.iter().all(|finding| finding.outcome != Outcome::Fail);
    let said = match format {
        Format::Json => say_json(&json!({ "ok": is_well, "findings": findings })),
        Format::Text => say(&text(findings)),
    };
    if is_well { said } else { Exit::Failure }
}

/// A line for each finding, and below it what to change.
fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.id.len()).max().unwrap_or_default();
    let line = |Finding { id, outcome, said, change }: &Finding| {
        let found = format!("{:<7}  {id:<width$}  {said}\n", outcome.as_str());
        let change = change.as_ref().map(|change| format!("{:<7}  {:<width$}  -> {change}\n", "", ""));
        found + &change.unwrap_or_default()
    };
    let text: String = findings.iter().map(line).collect();
    let count = |outcome: Outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let (warn, fail) = (count(Outcome::Warn), count(Outcome::Fail));
    text + &format!("{} asked: {fail} failed, {warn} to look at. docs/doctor.md explains each.\n", findings.len())
}
