//! Looks for a generation whose start was forwarded but not answered: the client hung up, or the connection broke.
//! LibreChat runs it all the same, so it is found and followed, or settled at its estimate; it is never let go.
//!
//! A run is known again by its conversation and by when it began, by what the person said where several come into
//! question, and belongs to one generation only. One look is
//! made for all lost starts of a person together, so that many of them do not ask LibreChat for everything many times over.

use std::sync::Arc;
use std::time::Duration;

use super::attend::CLOCKS_DIFFER_SECONDS;
use super::claims::Claim;
use super::generation::{Generation, Phase};
use super::registry::Generations;
use crate::librechat::client::{CallError, Conversation, LibreChat, Person};

/// The pause before the first look. Each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// LibreChat may still be reading the request, or may be starting again.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// How many looks LibreChat has to answer before a start counts as lost: some ten seconds after it was forwarded.
const LOOKS: u32 = 6;

/// How many of a person's newest conversations are asked for, more where those do not reach back to the start that is looked for:
/// a program that goes on begins many in the time that a process takes to come back.
const NEWEST: [usize; 3] = [100, 1_000, 10_000];

/// A run that LibreChat told of.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    conversation_id: &'a str,
    /// When it began, in milliseconds since 1970.
    began_at: Option<i64>,
    /// `generationCreatedAt`, which tells it from other runs of the conversation.
    created_at: Option<i64>,
    /// What the person said; several things where it is not known which of them began it, none where it is not told.
    said: &'a [String],
    /// The LibreChat where it runs, by its name; what is saved is told by any.
    at: Option<&'a str>,
}

impl Generations {
    /// Finds the run, and turns the generation into a running one; or gives it up.
    pub(super) async fn look_for(&self, generation: &Arc<Generation>) {
        let began = tokio::time::Instant::now();
        let (mut looks, mut pause) = (0, FIRST_PAUSE);
        // Whoever comes with a key of LibreChat's own API is no person on whose behalf LibreChat could be asked, and what
        // that API runs ends with its connection.
        let can_be_asked_for = !generation.start().is_of_a_key();
        while can_be_asked_for && looks < LOOKS && began.elapsed() < self.parts.settings.give_up_after {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // Where this replica took it over, others may have seen it.
            self.hear_others(generation).await;
            if generation.phase() != Phase::Unseen {
                return;
            }
            let looked = match generation.conversation_id() {
                Some(conversation_id) => self.look_in(generation, conversation_id).await,
                None => self.look_everywhere(generation).await,
            };
            if generation.phase() != Phase::Unseen {
                return;
            }
            match looked {
                Ok(()) => looks += 1,
                Err(error) => tracing::debug!(generation.id = %generation.start().id, error = %error, "looking for a generation"),
            }
        }
        generation.not_found();
        if generation.phase() == Phase::Over {
            tracing::warn!(generation.id = %generation.start().id, "a start was forwarded and never heard of again; it is settled at its estimate");
        }
    }

    /// Looks in the conversation that went on.
    async fn look_in(&self, generation: &Arc<Generation>, conversation_id: String) -> Result<(), CallError> {
        let start = generation.start();
        if start.goes_on {
            self.take_up(generation, &conversation_id);
        }
        match self.librechat_of(generation).status(&start.person(), &conversation_id).await {
            Ok(status) if status.active => {
                let ours = start.goes_on && !status.so_far.paused
                    || status.created_at.is_none_or(|created_at| began_after(generation, created_at))
                        && status
                            .so_far
                            .said
                            .as_deref()
                            .is_none_or(|text| start.may_have_said(text) || !self.may_be_anothers(generation, &conversation_id, text))
                        && self.claim_creation(generation, &conversation_id, status.created_at);
                if ours {
                    generation.started(conversation_id, status.created_at);
                    return Ok(());
                }
            }
            Ok(_) => {}
            Err(error) if error.tells_that_nothing_runs() => {}
            Err(error) => return Err(error),
        }
        if let Some(seen) = self.saved_answer(generation, &conversation_id).await? {
            self.tell(generation, &seen);
        }
        Ok(())
    }

    /// Whether another generation of the same conversation is more likely to have begun a run in which this was said: it
    /// said so, or what it said is not known and it still waits for its answer.
    pub(super) fn may_be_anothers(&self, generation: &Generation, conversation_id: &str, said: &str) -> bool {
        self.all_open().iter().any(|other| {
            let start = other.start();
            start.id != generation.start().id
                && start.member == generation.start().member
                && other.conversation_id().as_deref() == Some(conversation_id)
                && if start.said.is_some() { start.may_have_said(said) } else { other.phase() == Phase::Asked }
        })
    }

