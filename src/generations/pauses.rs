//! Runs that wait for a person. Such a run is charged up to its pause, and goes on with a resume, which is a generation of
//! its own: what was charged before is taken off what that one sees.

use std::sync::Arc;

use super::claims::Claim;
use super::generation::Generation;
use super::observation::{End, Observation};
use super::registry::{Generations, same_run};
use super::told::{Paused, Told, light};

impl Generations {
    /// A generation goes on with the run that waited for a person in a conversation. What was seen of it before is
    /// charged to the generation that began it.
    pub(super) fn take_up(&self, generation: &Generation, conversation_id: &str) {
        let (start, id) = (generation.start(), generation.start().id);
        let remembered = self.paused.lock().pop(&(Arc::clone(&start.member), conversation_id.to_owned()));
        let waiting = self.find(&start.member, conversation_id, None).filter(|waiting| waiting.start().id != id);
        let seen = match waiting {
            Some(waiting) => {
                // Nobody had watched it stop.
                waiting.closed(End::Paused, self.parts.clock.now());
                waiting.whole_run(&waiting.seen())
            }
            None => match remembered {
                Some(paused) => paused.seen,
                None => return,
            },
        };
        if let Some(run_id) = &seen.run_id {
            self.claims.put(Claim::of_run(&start.member, conversation_id, run_id), id);
        }
        generation.goes_on_after(&seen);
    }

    /// Adds what other replicas charged of the run that a generation goes on with.
    pub(super) async fn recall_paused(&self, generation: &Generation) {
        let start = generation.start();
        if let (true, Some(board), Some(conversation_id)) = (start.goes_on, &self.parts.board, generation.conversation_id())
            && let Some(paused) = board.paused(&start.org, &start.member, &conversation_id).await
            && paused.by != start.id
            && same_run(paused.created_at, generation.created_at())
        {
            generation.goes_on_after(&paused.seen);
        }
    }

    /// Remembers what was charged of a run that waits for a person.
    pub(super) async fn remember_paused(&self, generation: &Generation, seen: &Observation) {
        let Some(conversation_id) = generation.conversation_id() else { return };
        let start = generation.start();
        let (created_at, seen) = (generation.created_at(), light(generation.whole_run(seen)));
        let paused = Paused { by: start.id, created_at, seen, upstream: generation.upstream() };
        if let Some(board) = &self.parts.board {
            board.remember_paused(&start.org, &start.member, &conversation_id, &paused).await;
        }
        self.paused.lock().put((Arc::clone(&start.member), conversation_id), paused);
    }

    /// A generation goes on with a run whose generation another replica may own, and may not have seen stop: it is told.
    pub(super) async fn close_the_waiting(&self, generation: &Generation, conversation_id: &str) {
        let Some(board) = &self.parts.board else { return };
        let (start, created_at) = (generation.start(), generation.created_at());
        let waiting = board.generation_of(&start.org, &start.member, conversation_id, created_at).await;
        let Some(waiting) = waiting.filter(|waiting| waiting.id != start.id && self.by_id(waiting.id).is_none()) else { return };
        let seen = Observation { end: Some(End::Paused), ended_at: Some(self.parts.clock.now()), ..Observation::default() };
        self.tell_others(&start.org, waiting.id, Told { created_at: created_at.and(waiting.created_at), seen }).await;
    }
}
