//! Closes the books of a generation: what it cost is written to the journal first, with what its counters are charged, and
//! then the counters are settled. Both are idempotent by the generation's id, so a crash between them charges nothing twice
//! and forgets nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::charge::{Charged, ModelUse, Status, charge, taught_model};
use super::generation::{FIRST_FENCE, Generation};
use super::observation::{End, Observation};
use super::registry::Generations;
use super::start::Start;
use super::tools::{MAX_TOOL_CALLS, ToolCall, tool_calls};
use crate::limits::{MAX_AMOUNT, Resource, Settled};
use crate::prices::{Found, Price, UnknownModel, Usage};
use crate::records::capture::without_long_words;
use crate::records::journal::Note;
use crate::records::{AuditRow, Category, Outcome, ReadError, Rows, Severity, Sums, ToolRow, UsageRow};
use crate::telemetry::traces::Settled as SettledTrace;
use crate::tokens::Encoding;

/// How long a row may take to become durable before the counters are told what is coming.
const DURABLE_SOON: Duration = Duration::from_secs(1);

/// The pause between two attempts to settle with a store that is away.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The pauses before the looks for the saved answer of a stopped run.
const SAVED_SOON: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(800)];

/// How often the rows that an earlier owner may have written are asked for, while the database is away.
const ASKS_FOR_ROWS: u32 = 5;

/// An answer longer than this is counted off the event loop, in bytes.
const COUNTED_INLINE: usize = 32 * 1024;

impl Generations {
    /// Charges, records and settles a generation that is over.
    pub(super) async fn settle(&self, generation: &Arc<Generation>) {
        if !self.is_ours(generation).await {
            tracing::warn!(generation.id = %generation.start().id, "another replica settles a generation that was ours");
            return self.parts.recorder.note(generation.start().id, Note::Dismissed, String::new()).await;
        }
        if self.settle_as_written(generation).await {
            return;
        }
        let seen = self.seen_in_the_end(generation).await;
        let start = generation.record();
        let charged = self.charge(&start, &seen).await;
        let rows = self.rows(&start, &seen, &charged);
        let actual = amounts(&start, sums(&rows));
        self.teach(&start, &seen, &charged).await;
        let tools = tool_rows(&start, &seen);
        if tools.len() >= MAX_TOOL_CALLS {
            tracing::warn!(generation.id = %start.id, "a generation called more tools than are told apart");
        }
        let written = Rows {
            tools: tools.clone(),
            audit: vec![audit_row(&start, &seen, &charged, &rows).into()],
            usage: rows.iter().cloned().map(Into::into).collect(),
            ..Rows::default()
        };
        self.write_rows(&start, written, &actual).await;
        let counted = self.settle_counters(&start.org, start.id, &actual).await;
        self.parts.recorder.note(start.id, Note::Counted, String::new()).await;
        self.leaves(&start).await;
        if counted {
            self.measure(&start, &seen, &charged, &rows);
            self.trace(generation, &start, &seen, &rows);
            for row in &tools {
                self.parts.metrics.tool_call(row.outcome);
            }
        }
    }

    /// Where a generation was taken over from an owner that had written its rows, they stand, and only the counters are
    /// missing. Answers whether it was so.
    pub(super) async fn settle_as_written(&self, generation: &Generation) -> bool {
        let id = generation.start().id;
        if generation.fence() == FIRST_FENCE {
            return false;
        }
        for _ in 0..ASKS_FOR_ROWS {
            match self.parts.records.usage_of(id).await {
                Ok(rows) if rows.is_empty() => return false,
                Ok(rows) => {
                    let add = |sum: Sums, row: &crate::records::StoredUsage| Sums {
                        total_tokens: sum.total_tokens.saturating_add(row.total_tokens),
                        messages: sum.messages.saturating_add(row.messages.into()),
                        cost_nanousd: sum.cost_nanousd.saturating_add(row.cost_nanousd),
                    };
                    let actual = amounts(generation.start(), rows.iter().fold(Sums::default(), add));
                    self.settle_counters(&generation.start().org, id, &actual).await;
                    self.parts.recorder.note(id, Note::Dismissed, String::new()).await;
                    return true;
                }
                Err(ReadError::Unavailable(_)) => tokio::time::sleep(STORE_PAUSE).await,
                Err(error) => {
                    tracing::warn!(generation.id = %id, error = %error, "rows of a generation cannot be read");
                    return false;
                }
            }
        }
        false
    }

