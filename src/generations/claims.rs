//! Whose a run or a conversation is, where nothing on the wire says so.
//!
//! Ids of runs come from clients (`responseMessageId`), and are the same again where an answer is edited or continued. So
//! a claim never decides whether what a generation's own stream shows is its own. It only decides between generations
//! that look for a lost run, and it counts within one member's conversation only.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use uuid::Uuid;

/// How many are remembered.
const CLAIMS: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// What is claimed: a member, their conversation, and what of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    member: Arc<str>,
    conversation_id: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Conversation,
    CreatedAt(i64),
    Run(String),
}

impl Claim {
    /// A new conversation.
    pub(super) fn of_conversation(member: &Arc<str>, conversation_id: &str) -> Self {
        Self { member: Arc::clone(member), conversation_id: conversation_id.to_owned(), what: What::Conversation }
    }

    /// The run that was created then.
    pub(super) fn of_creation(member: &Arc<str>, conversation_id: &str, created_at: i64) -> Self {
        Self { what: What::CreatedAt(created_at), ..Self::of_conversation(member, conversation_id) }
    }

    /// The run with this id.
    pub(super) fn of_run(member: &Arc<str>, conversation_id: &str, run_id: &str) -> Self {
        Self { what: What::Run(run_id.to_owned()), ..Self::of_conversation(member, conversation_id) }
    }
}

/// Every claim.
#[derive(Debug)]
pub(super) struct Claims(Mutex<LruCache<Claim, Uuid>>);

impl Default for Claims {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(CLAIMS)))
    }
}

impl Claims {
    /// Claims for a generation, first come, first served. Answers whether it is this generation's.
    pub(super) fn claim(&self, claim: Claim, id: Uuid) -> bool {
        *self.0.lock().get_or_insert(claim, || id) == id
    }

    /// Claims for a generation that it surely belongs to, whoever guessed otherwise before.
    pub(super) fn put(&self, claim: Claim, id: Uuid) {
        self.0.lock().put(claim, id);
    }

    /// Whose it is.
    pub(super) fn holder(&self, claim: &Claim) -> Option<Uuid> {
        self.0.lock().peek(claim).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_id_is_another_run_elsewhere() {
        let (ada, bob) = (Arc::from("ada"), Arc::from("bob"));
        let claims = Claims::default();
        for (n, (member, conversation)) in [(&ada, "c1"), (&ada, "c2"), (&bob, "c1")].into_iter().enumerate() {
            assert!(claims.claim(Claim::of_run(member, conversation, "same-id"), Uuid::from_u128(n as u128)), "{member} in {conversation}");
        }
        assert!(!claims.claim(Claim::of_run(&ada, "c1", "same-id"), Uuid::from_u128(9)), "the first has it");
        claims.put(Claim::of_run(&ada, "c1", "same-id"), Uuid::from_u128(9));
        assert_eq!(claims.holder(&Claim::of_run(&ada, "c1", "same-id")), Some(Uuid::from_u128(9)));
    }
}