    /// Looks among the person's running conversations, then among their newest ones, for all of their lost starts.
    async fn look_everywhere(&self, generation: &Arc<Generation>) -> Result<(), CallError> {
        let searches = self.searches_of(&generation.start().member);
        let _one_at_a_time = searches.lock().await;
        if generation.phase() != Phase::Unseen {
            return Ok(());
        }
        let person = generation.start().person();
        let mut unanswered = None;
        let (at, librechat) = (generation.upstream(), self.librechat_of(generation));
        for conversation_id in running(&librechat, &person).await? {
            if self.is_taken(generation, &conversation_id) {
                continue;
            }
            if let Some(status) = kept(librechat.status(&person, &conversation_id).await, &mut unanswered)
                && status.active
            {
                let said: Vec<String> = status.so_far.said.into_iter().collect();
                let (began_at, created_at) = (status.created_at, status.created_at);
                let run = Run { conversation_id: &conversation_id, began_at, created_at, said: &said, at: at.as_deref() };
                self.give(generation, run).await;
            }
        }
        if generation.phase() != Phase::Unseen {
            return Ok(());
        }
        // Those that are over, oldest first: its own began soon after it, and who says the same thing several times gets them in the
        // order they were made.
        for (conversation_id, began_at) in begun_since(&librechat, generation, &person).await? {
            if !self.is_taken(generation, &conversation_id)
                && let Some(saved) = kept(librechat.messages(&person, &conversation_id).await, &mut unanswered)
            {
                let (began_at, said) = (Some(began_at), &saved.said);
                let run = Run { conversation_id: &conversation_id, began_at, created_at: None, said, at: None };
                self.give(generation, run).await;
                if generation.phase() != Phase::Unseen {
                    return Ok(());
                }
            }
        }
        unanswered.map_or(Ok(()), Err)
    }

    /// Gives a run to the oldest lost start of the same person that can have begun it. A start whose answer is still on
    /// its way will hear of its run by itself, so that a run that may be its is left alone.
    async fn give(&self, of: &Generation, run: Run<'_>) {
        let mut candidates = self.all_open();
        candidates.retain(|candidate| {
            let start = candidate.start();
            start.member == of.start().member
                && matches!(candidate.phase(), Phase::Asked | Phase::Unseen)
                && candidate.conversation_id().is_none()
                && (run.at.is_none() || candidate.upstream().as_deref() == run.at)
                && run.began_at.is_none_or(|began_at| began_after(candidate, began_at))
                && (run.said.is_empty() || run.said.iter().any(|text| start.may_have_said(text)))
        });
        candidates.sort_unstable_by_key(|candidate| candidate.start().id);
        let Some(first) = candidates.first() else { return };
        let is_awaited = candidates.iter().any(|candidate| candidate.phase() == Phase::Asked);
        if !is_awaited && self.take(first, run.conversation_id).await {
            first.started(run.conversation_id.to_owned(), run.created_at);
        }
    }

    /// Whether a new conversation is known as some generation's here.
    fn is_taken(&self, generation: &Generation, conversation_id: &str) -> bool {
        self.claims.holder(&Claim::of_conversation(&generation.start().member, conversation_id)).is_some()
    }

    /// Takes a new conversation for a generation, unless it is another's here or at another replica.
    async fn take(&self, generation: &Generation, conversation_id: &str) -> bool {
        let start = generation.start();
        if !self.claims.claim(Claim::of_conversation(&start.member, conversation_id), start.id) {
            return false;
        }
        match &self.parts.board {
            Some(board) => board.take(&start.org, &start.member, conversation_id, start.id).await,
            None => true,
        }
    }
}

/// The person's running conversations; none where this LibreChat does not tell, as before 0.8.2.
async fn running(librechat: &LibreChat, person: &Person) -> Result<Vec<String>, CallError> {
    match librechat.active(person).await {
        Err(error) if error.tells_that_nothing_runs() => Ok(Vec::new()),
        active => active,
    }
}

/// An answer of LibreChat's; none where it has nothing there. Any other failure is kept: it was no look.
fn kept<T>(answer: Result<T, CallError>, unanswered: &mut Option<CallError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) => {
            if !error.tells_that_nothing_runs() {
                *unanswered = Some(error);
            }
            None
        }
    }
}

/// The person's conversations that can be this generation's, and when each began in milliseconds since 1970, oldest first.
async fn begun_since(librechat: &LibreChat, generation: &Generation, person: &Person) -> Result<Vec<(String, i64)>, CallError> {
    let begun = |conversation: &Conversation| conversation.created_at.map(jiff::Timestamp::as_millisecond);
    let is_older = |conversation: &Conversation| begun(conversation).is_some_and(|began_at| !began_after(generation, began_at));
    let (mut conversations, mut reaches_back) = (Vec::new(), false);
    for newest in NEWEST {
        conversations = librechat.newest_conversations(person, newest).await?;
        reaches_back = conversations.len() < newest || conversations.last().is_some_and(is_older);
        if reaches_back {
            break;
        }
    }
    if !reaches_back {
        generation.is_out_of_sight();
    }
    let dated = conversations.into_iter().rev().filter_map(|conversation| Some((begun(&conversation)?, conversation.conversation_id)));
    let possible = dated.filter(|(began_at, _)| began_after(generation, *began_at));
    Ok(possible.map(|(began_at, conversation_id)| (conversation_id, began_at)).collect())
}

/// Whether a run can be this generation's: it began when that was admitted, or later.
fn began_after(generation: &Generation, created_at_ms: i64) -> bool {
    created_at_ms >= generation.start().admitted_at.as_millisecond() - CLOCKS_DIFFER_SECONDS * 1000
}