    fn trace(&self, generation: &Generation, start: &Start, seen: &Observation, rows: &[UsageRow]) {
        let Some(traces) = &self.parts.traces else { return };
        let (times, settled_at) = (generation.times(), self.parts.clock.now());
        let ended_at = seen.ended_at.unwrap_or(settled_at).clamp(start.admitted_at, settled_at.max(start.admitted_at));
        traces.tell(SettledTrace { start, times, first_token_at: seen.first_token_at, ended_at, settled_at, rows });
    }

    /// Takes back the reservation of a start that no generation came of.
    pub(super) async fn release(&self, generation: &Generation) {
        let start = generation.start();
        while let Err(error) = self.parts.store.release(&start.org, start.id).await {
            tracing::debug!(generation.id = %start.id, error = %error, "a reservation could not be released yet");
            tokio::time::sleep(STORE_PAUSE).await;
        }
        self.parts.recorder.note(start.id, Note::Dismissed, String::new()).await;
    }

    /// What was seen; of a stopped run, with the usage that LibreChat saves with its answer but does not send.
    async fn seen_in_the_end(&self, generation: &Generation) -> Observation {
        let mut seen = generation.seen();
        // Whoever came late saw only the last calls of it.
        let stopped_unmetered = seen.end == Some(End::Aborted) && seen.reported.is_none();
        if stopped_unmetered
            && seen.created
            && generation.is_detached()
            && let Some(conversation_id) = generation.conversation_id()
            && let Some(saved) = self.saved_soon(generation, &conversation_id).await
        {
            seen.merge(&saved);
        }
        self.recall_paused(generation).await;
        if seen.end == Some(End::Paused) {
            self.remember_paused(generation, &seen).await;
        }
        generation.own_part_of(seen)
    }

    /// The saved answer of a stopped run, which LibreChat may save a moment after it said so.
    async fn saved_soon(&self, generation: &Generation, conversation_id: &str) -> Option<Observation> {
        for pause in SAVED_SOON {
            tokio::time::sleep(pause).await;
            if let Ok(Some(saved)) = self.saved_answer(generation, conversation_id).await {
                return Some(saved);
            }
        }
        None
    }

    async fn charge(&self, start: &Start, seen: &Observation) -> Charged {
        let counter = self.parts.counter.clone();
        let count = move |model: &str, text: &str| counter.count(Encoding::for_model(model).0, text);
        if seen.transcript.bytes() <= COUNTED_INLINE {
            return charge(start, seen, &count);
        }
        let (start_there, seen_there, count_there) = (start.clone(), seen.clone(), count.clone());
        let charged = tokio::task::spawn_blocking(move || charge(&start_there, &seen_there, &count_there)).await;
        charged.unwrap_or_else(|_| charge(start, seen, &count))
    }

    fn rows(&self, start: &Start, seen: &Observation, charged: &Charged) -> Vec<UsageRow> {
        let now = self.parts.clock.now();
        let ended_at = seen.ended_at.unwrap_or(now).clamp(start.admitted_at, now.max(start.admitted_at));
        let row = |(index, used): (usize, &ModelUse)| UsageRow {
            id: row_id(start.id, index),
            time: start.admitted_at,
            generation_id: start.id,
            org_id: start.org.clone(),
            member_id: start.member.clone(),
            org_day: start.org_day.clone(),
            org_month: start.org_month.clone(),
            endpoint: start.endpoint.clone(),
            model: used.model.clone(),
            agent_id: start.agent_id.clone(),
            conversation_id: start.conversation_id.clone().or_else(|| seen.conversation_id.clone()),
            messages: u32::from(index == 0 && charged.counts_as_message),
            input_tokens: used.tokens.input,
            output_tokens: used.tokens.output,
            cache_read_tokens: used.tokens.cache_read,
            cache_write_tokens: used.tokens.cache_write,
            total_tokens: used.tokens.total(),
            cost_nanousd: self.cost(used, start.admitted_at),
            price_version: self.parts.prices.version().clone(),
            usage_source: used.source.as_str(),
            estimate_tokens: start.estimate_tokens(),
            status: charged.status.as_str(),
            time_to_first_token_ms: seen.first_token_at.map(|first| milliseconds(start.admitted_at, first)),
            duration_ms: milliseconds(start.admitted_at, ended_at),
            request_id: start.request_id.clone(),
        };
        charged.uses.iter().enumerate().map(row).collect()
    }

