//! Attends to one generation until its books are closed: waits for what its streams show, follows it by a subscription
//! of our own when nobody watches, and asks LibreChat how it ended when no stream reached the end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;

use super::claims::Claim;
use super::generation::{Generation, Phase};
use super::observation::{End, Observation};
use super::reader;
use super::redis_board::Announced;
use super::registry::{Generations, same_run};
use crate::librechat::client::CallError;
use crate::records::journal::Note;

/// The longest pause between two questions about a run that LibreChat says is still active.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a stream may be silent before LibreChat is asked whether the run is still at work.
const LONGEST_SILENCE: Duration = Duration::from_mins(5);

/// How often the saved answer of a run that is over is looked for before it is given up. LibreChat saves it a moment after the end.
const LOOKS_FOR_SAVED: u32 = 4;

/// The pauses after which the record of a generation is written once more, where the store did not answer. Until it says
/// that the request was forwarded, a replica that dies leaves it to be released.
const WRITTEN_SOON: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// What is remembered between two questions.
#[derive(Debug)]
struct Following {
    /// The last sign of life.
    alive_at: Timestamp,
    pause: Duration,
    looks: u32,
    /// The last error on a stream after which LibreChat was asked.
    asked_after: Option<Timestamp>,
    written: Option<Phase>,
}

impl Generations {
    pub(super) async fn attend(self: Arc<Self>, generation: Arc<Generation>) {
        // What is rare or short stands in boxes: this future lives as long as the run does, and there are many of them.
        let mut following =
            Following { alive_at: self.parts.clock.now(), pause: Duration::from_millis(500), looks: 0, asked_after: None, written: None };
        if Box::pin(self.settle_as_written(&generation)).await {
            return self.forget(generation.start().id);
        }
        loop {
            let phase = generation.phase();
            if following.written != Some(phase) && matches!(phase, Phase::Asked | Phase::Direct | Phase::Running) {
                following.written = Some(phase);
                generation.reached(phase, self.parts.clock.now());
                Box::pin(self.write_down(&generation, phase)).await;
            }
            match phase {
                Phase::Admitted | Phase::Asked | Phase::Direct => generation.changed().await,
                Phase::Unseen => Box::pin(self.look_for(&generation)).await,
                Phase::Running => self.follow(&generation, &mut following).await,
                Phase::Over => break Box::pin(self.settle(&generation)).await,
                Phase::Dismissed => break Box::pin(self.release(&generation)).await,
                Phase::Disowned => break self.parts.recorder.note(generation.start().id, Note::Dismissed, String::new()).await,
            }
        }
        self.forget(generation.start().id);
    }

    /// Keeps the journal up to date, and the shared record, so that another process or replica can take over.
    async fn write_down(&self, generation: &Generation, phase: Phase) {
        let record = generation.record();
        match phase {
            Phase::Running => self.parts.recorder.note(record.id, Note::Running, record.to_json()).await,
            // It may have gone elsewhere than was written down when it was admitted.
            _ if record.upstream != generation.start().upstream => {
                self.parts.recorder.note(record.id, Note::Forwarded, record.to_json()).await;
            }
            _ => self.parts.recorder.note(record.id, Note::Forwarded, String::new()).await,
        }
        // Nobody reads the record of a store that is not shared.
        let Some(board) = &self.parts.board else { return };
        let announced = async {
            if let Some(conversation_id) = record.conversation_id.as_ref().filter(|_| phase == Phase::Running) {
                if record.goes_on {
                    self.close_the_waiting(generation, conversation_id).await;
                }
                let announced = Announced { id: record.id, created_at: record.created_at };
                let at = record.upstream.as_deref().filter(|_| self.parts.librechat.upstreams().are_several());
                let whereabouts = async {
                    if let Some(at) = at {
                        board.announce_upstream(&record.org, &record.member, conversation_id, (record.id, at)).await;
                    }
                };
                tokio::join!(board.announce(&record.org, &record.member, conversation_id, announced), whereabouts);
            }
        };
        let written = async {
            self.write_record(generation, &record).await;
            for pause in WRITTEN_SOON {
                if !generation.is_unwritten() {
                    break;
                }
                tokio::time::sleep(pause).await;
                self.write_record(generation, &record).await;
            }
        };
        tokio::join!(announced, written);
    }

