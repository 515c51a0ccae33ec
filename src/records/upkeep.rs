//! Looks after the journal's file: brings its log back into it, forgets what is over, and measures it.

use std::sync::Arc;
use std::time::Duration;

use super::journal::Journal;
use super::recorder::Ledger;

/// How often.
const EVERY: Duration = Duration::from_millis(500);

/// Looks after it until it is stopped.
pub(super) async fn run(journal: Journal, ledger: Arc<Ledger>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(reason) = look_after(&journal, &ledger).await {
            tracing::debug!(error = reason, "the journal could not be looked after");
        }
    }
}

async fn look_after(journal: &Journal, ledger: &Ledger) -> Result<(), String> {
    let source = journal.source();
    while source.tidy().await? {
        // Appends come first.
        tokio::task::yield_now().await;
    }
    source.thin_heads().await?;
    source.checkpoint().await?;
    journal.state().measured(source.bytes().await?);
    *ledger.oldest.lock() = source.oldest().await?;
    Ok(())
}
