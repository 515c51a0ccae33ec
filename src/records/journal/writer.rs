//! The one task that appends to the journal: takes what has come meanwhile, and commits it with one write to the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::sqlite::{Source, Writable};
use super::{Append, Entry, HEADS, JournalError, ROWS, State};
use crate::records::RowLog;
use crate::records::linker::Linker;
use crate::records::rows::Rows;

/// The most that is committed at once.
const GROUP: usize = 512;

/// The pause before what must be written is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// How often a failure that goes on is logged.
const FAILURE_LOGGED_EVERY: Duration = Duration::from_mins(1);

/// Appends until it is closed and nothing waits any more.
pub(super) async fn run(
    source: Source,
    mut waiting: mpsc::Receiver<Append>,
    mut closing: watch::Receiver<bool>,
    state: Arc<State>,
    mut linker: Option<Linker>,
    row_log: Option<RowLog>,
) {
    let mut group: Vec<Append> = Vec::with_capacity(GROUP);
    let mut closed = false;
    loop {
        if group.is_empty() {
            tokio::select! {
                biased;
                taken = waiting.recv_many(&mut group, GROUP) => if taken == 0 { return },
                _ = closing.changed(), if !closed => {
                    closed = true;
                    // Whoever has a place in the queue still gets it.
                    waiting.close();
                    continue;
                }
            }
        }
        let failed = commit(&source, &mut group, &state, linker.as_mut(), row_log.as_ref()).await.is_err();
        if failed && !group.is_empty() {
            if closed || *closing.borrow() {
                return give_up(group);
            }
            pause(&mut group, &mut waiting, &state).await;
        }
    }
}

/// Commits the group. What must be written stays in it when that fails; of the rest, whoever waits is told.
async fn commit(
    source: &Source,
    group: &mut Vec<Append>,
    state: &State,
    mut linker: Option<&mut Linker>,
    row_log: Option<&RowLog>,
) -> Result<(), JournalError> {
    if let Some(linker) = &mut linker {
        link(group, linker);
    }
    let entries = entries(group, linker.as_deref());
    match source.append(&entries).await {
        Ok(()) => {
            if let Some(linker) = &mut linker {
                linker.keep();
            }
            if let Some(log) = row_log {
                let ring = linker.as_deref().map(Linker::ring);
                for append in group.iter() {
                    log.rows(&append.rows, ring);
                }
            }
            for done in group.drain(..).filter_map(|append| append.done) {
                // Nobody has to wait.
                let _ = done.send(Ok(()));
            }
            state.appended(&entries);
            recovered(state);
            Ok(())
        }
        Err(problem) => {
            let error = match problem {
                Writable::Full => JournalError::Full,
                Writable::No(reason) => JournalError::Unwritable(reason),
            };
            failed(state, &error);
            refuse(group, &error);
            Err(error)
        }
    }
}

/// Seals and links the group's audit rows, in the order they are written. Rows are never given up while this runs, so that
/// those of a commit that failed keep their places in their chains, and nothing has to be taken back.
fn link(group: &mut [Append], linker: &mut Linker) {
    for append in group.iter_mut().filter(|append| !append.linked) {
        append.linked = true;
        for row in &mut append.rows.audit {
            append.rows.keys.extend(linker.prepare_or_strike(row).as_deref().cloned());
        }
    }
}

/// The group as it stands in the file: all its rows in one entry, where that leaves their chains, and one for each note. Rows
/// come first, so that a generation's books are never closed before its rows are there.
fn entries(group: &[Append], linker: Option<&Linker>) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(group.len() + 2);
    let rows = Rows::together(group.iter().map(|append| &append.rows));
    if rows.count() > 0 {
        entries.push(Entry { kind: ROWS, generation: None, rows: rows.count(), body: rows.to_json() });
    }
    if let Some(heads) = linker.map(Linker::moved).filter(|heads| !heads.is_empty()) {
        // Texts and numbers: there is nothing that cannot be written.
        let body = serde_json::to_string(&heads).unwrap_or_default();
        entries.push(Entry { kind: HEADS, generation: None, rows: 0, body });
    }
    for (id, note, record) in group.iter().filter_map(|append| append.note.as_ref()) {
        entries.push(Entry { kind: note.code(), generation: Some(*id), rows: 0, body: record.clone() });
    }
    entries
}

/// Tells those that need not be written, and drops them.
fn refuse(group: &mut Vec<Append>, error: &JournalError) {
    for append in group.extract_if(.., |append| !append.must) {
        if let Some(done) = append.done {
            let _ = done.send(Err(error.clone()));
        }
    }
}

/// Waits a while before trying again; what comes meanwhile and need not be written is refused at once, and nobody waits
/// behind what cannot be written.
async fn pause(group: &mut Vec<Append>, waiting: &mut mpsc::Receiver<Append>, state: &State) {
    let until = Instant::now() + PAUSE;
    let error = JournalError::Unwritable(state.trouble.lock().last.clone().unwrap_or_else(|| Arc::from("it fails")));
    while group.len() < GROUP
        && let Ok(Some(append)) = tokio::time::timeout_at(until, waiting.recv()).await
    {
        group.push(append);
        refuse(group, &error);
    }
    tokio::time::sleep_until(until).await;
}

fn give_up(group: Vec<Append>) {
    for append in group {
        append.rows.log_lost("could not be written to the journal before the stop");
        if let Some(done) = append.done {
            let _ = done.send(Err(JournalError::Closed));
        }
    }
}

fn recovered(state: &State) {
    if state.failing.swap(false, Relaxed) {
        let mut trouble = state.trouble.lock();
        trouble.logged = None;
        let since = trouble.since.take();
        tracing::info!(journal.failing_ms = since.map(|since| since.elapsed().as_millis()), "the journal is being written again");
    }
}

fn failed(state: &State, error: &JournalError) {
    state.failing.store(true, Relaxed);
    let now = Instant::now();
    let mut trouble = state.trouble.lock();
    trouble.last = Some(error.to_string().into());
    trouble.since.get_or_insert(now);
    if trouble.logged.is_none_or(|logged| now.duration_since(logged) >= FAILURE_LOGGED_EVERY) {
        trouble.logged = Some(now);
        tracing::error!(error = %error, "the journal cannot be written; see records.when_full for what new chats get");
    }
}