    /// Waits for a change; when nobody watches for a while, sees for itself.
    async fn follow(&self, generation: &Arc<Generation>, following: &mut Following) {
        // An error on a stream may be that stream's alone.
        let error_at = generation.error_at();
        if let (true, Some(conversation_id)) = (error_at > following.asked_after, generation.conversation_id()) {
            following.asked_after = error_at;
            return Box::pin(self.ask_how_it_ended(generation, &conversation_id, following)).await;
        }
        if generation.watchers() > 0 {
            following.alive_at = self.parts.clock.now();
            // A client that does not read its stream must not keep the generation open for ever.
            if tokio::time::timeout(LONGEST_SILENCE, generation.changed()).await.is_err()
                && let Some(conversation_id) = generation.conversation_id()
            {
                self.ask_how_it_ended(generation, &conversation_id, following).await;
            }
            return;
        }
        tokio::select! {
            () = generation.changed() => return,
            () = tokio::time::sleep(self.parts.settings.follow_after) => {}
        }
        if generation.phase() != Phase::Running || generation.watchers() > 0 {
            return;
        }
        Box::pin(self.hear_others(generation)).await;
        if generation.phase() != Phase::Running {
            return;
        }
        let Some(conversation_id) = generation.conversation_id() else { return generation.give_up() };
        match Box::pin(self.watch_ourselves(generation, &conversation_id, following)).await {
            Ok(true) => {}
            Ok(false) => Box::pin(self.ask_how_it_ended(generation, &conversation_id, following)).await,
            Err(error) => self.wait_or_give_up(generation, following, &error).await,
        }
    }

