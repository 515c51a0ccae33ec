//! Brings what changed in the database to this process, at most half a second later.

use std::sync::Arc;
use std::time::Duration;

use super::store::DirectoryStore;
use super::{Directory, Lost};
use crate::records::ReadError;

/// How often the database is asked for changes. Every change reaches every replica within a second (asking is one row by its
/// key, and cheaper than a second way by which changes could come).
pub const EVERY: Duration = Duration::from_millis(400);

/// Takes in what changed once.
///
/// # Errors
///
/// Where the database does not answer.
pub async fn once(directory: &Directory, store: &dyn DirectoryStore) -> Result<Lost, ReadError> {
    Ok(directory.apply(store.changes(directory.revision()).await?))
}

/// Takes in changes until it is stopped. Whoever lost something is told to `ended`.
pub async fn run(directory: Arc<Directory>, store: Arc<dyn DirectoryStore>, ended: impl Fn(Lost)) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        match once(&directory, &*store).await {
            Ok(lost) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the directory of orgs and members is up to date again");
                }
                if lost != Lost::default() {
                    ended(lost);
                }
            }
            Err(error) if failing => tracing::debug!(error = %error, "the directory cannot be read"),
            Err(error) => {
                failing = true;
                tracing::error!(error = %error, "the directory of orgs and members cannot be read; what is known of it goes on");
            }
        }
    }
}
