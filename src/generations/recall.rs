//! What earlier generations taught about the next one: how large a conversation's prompt was, and which model an agent uses.
//!
//! It only makes the opening estimate better, so it is bounded, may be forgotten, and is shared between replicas where
//! there is a shared store.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use super::redis_board::RedisBoard;
use super::start::Start;

/// How many conversations and agents are remembered here.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// The memory.
#[derive(Debug)]
pub struct Recall {
    board: Option<RedisBoard>,
    contexts: Mutex<LruCache<String, u64>>,
    models: Mutex<LruCache<String, String>>,
}

impl Recall {
    /// Nothing remembered yet. Where there is a `board`, replicas share what they remember on it.
    pub fn new(board: Option<RedisBoard>) -> Self {
        Self { board, contexts: Mutex::new(LruCache::new(REMEMBERED)), models: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// The tokens of a conversation's last prompt and answer; 0 where nothing is known.
    pub async fn context_of(&self, org: &str, member: &str, conversation_id: &str) -> u64 {
        let key = format!("{member}:{conversation_id}");
        // The board knows better where the last message went through another replica.
        if let Some(board) = &self.board
            && let Some(tokens) = board.recalled(org, &format!("context:{key}")).await.and_then(|tokens| tokens.parse().ok())
        {
            return tokens;
        }
        self.contexts.lock().get(&key).copied().unwrap_or_default()
    }

    /// The model that an agent's last answer came from.
    pub async fn model_of(&self, org: &str, agent_id: &str) -> Option<String> {
        let key = format!("{org}:{agent_id}");
        if let Some(model) = self.models.lock().get(&key) {
            return Some(model.clone());
        }
        self.board.as_ref()?.recalled(org, &format!("model:{agent_id}")).await
    }

    /// Remembers what a settled generation showed.
    pub async fn learn(&self, start: &Start, conversation_id: Option<&str>, context_tokens: u64, model: &str) {
        if let Some(conversation_id) = conversation_id {
            let key = format!("{}:{conversation_id}", start.member);
            if let Some(board) = &self.board {
                board.remember(&start.org, &format!("context:{key}"), &context_tokens.to_string()).await;
            }
            self.contexts.lock().put(key, context_tokens);
        }
        if let (Some(agent_id), false) = (&start.agent_id, model.is_empty()) {
            let previous = self.models.lock().put(format!("{}:{agent_id}", start.org), model.to_owned());
            if let Some(board) = self.board.as_ref().filter(|_| previous.as_deref() != Some(model)) {
                board.remember(&start.org, &format!("model:{agent_id}"), model).await;
            }
        }
    }
}
