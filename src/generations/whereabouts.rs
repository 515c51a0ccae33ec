//! Where runs are: which of several LibreChats is asked about a generation, and which one its person is sent to for what has to
//! do with it, wherever they are at home by now.

use std::sync::Arc;

use super::generation::Generation;
use super::registry::Generations;
use super::start::Start;
use crate::librechat::client::LibreChat;

/// Whether a run that waits for a person counts. Which runs do is remembered for long after they went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It does, to who asks about it or goes on with it.
    IsRun,
    /// It does not, to whatever else is said there.
    IsNoRun,
}

impl Generations {
    /// LibreChat, where this generation runs.
    pub(super) fn librechat_of(&self, generation: &Generation) -> LibreChat {
        self.parts.librechat.at(generation.upstream())
    }

    /// It runs nowhere any more: what its person says next in the conversation goes to wherever they are at home.
    pub(super) async fn leaves(&self, start: &Start) {
        if let (Some(board), Some(conversation_id), true) =
            (&self.parts.board, &start.conversation_id, self.parts.librechat.upstreams().are_several())
        {
            board.withdraw_upstream(&start.org, &start.member, conversation_id, start.id).await;
        }
    }

    /// The LibreChat at which the newest run of this member's conversation is, or of any conversation where none is named; nothing
    /// where nothing is known to run. What runs at other replicas is known by its conversation only.
    pub async fn whereabouts(&self, org: &str, member: &Arc<str>, conversation_id: Option<&str>, waiting: Waiting) -> Option<Arc<str>> {
        if let Some(at) = self.whereabouts_here(member, conversation_id) {
            return Some(at);
        }
        let conversation_id = conversation_id?;
        if let Some(board) = &self.parts.board
            && let Some(at) = board.upstream_of(org, member, conversation_id).await
        {
            return Some(at.into());
        }
        if waiting == Waiting::IsNoRun {
            return None;
        }
        let waits_in = (Arc::clone(member), conversation_id.to_owned());
        let here = self.paused.lock().peek(&waits_in).and_then(|paused| paused.upstream.clone());
        match (here, &self.parts.board) {
            (None, Some(board)) => board.paused(org, member, conversation_id).await?.upstream,
            (here, _) => here,
        }
    }

    fn whereabouts_here(&self, member: &Arc<str>, conversation_id: Option<&str>) -> Option<Arc<str>> {
        let theirs = self.open_of(member).into_iter().filter(|generation| {
            !generation.phase().is_decided() && conversation_id.is_none_or(|asked| generation.conversation_id().as_deref() == Some(asked))
        });
        theirs.max_by_key(|generation| generation.start().id)?.upstream()
    }
}
