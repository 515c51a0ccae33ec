//! `tollgate upstream`: the LibreChats, and which of them take no new people.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::directory::with_directory;
use super::ledger::{Noted, Opened};
use super::table::aligned;
use super::{Exit, Source};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::identity::Minter;
use crate::librechat::client::LibreChat;
use crate::librechat::upstreams::Upstreams;

/// `tollgate upstream list`.
pub fn list_upstreams(source: &Source) -> Exit {
    with_directory(source, async |config, place, _| {
        let drained = place.opened.database().drained_upstreams().await.map_err(|error| error.to_string())?;
        let upstreams = Arc::new(Upstreams::new(&config.librechat));
        let minter = Arc::new(Minter::new(config.librechat.jwt_secret.expose().as_bytes()));
        let librechat = LibreChat::new(upstreams.clone(), minter, Arc::new(SystemClock)).map_err(|error| error.to_string())?;
        let mut rows = vec![["UPSTREAM", "NEW PEOPLE", "ANSWERS FROM HERE"].map(str::to_owned)];
        for upstream in upstreams.all() {
            let takes = match (upstream.is_drained(), drained.contains(&**upstream.name())) {
                (true, _) => "none: librechat.drained",
                (false, true) => "none: drained",
                (false, false) => "yes",
            };
            let answers = librechat.health(upstream).await.map_or_else(|error| error.to_string(), |()| "yes".to_owned());
            rows.push([upstream.name().to_string(), takes.to_owned(), answers]);
        }
        Ok(aligned(&rows))
    })
}

/// `tollgate upstream drain`.
pub fn drain_upstream(source: &Source, name: &str) -> Exit {
    with_directory(source, async |config, place, now| {
        known(config, name)?;
        let mut drained = drained(config, &place.opened).await?;
        if !drained.insert(name.to_owned()) {
            return Ok(format!("{name} is drained already.\n"));
        }
        if config.librechat.upstreams.iter().all(|upstream| drained.contains(&upstream.authority())) {
            return Err(format!("{name} is the last one that takes people; let another take them first"));
        }
        note(&place.opened, "upstream.drained", name, now).await?;
        place.opened.database().drain_upstream(name, now).await.map_err(|error| error.to_string())?;
        Ok(format!(
            "{name} takes no new people, and finishes what runs there. Every Tollgate on this database knows with its next check \
             (librechat.health_every_ms).\n"
        ))
    })
}

/// `tollgate upstream undrain`.
pub fn undrain_upstream(source: &Source, name: &str) -> Exit {
    with_directory(source, async |config, place, now| {
        known(config, name)?;
        if config.librechat.drained.iter().any(|upstream| upstream.authority() == name) {
            return Err(format!("{name} is drained by librechat.drained; take it out there"));
        }
        if !drained(config, &place.opened).await?.contains(name) {
            return Ok(format!("{name} is not drained.\n"));
        }
        note(&place.opened, "upstream.undrained", name, now).await?;
        place.opened.database().undrain_upstream(name).await.map_err(|error| error.to_string())?;
        Ok(format!("{name} takes people again, once every Tollgate has made its next check.\n"))
    })
}

fn known(config: &Config, name: &str) -> Result<(), String> {
    let names: Vec<String> = config.librechat.upstreams.iter().map(crate::config::Upstream::authority).collect();
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    Err(format!("there is no LibreChat \"{name}\" in librechat.upstreams; they are: {}", names.join(", ")))
}

/// All that are drained, whichever way.
async fn drained(config: &Config, opened: &Opened) -> Result<BTreeSet<String>, String> {
    let mut drained = opened.database().drained_upstreams().await.map_err(|error| error.to_string())?;
    drained.extend(config.librechat.drained.iter().map(crate::config::Upstream::authority));
    Ok(drained)
}

/// What cannot be audited is not done.
async fn note(opened: &Opened, action: &'static str, name: &str, now: Timestamp) -> Result<(), String> {
    opened.note(Noted { action, org: None, kind: "upstream", which: name.to_owned(), detail: None }, now).await
}
