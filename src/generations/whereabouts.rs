//! Where runs are: which of several LibreChats is asked about a generation, and which one its person is sent to for what has to
//! do with it, wherever they are at home by now.

use std::sync::Arc;

use super::generation::Generation;
use super::registry::Generations;
use crate::librechat::client::LibreChat;

impl Generations {
    /// LibreChat, where this generation runs.
    pub(super) fn librechat_of(&self, generation: &Generation) -> LibreChat {
        self.parts.librechat.at(generation.upstream())
    }

    /// The LibreChat at which the newest run of this member's conversation is, or of any conversation where none is named; nothing
    /// where nothing is known to run. What runs at other replicas is known by its conversation only.
    pub async fn whereabouts(&self, org: &str, member: &Arc<str>, conversation_id: Option<&str>) -> Option<Arc<str>> {
        if let Some(at) = self.whereabouts_here(member, conversation_id) {
            return Some(at);
        }
        let (conversation_id, board) = (conversation_id?, self.parts.board.as_ref()?);
        if let Some(at) = board.upstream_of(org, member, conversation_id).await {
            return Some(at.into());
        }
        board.paused(org, member, conversation_id).await?.upstream
    }

    fn whereabouts_here(&self, member: &Arc<str>, conversation_id: Option<&str>) -> Option<Arc<str>> {
        let theirs = self.open_of(member).into_iter().filter(|generation| {
            !generation.phase().is_decided() && conversation_id.is_none_or(|asked| generation.conversation_id().as_deref() == Some(asked))
        });
        if let Some(newest) = theirs.max_by_key(|generation| generation.start().id) {
            return newest.upstream();
        }
        let waits_in = (Arc::clone(member), conversation_id?.to_owned());
        self.paused.lock().peek(&waits_in).and_then(|paused| paused.upstream.clone())
    }
}
