//! Brings what changed in the database to this process, at most half a second later.

use std::sync::Arc;
use std::time::Duration;

use super::store::DirectoryStore;
use super::{Directory, Lost};
use crate::records::ReadError;

/// How often the database is asked for changes. Every change reaches every replica within a second (asking is one row by its
/// key, and cheaper than a second way by which changes could come).
pub const EVERY: Duration = Duration::from_millis(400);

/// Takes in what changed once, one after the other where several do. Who lost something by it is told of by the next round of
/// [`run`], whoever was it that read it.
///
/// # Errors
///
/// Where the database does not answer.
pub async fn once(directory: &Directory, store: &dyn DirectoryStore) -> Result<(), ReadError> {
    // What was read first must not be taken in last: it would undo what was read after it, for good.
    let _turn = directory.reading.lock().await;
    let lost = directory.apply(store.changes(directory.revision()).await?);
    directory.keep_lost(lost);
    Ok(())
}

/// Takes in changes until it is stopped. Whoever lost something is told to `ended`.
pub async fn run(directory: Arc<Directory>, store: Arc<dyn DirectoryStore>, ended: impl Fn(Lost)) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        match once(&directory, &*store).await {
            Ok(()) => {
                directory.set_behind(false);
                if std::mem::take(&mut failing) {
                    tracing::info!("the directory of orgs and members is up to date again");
                }
            }
            Err(error) if failing => tracing::debug!(error = %error, "the directory cannot be read"),
            Err(error) => {
                failing = true;
                directory.set_behind(true);
                tracing::error!(error = %error, "the directory of orgs and members cannot be read; what is known of it goes on");
            }
        }
        let lost = directory.take_lost();
        if lost != Lost::default() {
            ended(lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use async_trait::async_trait;
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::super::observing::Observing;
    use super::super::store::{Changes, DirectoryError, PutStanding};
    use super::super::{Member, Org};
    use super::*;

    /// Answers the first question last.
    #[derive(Debug, Default)]
    struct Slow(AtomicI64);

    #[async_trait]
    impl DirectoryStore for Slow {
        async fn changes(&self, after: i64) -> Result<Changes, ReadError> {
            let asked = self.0.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(if asked == 0 { 100 } else { 1 })).await;
            assert_eq!(after, asked, "what was read before is taken in");
            Ok(Changes { revision: asked + 1, ..Changes::default() })
        }

        async fn orgs(&self) -> Result<Vec<Org>, ReadError> {
            Ok(Vec::new())
        }

        async fn put_orgs(&self, _: &[Org], _: PutStanding, _: Timestamp) -> Result<(), DirectoryError> {
            Ok(())
        }

        async fn put_members(&self, _: &[Member], _: Timestamp) -> Result<(), DirectoryError> {
            Ok(())
        }

        async fn amend_member(&self, _: &Member, _: &Member, _: Timestamp) -> Result<bool, DirectoryError> {
            Ok(true)
        }

        async fn add_member(&self, _: &Member, _: Timestamp) -> Result<(), DirectoryError> {
            Ok(())
        }

        async fn put_observing(&self, _: &[Observing]) -> Result<(), DirectoryError> {
            Ok(())
        }

        async fn seen(&self, _: &[(Uuid, Timestamp)]) -> Result<(), DirectoryError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_first_is_taken_in_first() {
        let (directory, store) = (Directory::default(), Slow::default());
        let all = futures_util::future::join_all((0..4).map(|_| once(&directory, &store))).await;
        assert!(all.iter().all(Result::is_ok) && directory.revision() == 4);
    }
}
