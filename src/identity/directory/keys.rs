//! Keys, as far as this process knows: those of members, and whose those are that LibreChat made.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::identity::keys::{AgentKey, ApiKey};

/// Every key by the hash that it is kept under. There are as many as people made, which is bounded for each of them.
#[derive(Debug, Default)]
pub(super) struct Keys {
    made_here: HashMap<Box<str>, Arc<ApiKey>>,
    of_librechat: HashMap<Arc<str>, AgentKey>,
}

impl Keys {
    /// A key that is new, or not what it was.
    pub(super) fn put(&mut self, hash: String, key: ApiKey) {
        self.made_here.insert(hash.into(), Arc::new(key));
    }

    pub(super) fn made_here(&self, hash: &str) -> Option<Arc<ApiKey>> {
        self.made_here.get(hash).cloned()
    }

    /// Forgets those that ended or were revoked before.
    pub(super) fn tidy(&mut self, before: Timestamp) {
        self.made_here.retain(|_, key| key.expires >= before && key.revoked.is_none_or(|revoked| revoked >= before));
    }

    pub(super) fn put_agent_key(&mut self, key: AgentKey) {
        if key.forgotten {
            self.of_librechat.remove(&key.hash);
        } else {
            self.of_librechat.insert(key.hash.clone(), key);
        }
    }

    pub(super) fn forget_agent_key(&mut self, owner: &str, id: &str) {
        self.of_librechat.retain(|_, key| !(*key.owner == *owner && *key.id == *id));
    }

    /// How many keys of LibreChat's somebody has.
    pub(super) fn count_of(&self, owner: &str) -> usize {
        self.of_librechat.values().filter(|key| *key.owner == *owner).count()
    }

    /// Whose a key of LibreChat's is.
    pub(super) fn owner(&self, hash: &str) -> Option<Arc<str>> {
        self.of_librechat.get(hash).map(|key| key.owner.clone())
    }
}
