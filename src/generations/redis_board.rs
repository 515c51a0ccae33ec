//! What replicas tell each other about generations, over Redis. Nothing here is needed for a charge to be right; it makes
//! charges exact where a stream passed through another replica than the owner's.

use std::time::Duration;

use uuid::Uuid;

use super::observation::Observation;
use crate::shared::Redis;

/// How long something told is kept: longer than any run.
const TOLD_FOR: Duration = Duration::from_hours(2);

/// How long a conversation's context is remembered.
const REMEMBERED_FOR: Duration = Duration::from_hours(7 * 24);

/// The board.
#[derive(Debug, Clone)]
pub struct RedisBoard {
    redis: Redis,
}

impl RedisBoard {
    /// A board on this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// Tells everyone which generation runs in a member's conversation.
    pub async fn announce(&self, org: &str, member: &str, conversation_id: &str, id: Uuid) {
        let key = self.redis.key(org, &format!("conversation:{member}:{conversation_id}"));
        forgive(self.redis.put(&key, &id.to_string(), TOLD_FOR).await);
    }

    /// Takes a member's new conversation for a generation. Answers whether it is this generation's; while the board is away,
    /// nobody says otherwise.
    pub async fn take(&self, org: &str, member: &str, conversation_id: &str, id: Uuid) -> bool {
        let key = self.redis.key(org, &format!("conversation:{member}:{conversation_id}"));
        match forgive(self.redis.put_new(&key, &id.to_string(), TOLD_FOR).await) {
            Some(false) => self.generation_of(org, member, conversation_id).await.is_none_or(|owner| owner == id),
            Some(true) | None => true,
        }
    }

    /// The newest generation that was announced for a member's conversation.
    pub async fn generation_of(&self, org: &str, member: &str, conversation_id: &str) -> Option<Uuid> {
        let key = self.redis.key(org, &format!("conversation:{member}:{conversation_id}"));
        forgive(self.redis.get(&key).await).flatten()?.parse().ok()
    }

    /// Tells the owner what a stream through this replica showed.
    pub async fn tell(&self, org: &str, id: Uuid, seen: &Observation) {
        let Ok(json) = serde_json::to_string(seen) else { return };
        let key = self.redis.key(org, &format!("told:{id}"));
        forgive(self.redis.push(&key, &json, TOLD_FOR).await);
    }

    /// What other replicas told about a generation.
    pub async fn told(&self, org: &str, id: Uuid) -> Vec<Observation> {
        let key = self.redis.key(org, &format!("told:{id}"));
        let told = forgive(self.redis.list(&key).await).unwrap_or_default();
        told.iter().filter_map(|json| serde_json::from_str(json).ok()).collect()
    }

    /// Remembers a fact for the next estimate.
    pub async fn remember(&self, org: &str, what: &str, value: &str) {
        let key = self.redis.key(org, &format!("recall:{what}"));
        forgive(self.redis.put(&key, value, REMEMBERED_FOR).await);
    }

    /// A remembered fact.
    pub async fn recalled(&self, org: &str, what: &str) -> Option<String> {
        let key = self.redis.key(org, &format!("recall:{what}"));
        forgive(self.redis.get(&key).await).flatten()
    }
}

/// A board that is away is no reason to fail: the connection logs and counts it.
fn forgive<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| tracing::debug!(error = %error, "the board is away")).ok()
}