    /// Follows by a subscription of our own. Answers whether its end was seen.
    async fn watch_ourselves(
        &self,
        generation: &Arc<Generation>,
        conversation_id: &str,
        following: &mut Following,
    ) -> Result<bool, CallError> {
        let person = generation.start().person();
        let created_at = generation.created_at();
        let stream = self.librechat_of(generation).subscribe(&person, conversation_id, created_at).await;
        let mut stream = match stream {
            Ok(stream) => std::pin::pin!(stream),
            // The run is over, or another took its place. Any other refusal says nothing about it.
            Err(error) if error.tells_that_nothing_runs() => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut reader = self.detached_reader();
        loop {
            tokio::select! {
                chunk = tokio::time::timeout(LONGEST_SILENCE, stream.next()) => match chunk {
                    Ok(Some(Ok(chunk))) => {
                        following.alive_at = self.parts.clock.now();
                        if reader.push(&chunk, self.parts.clock.now()) {
                            self.tell_of_run(generation, created_at, reader.seen());
                        }
                    }
                    // Silence may be work, or a connection that nobody is at the other end of: the status tells.
                    Ok(Some(Err(_)) | None) | Err(_) => break,
                },
                () = generation.changed() => {}
            }
            if generation.phase() != Phase::Running {
                return Ok(true);
            }
        }
        reader.close(self.parts.clock.now());
        self.tell_of_run(generation, created_at, reader.seen());
        Ok(generation.phase() != Phase::Running)
    }

    /// No stream shows it: asks whether it still runs, and reads the saved answer when it does not.
    async fn ask_how_it_ended(&self, generation: &Arc<Generation>, conversation_id: &str, following: &mut Following) {
        let person = generation.start().person();
        match self.librechat_of(generation).status(&person, conversation_id).await {
            Ok(status) if status.active && same_run(generation.created_at(), status.created_at) => {
                following.alive_at = self.parts.clock.now();
                let paused = status.so_far.paused;
                let mut seen = Observation::default();
                reader::absorb_sync(&mut seen, status.so_far, &self.parts.tool_rules);
                seen.status_calls = std::mem::take(&mut seen.calls);
                self.tell_of_run(generation, status.created_at, &seen);
                if paused {
                    return generation.closed(End::Paused, self.parts.clock.now());
                }
                self.pause(generation, following).await;
            }
            Ok(_) => self.read_saved(generation, conversation_id, following).await,
            Err(error) if error.tells_that_nothing_runs() => self.read_saved(generation, conversation_id, following).await,
            Err(error) => self.wait_or_give_up(generation, following, &error).await,
        }
    }

    async fn read_saved(&self, generation: &Arc<Generation>, conversation_id: &str, following: &mut Following) {
        match self.saved_answer(generation, conversation_id).await {
            Ok(Some(seen)) => return self.tell_end(generation, &seen),
            Ok(None) => following.looks += 1,
            Err(error) => return self.wait_or_give_up(generation, following, &error).await,
        }
        self.hear_others(generation).await;
        if generation.phase() != Phase::Running {
            return;
        }
        if generation.error_at().is_some() {
            // It is over, and an error was the last that was seen of it.
            return generation.closed(End::Failed, self.parts.clock.now());
        }
        if following.looks >= LOOKS_FOR_SAVED {
            tracing::warn!(generation.id = %generation.start().id, "the end of a generation was not seen and no answer was saved");
            generation.give_up();
        } else {
            self.pause(generation, following).await;
        }
    }

    fn tell_end(&self, generation: &Generation, seen: &Observation) {
        self.tell(generation, seen);
        if generation.phase() == Phase::Running {
            generation.give_up();
        }
    }

    /// The saved answer of this generation in its conversation, if LibreChat has one. Where its run is not known, it is the
    /// one that was saved since and is no other generation's; what was said only chooses among several, since LibreChat
    /// runs an edited message with what it has saved.
    pub(super) async fn saved_answer(&self, generation: &Generation, conversation_id: &str) -> Result<Option<Observation>, CallError> {
        let start = generation.start();
        let saved = match self.librechat_of(generation).messages(&start.person(), conversation_id).await {
            Err(error) if error.tells_that_nothing_runs() => return Ok(None),
            saved => saved?,
        };
        // LibreChat's own clock tells best, where it has told.
        let began = generation.created_at().and_then(|began| Timestamp::from_millisecond(began).ok()).unwrap_or(start.admitted_at);
        let not_before = began.saturating_sub(jiff::SignedDuration::from_secs(CLOCKS_DIFFER_SECONDS)).unwrap_or(Timestamp::MIN);
        let since = |time: Option<Timestamp>| time.map(|time| time >= not_before);
        let run = |run_id: &str| Claim::of_run(&start.member, conversation_id, run_id);
        let mut answers = saved.answers;
        if let Some(run_id) = generation.seen().run_id {
            let answer = answers.into_iter().find(|answer| answer.message_id == run_id && since(answer.created_at) != Some(false));
            return Ok(answer.map(|answer| reader::of_saved(answer, &self.parts.tool_rules)));
        }
        let is_ours = |asked: Option<&str>| asked.is_none_or(|text| start.may_have_said(text));
        answers.retain(|answer| {
            since(answer.created_at) == Some(true)
                && (is_ours(answer.asked.as_deref())
                    || !self.may_be_anothers(generation, conversation_id, answer.asked.as_deref().unwrap_or_default()))
        });
        answers.sort_by_key(|answer| !is_ours(answer.asked.as_deref()));
        let answer = answers.into_iter().find(|answer| self.claims.claim(run(&answer.message_id), start.id));
        Ok(answer.map(|answer| reader::of_saved(answer, &self.parts.tool_rules)))
    }

    async fn wait_or_give_up(&self, generation: &Generation, following: &mut Following, error: &CallError) {
        let silent = self.parts.clock.now().duration_since(following.alive_at);
        if silent >= jiff::SignedDuration::try_from(self.parts.settings.give_up_after).unwrap_or(jiff::SignedDuration::MAX) {
            tracing::warn!(generation.id = %generation.start().id, error = %error, "no sign of a generation any more; it is settled by what was seen");
            return generation.give_up();
        }
        self.pause(generation, following).await;
    }

    async fn pause(&self, generation: &Generation, following: &mut Following) {
        let _ = tokio::time::timeout(following.pause, generation.changed()).await;
        following.pause = (following.pause * 2).min(LONGEST_PAUSE);
    }
}

/// How far LibreChat's clock may be from ours, in seconds.
pub(super) const CLOCKS_DIFFER_SECONDS: i64 = 5;