    fn cost(&self, used: &ModelUse, at: Timestamp) -> u64 {
        let usage = Usage {
            input: used.tokens.input,
            output: used.tokens.output,
            cache_read: used.tokens.cache_read,
            cache_write: used.tokens.cache_write,
        };
        self.parts.price_of(&used.model, at).map_or(0, |price| price.cost(usage))
    }

    /// Remembers what the next message of the conversation will at least carry: this prompt and its answer.
    async fn teach(&self, start: &Start, seen: &Observation, charged: &Charged) {
        if matches!(charged.status, Status::Failed | Status::Lost) && !seen.measured_anything() {
            return;
        }
        let last = charged.uses.iter().map(|used| used.tokens).max_by_key(|tokens| tokens.total()).unwrap_or_default();
        // Several calls within one answer each sent the prompt again; the last prompt is what grows.
        let context = seen.contexts.values().map(|context| context.tokens).max();
        let tokens = context.map_or(last.total(), |context| context.saturating_add(last.output));
        let model = taught_model(start, seen).unwrap_or_default();
        self.recall.learn(start, start.conversation_id.as_deref(), tokens, &model).await;
    }

    fn measure(&self, start: &Start, seen: &Observation, charged: &Charged, rows: &[UsageRow]) {
        let metrics = &self.parts.metrics;
        for row in rows {
            metrics.usage(row);
        }
        let first_token = seen.first_token_at.map(|first| Duration::from_millis(milliseconds(start.admitted_at, first)));
        metrics.generation_settled(charged.status.as_str(), first_token);
        metrics.estimate(rows.iter().map(|row| row.total_tokens).sum(), start.estimate_tokens());
        if rows.iter().any(|row| matches!(self.parts.prices.price(&row.model, row.time), Found::Unknown)) {
            metrics.unpriced_message();
        }
    }

    /// Waits until the rows are in the journal. Where that takes long, the counters hold the truth meanwhile.
    async fn write_rows(&self, start: &Start, rows: Rows, actual: &[Settled]) {
        let amounts = Amounts { org: start.org.clone(), amounts: actual.to_vec() };
        let amounts = serde_json::to_string(&amounts).unwrap_or_default();
        let mut recorded = std::pin::pin!(self.parts.recorder.settle(start.id, rows, amounts));
        let result = if let Ok(result) = tokio::time::timeout(DURABLE_SOON, &mut recorded).await {
            result
        } else {
            if let Err(error) = self.parts.store.extend(&start.org, start.id, actual).await {
                tracing::debug!(generation.id = %start.id, error = %error, "a reservation could not be raised");
            }
            recorded.await
        };
        if let Err(error) = result {
            tracing::error!(generation.id = %start.id, error = %error, "usage rows of a generation are not in the journal");
        }
    }

    /// Settles, however long the store is away. Answers whether this replica was the one that did, as far as it can know:
    /// where an answer was lost, the store may have settled all the same.
    pub(super) async fn settle_counters(&self, org: &str, id: Uuid, actual: &[Settled]) -> bool {
        let mut was_lost = false;
        loop {
            match self.parts.store.settle(org, id, actual).await {
                Ok(counted) => return counted || was_lost,
                Err(error) => tracing::debug!(generation.id = %id, error = %error, "a generation could not be settled yet"),
            }
            was_lost = true;
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }
}

/// What a generation's counters are charged, as it stands in the journal until they are.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Amounts {
    pub(super) org: Arc<str>,
    pub(super) amounts: Vec<Settled>,
}

