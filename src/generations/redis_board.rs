//! What replicas tell each other about generations, over Redis. Nothing here is needed for a charge to be right; it makes
//! charges exact where a stream passed through another replica than the owner's.

use std::time::Duration;

use uuid::Uuid;

use super::told::{Paused, Told};
use crate::shared::Redis;

/// How long something told is kept: longer than any run.
const TOLD_FOR: Duration = Duration::from_hours(2);

/// How long a conversation's context is remembered, and what was charged of a run that waits for a person.
const REMEMBERED_FOR: Duration = Duration::from_hours(7 * 24);

/// More than this is not told, in bytes: the owner finds out by itself.
const MAX_TOLD: usize = 1024 * 1024;

/// The board.
#[derive(Debug, Clone)]
pub struct RedisBoard {
    redis: Redis,
}

/// A generation that was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Its id.
    pub id: Uuid,
    /// `generationCreatedAt` of its run, where LibreChat told it.
    pub created_at: Option<i64>,
}

impl Announced {
    fn read(text: &str) -> Option<Self> {
        let (id, created_at) = text.split_once(' ').map_or((text, None), |(id, created_at)| (id, Some(created_at)));
        Some(Self { id: id.parse().ok()?, created_at: created_at.and_then(|created_at| created_at.parse().ok()) })
    }

    fn text(self) -> String {
        self.created_at.map_or_else(|| self.id.to_string(), |created_at| format!("{} {created_at}", self.id))
    }
}

impl RedisBoard {
    /// A board on this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    fn conversation(&self, org: &str, member: &str, conversation_id: &str) -> String {
        self.redis.key(org, &format!("conversation:{member}:{conversation_id}"))
    }

    fn run(&self, org: &str, member: &str, conversation_id: &str, created_at: i64) -> String {
        self.redis.key(org, &format!("run:{member}:{created_at}:{conversation_id}"))
    }

    /// Tells everyone which generation runs in a member's conversation.
    pub async fn announce(&self, org: &str, member: &str, conversation_id: &str, generation: Announced) {
        let text = generation.text();
        let newest = self.conversation(org, member, conversation_id);
        if let Some(created_at) = generation.created_at {
            let run = self.run(org, member, conversation_id, created_at);
            let (newest, run) = tokio::join!(self.redis.put(&newest, &text, TOLD_FOR), self.redis.put(&run, &text, TOLD_FOR));
            forgive(newest.and(run));
        } else {
            forgive(self.redis.put(&newest, &text, TOLD_FOR).await);
        }
    }

    fn upstream(&self, org: &str, member: &str, conversation_id: &str) -> String {
        self.redis.key(org, &format!("upstream:{member}:{conversation_id}"))
    }

    /// Tells everyone at which LibreChat this generation of a member's conversation runs. This is apart from what is announced
    /// of it, whose text older versions read.
    pub async fn announce_upstream(&self, org: &str, member: &str, conversation_id: &str, (id, upstream): (Uuid, &str)) {
        let key = self.upstream(org, member, conversation_id);
        forgive(self.redis.put(&key, &format!("{id} {upstream}"), TOLD_FOR).await);
    }

    /// This generation runs there no more. A newer one of the conversation is left as it was told.
    pub async fn withdraw_upstream(&self, org: &str, member: &str, conversation_id: &str, id: Uuid) {
        let key = self.upstream(org, member, conversation_id);
        let is_its_own = |told: String| told.strip_prefix(&id.to_string()).is_some();
        if forgive(self.redis.get(&key).await).flatten().is_some_and(is_its_own) {
            forgive(self.redis.delete(&key).await);
        }
    }

    /// The LibreChat at which a member's conversation runs.
    pub async fn upstream_of(&self, org: &str, member: &str, conversation_id: &str) -> Option<String> {
        let told = forgive(self.redis.get(&self.upstream(org, member, conversation_id)).await).flatten()?;
        told.split_once(' ').map(|(_, upstream)| upstream.to_owned())
    }

    /// Takes a member's new conversation for a generation. Answers whether it is this generation's; while the board is away,
    /// nobody says otherwise.
    pub async fn take(&self, org: &str, member: &str, conversation_id: &str, id: Uuid) -> bool {
        let key = self.conversation(org, member, conversation_id);
        match forgive(self.redis.put_new(&key, &id.to_string(), TOLD_FOR).await) {
            Some(false) => self.announced(&key).await.is_none_or(|owner| owner.id == id),
            Some(true) | None => true,
        }
    }

    /// The generation that was announced for a run of a member's conversation: the one created then where that is known,
    /// else the newest; none where that is known to be another.
    pub async fn generation_of(&self, org: &str, member: &str, conversation_id: &str, created_at: Option<i64>) -> Option<Announced> {
        if let Some(created_at) = created_at
            && let Some(found) = self.announced(&self.run(org, member, conversation_id, created_at)).await
        {
            return Some(found);
        }
        let newest = self.announced(&self.conversation(org, member, conversation_id)).await?;
        (created_at.is_none() || newest.created_at.is_none() || newest.created_at == created_at).then_some(newest)
    }

    async fn announced(&self, key: &str) -> Option<Announced> {
        Announced::read(&forgive(self.redis.get(key).await).flatten()?)
    }

    /// Tells the owner everything that streams through `replica` showed; it takes the place of what was told before.
    pub async fn tell(&self, org: &str, id: Uuid, replica: &str, told: &Told) {
        let Ok(json) = serde_json::to_string(told) else { return };
        if json.len() > MAX_TOLD {
            tracing::debug!(generation.id = %id, bytes = json.len(), "too much was seen to be told");
            return;
        }
        let key = self.redis.key(org, &format!("seen:{id}"));
        let field = if told.created_at.is_some() { format!("{replica}:certain") } else { replica.to_owned() };
        forgive(self.redis.put_field(&key, &field, &json, TOLD_FOR).await);
    }

    /// What other replicas told about a generation.
    pub async fn told(&self, org: &str, id: Uuid) -> Vec<Told> {
        let key = self.redis.key(org, &format!("seen:{id}"));
        let told = forgive(self.redis.fields(&key).await).unwrap_or_default();
        told.iter().filter_map(|json| serde_json::from_str(json).ok()).collect()
    }

    /// Remembers what was charged of a member's run that waits for a person.
    pub async fn remember_paused(&self, org: &str, member: &str, conversation_id: &str, paused: &Paused) {
        let Ok(json) = serde_json::to_string(paused) else { return };
        let key = self.redis.key(org, &format!("paused:{member}:{conversation_id}"));
        if json.len() <= MAX_TOLD {
            forgive(self.redis.put(&key, &json, REMEMBERED_FOR).await);
        }
    }

    /// What was charged of a member's run that waited for a person.
    pub async fn paused(&self, org: &str, member: &str, conversation_id: &str) -> Option<Paused> {
        let key = self.redis.key(org, &format!("paused:{member}:{conversation_id}"));
        serde_json::from_str(&forgive(self.redis.get(&key).await).flatten()?).ok()
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
