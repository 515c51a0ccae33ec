//! Looks after the journal's file: brings its log back into it, forgets what is over, measures it, and says when it has no
//! room.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::journal::Journal;
use super::recorder::{Ledger, Losses};
use super::rows::Rows;
use super::{AuditRow, Category, Outcome, Severity, StoredAudit};
use crate::clock::SharedClock;

/// How often.
const EVERY: Duration = Duration::from_millis(500);

/// How often the log is brought back into the file, which makes chat starts wait for the disk a little longer meanwhile.
const CHECKPOINTS_EVERY: Duration = Duration::from_secs(5);

/// The pause between two steps of forgetting.
const STEP_PAUSE: Duration = Duration::from_micros(1500);

/// So many steps of one look have pauses between them; where there is more to forget, it must not fall behind.
const PAUSED_STEPS: u32 = 150;

/// Looks after it until it is stopped.
pub(super) async fn run(journal: Journal, ledger: Arc<Ledger>, clock: SharedClock) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut without_room, mut known) = (None, Losses::default());
    let mut checkpoint_at = Instant::now();
    loop {
        let now = ticks.tick().await;
        // Where there is no room, the log may be what takes it.
        let is_due = now >= checkpoint_at || is_without_room(&journal);
        if is_due {
            checkpoint_at = now + CHECKPOINTS_EVERY;
        }
        if let Err(reason) = look_after(&journal, &ledger, is_due).await {
            tracing::debug!(error = reason, "the journal could not be looked after");
        }
        // What lasts for less than a look shows by what it cost.
        let losses = ledger.losses();
        let before = std::mem::replace(&mut known, losses);
        let said = match (&without_room, is_without_room(&journal) || losses != before) {
            (None, true) => {
                let begun = WithoutRoom { since: clock.now(), losses: before };
                Some((begins(&journal, begun.since), Some(begun)))
            }
            (Some(episode), false) => Some((ends(episode, losses, clock.now()), None)),
            _ => None,
        };
        if let Some((row, next)) = said {
            without_room = next;
            let rows = Rows { audit: vec![row], ..Rows::default() };
            let journal = journal.clone();
            // It waits for room itself, which this task has to make.
            tokio::spawn(async move { drop(journal.rows(rows).await) });
        }
    }
}

/// A time in which the journal takes no new chats.
#[derive(Debug)]
struct WithoutRoom {
    since: Timestamp,
    /// As they were at its beginning.
    losses: Losses,
}

fn is_without_room(journal: &Journal) -> bool {
    let health = journal.health();
    health.full || health.failing_for.is_some()
}

fn begins(journal: &Journal, now: Timestamp) -> StoredAudit {
    let health = journal.health();
    let error =
        health.last_error.filter(|_| health.failing_for.is_some()).map_or_else(|| "it is full".to_owned(), |error| error.to_string());
    AuditRow {
        outcome: Outcome::Failure,
        error: Some(error),
        detail: Some(json!({ "bytes": health.bytes, "max_bytes": health.max_bytes, "rows": health.rows })),
        ..AuditRow::plain(now, Category::System, Severity::Critical, "journal.full".to_owned())
    }
}

fn ends(episode: &WithoutRoom, losses: Losses, now: Timestamp) -> StoredAudit {
    let WithoutRoom { since, losses: before } = episode;
    let lost = losses.usage_rows + losses.audit_rows + losses.unrecorded > before.usage_rows + before.audit_rows + before.unrecorded;
    let severity = if lost { Severity::Critical } else { Severity::Info };
    AuditRow {
        detail: Some(json!({
            "since": since,
            "starts_refused": losses.turned_away - before.turned_away,
            "starts_unrecorded": losses.unrecorded - before.unrecorded,
            "usage_rows_lost": losses.usage_rows - before.usage_rows,
            "audit_rows_lost": losses.audit_rows - before.audit_rows,
        })),
        ..AuditRow::plain(now, Category::System, severity, "journal.has_room".to_owned())
    }
}

async fn look_after(journal: &Journal, ledger: &Ledger, checkpoint: bool) -> Result<(), String> {
    let source = journal.source();
    let mut steps = 0;
    while source.tidy().await? {
        give_way(&mut steps).await;
    }
    while source.thin_heads().await? {
        give_way(&mut steps).await;
    }
    if checkpoint {
        source.checkpoint().await?;
    }
    journal.state().measured(source.bytes().await?);
    *ledger.oldest.lock() = source.oldest().await?;
    Ok(())
}

/// Appends come first: each step holds them up a little, and one that follows at once would hold up the next.
async fn give_way(steps: &mut u32) {
    *steps += 1;
    if *steps <= PAUSED_STEPS { tokio::time::sleep(STEP_PAUSE).await } else { tokio::task::yield_now().await }
}
