//! Ends what runs for people who may no longer: LibreChat is told to stop, and what was used until then is charged.

use std::sync::Arc;
use std::time::Duration;

use super::generation::{Generation, Phase};
use super::registry::Generations;
use crate::identity::directory::{Lost, refresh};

/// How long a start may take to be answered before its run is left to its own end.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long it takes until every replica knows of a change, and has ended the streams that it shows. Only then LibreChat is
/// told: an answer that was stopped says so itself, and that would be the last that its person reads.
const OTHERS_KNOW_AFTER: Duration = refresh::EVERY.saturating_add(Duration::from_millis(100));

/// How often it is looked whether it was.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Generations {
    /// Ends every generation of these orgs, members and sessions that this replica owns. The others do the same with theirs.
    pub fn end_those_of(self: &Arc<Self>, lost: &Lost) {
        for generation in self.all_open() {
            let start = generation.start();
            let is_of_session = start.session.is_some_and(|session| lost.sessions.contains(&session));
            if is_of_session || lost.orgs.contains(&start.org) || lost.members.contains(&start.member) {
                self.parts.runtime.spawn(end(Arc::clone(self), generation));
            }
        }
    }
}

async fn end(generations: Arc<Generations>, generation: Arc<Generation>) {
    let start = generation.start();
    tokio::time::sleep(OTHERS_KNOW_AFTER).await;
    let answered = tokio::time::timeout(PATIENCE, async {
        while matches!(generation.phase(), Phase::Admitted | Phase::Asked | Phase::Unseen) {
            // Whoever attends to it is told of its changes, and nobody else.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    // A run whose stream is its own POST's answer ends with that.
    if answered.await.is_err() || generation.phase() != Phase::Running {
        return;
    }
    let Some(conversation_id) = generation.conversation_id() else { return };
    match generations.librechat_of(&generation).abort(&start.person(), &conversation_id, generation.created_at()).await {
        Ok(()) => tracing::info!(generation.id = %start.id, org.id = &*start.org, "ended an answer of somebody who was stopped"),
        Err(error) if error.tells_that_nothing_runs() => {}
        Err(error) => {
            tracing::warn!(generation.id = %start.id, error = %error, "an answer of somebody who was stopped could not be ended");
        }
    }
}