impl super::registry::Parts {
    /// The price of a model at a time; `None` where it is free because the table does not know it.
    pub(super) fn price_of(&self, model: &str, at: Timestamp) -> Option<&Price> {
        match (self.prices.price(model, at), self.unknown_model) {
            (Found::Known(price), _) => Some(price),
            (Found::Unknown, UnknownModel::Free) => None,
            (Found::Unknown, UnknownModel::DefaultPrice | UnknownModel::Reject) => Some(self.prices.default_price()),
        }
    }
}

/// The id of the row of the `index`-th model: the generation's own for the first, and one made from it for any further one,
/// the same whoever writes it.
fn row_id(generation: Uuid, index: usize) -> Uuid {
    Uuid::from_u128(generation.as_u128().wrapping_add(index as u128))
}

/// What rows come to.
fn sums(rows: &[UsageRow]) -> Sums {
    let sum = |of: fn(&UsageRow) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
    Sums { total_tokens: sum(|row| row.total_tokens), messages: sum(|row| row.messages.into()), cost_nanousd: sum(|row| row.cost_nanousd) }
}

/// What the counters that hold a generation are charged.
fn amounts(start: &Start, sums: Sums) -> Vec<Settled> {
    let amount = |resource| match resource {
        Resource::Tokens => sums.total_tokens,
        Resource::Messages => sums.messages,
        Resource::Cost => sums.cost_nanousd,
    };
    let settled = |bucket: &crate::limits::Bucket| Settled { bucket: bucket.clone(), amount: amount(bucket.resource).min(MAX_AMOUNT) };
    start.buckets.iter().map(settled).collect()
}

fn audit_row(start: &Start, seen: &Observation, charged: &Charged, rows: &[UsageRow]) -> AuditRow {
    let failed = matches!(charged.status, Status::Failed | Status::Lost);
    AuditRow {
        id: row_id(start.id, usize::from(u16::MAX)),
        // Part of the row's key, which whoever settles must make the same.
        time: start.admitted_at,
        category: Category::Api,
        severity: if failed { Severity::Warning } else { Severity::Info },
        org_id: Some(start.org.clone()),
        org_day: Some(start.org_day.clone()),
        actor_id: Some(start.member.clone()),
        actor_name: start.member_name.clone(),
        actor_role: Some(start.role.clone()),
        action: "chat.settled",
        resource_type: Some("generation"),
        resource_id: Some(start.id.to_string()),
        outcome: if failed { Outcome::Failure } else { Outcome::Success },
        request_id: Some(start.request_id.clone()),
        method: None,
        path: None,
        query: None,
        status: None,
        duration_ms: rows.first().map(|row| row.duration_ms),
        error: failed.then(|| charged.status.as_str().to_owned()),
        address: Some(start.address.clone()),
        user_agent: Some(without_long_words(&start.user_agent)),
        conversation_id: start.conversation_id.clone().or_else(|| seen.conversation_id.clone()),
        model: rows.first().map(|row| row.model.clone()),
        total_tokens: Some(rows.iter().map(|row| row.total_tokens).sum()),
        cost_nanousd: Some(rows.iter().map(|row| row.cost_nanousd).sum()),
        count: 1,
        reference: None,
        detail: None,
        link: None,
    }
}

/// One row for each tool that was called. Their time is that of the usage rows, so that whoever writes them again, having
/// seen more or less, writes the same rows.
pub fn tool_rows(start: &Start, seen: &Observation) -> Vec<ToolRow> {
    let row = |call: ToolCall| ToolRow {
        id: call.id,
        time: start.admitted_at,
        generation_id: start.id,
        org_id: start.org.clone(),
        member_id: start.member.clone(),
        org_day: start.org_day.clone(),
        org_month: start.org_month.clone(),
        conversation_id: start.conversation_id.clone().or_else(|| seen.conversation_id.clone()),
        tool: call.tool,
        mcp_server: call.mcp_server,
        outcome: call.outcome,
        duration_ms: call.duration_ms,
        error: call.error,
    };
    tool_calls(start, seen).into_iter().map(row).collect()
}

fn milliseconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default()
}
