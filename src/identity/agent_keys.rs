//! LibreChat's own API keys (`sk-...`), as far as it vouches for them.
//!
//! What a key asks for is counted to an org before LibreChat sees it, so a key that somebody made up must not get that far.
//! LibreChat is asked once for each; the answer is kept for a while, by the key's digest.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};

use super::LookupError;
use super::access::TenantId;
use super::answers::Answers;
use crate::clock::SharedClock;

/// How long a key is believed. LibreChat judges it again with every request that passes.
const GOOD_LASTS: SignedDuration = SignedDuration::from_mins(5);

/// How long a key is believed to be nobody's: short, for it may be made in the next moment.
const BAD_LASTS: SignedDuration = SignedDuration::from_secs(30);

/// How long a failure to ask is shared.
const FAILURE_LASTS: SignedDuration = SignedDuration::from_secs(1);

/// What LibreChat says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStanding {
    /// It is someone's, who may use the API.
    Good,
    /// It is nobody's.
    Unknown,
    /// It is someone's, who may not use the API.
    Forbidden,
    /// LibreChat could not be asked.
    Away,
}

/// What a key is called in limits, rows and here; the key itself is never kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// The name of a key.
    pub fn of(key: &str) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        let short = digest.iter().take(8).fold(0_u64, |short, byte| short << 8 | u64::from(*byte));
        Self(format!("key:{short:016x}").into())
    }

    /// As it is written.
    pub fn text(&self) -> Arc<str> {
        self.0.clone()
    }
}

/// LibreChat's API keys.
pub struct AgentKeys {
    lookup: Lookup,
    answers: Answers<KeyStanding>,
}

/// Asks LibreChat about a key, for a client at this address, in a tenant where there is one.
type Lookup = Box<dyn Fn(String, String, Option<TenantId>) -> BoxFuture<'static, Result<KeyStanding, LookupError>> + Send + Sync>;

impl std::fmt::Debug for AgentKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AgentKeys").field("known", &self.answers.len()).finish_non_exhaustive()
    }
}

impl AgentKeys {
    /// Keys that are looked up with this function, from the key, the client's address and the tenant. It must end by itself.
    pub fn new<F>(lookup: impl Fn(String, String, Option<TenantId>) -> F + Send + Sync + 'static, clock: SharedClock) -> Self
    where
        F: Future<Output = Result<KeyStanding, LookupError>> + Send + 'static,
    {
        let lasts = |standing: &KeyStanding| match standing {
            KeyStanding::Good => GOOD_LASTS,
            KeyStanding::Unknown | KeyStanding::Forbidden => BAD_LASTS,
            KeyStanding::Away => FAILURE_LASTS,
        };
        Self { lookup: Box::new(move |key, address, tenant| lookup(key, address, tenant).boxed()), answers: Answers::new(clock, lasts) }
    }

    /// What LibreChat says of a key of this tenant.
    pub async fn standing(&self, key: &str, name: &KeyName, address: String, tenant: Option<&TenantId>) -> KeyStanding {
        if !key.starts_with("sk-") {
            return KeyStanding::Unknown;
        }
        let ask = || async {
            (self.lookup)(key.to_owned(), address, tenant.cloned()).await.unwrap_or_else(|error| {
                tracing::warn!(%error, user.id = &*name.0, "LibreChat could not be asked about an API key");
                KeyStanding::Away
            })
        };
        self.answers.of(name.text(), ask).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test]
    async fn each_key_is_asked_about_once_in_a_while() {
        let start = Timestamp::from_second(1_795_199_000).unwrap();
        let clock = ManualClock::at(start);
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let lookup = move |key: String, _, _| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok(if key == "sk-good" { KeyStanding::Good } else { KeyStanding::Unknown }) }
        };
        let keys = AgentKeys::new(lookup, clock.clone());
        let standing = async |key: &str| keys.standing(key, &KeyName::of(key), "127.0.0.1".into(), None).await;
        for _ in 0..3 {
            assert_eq!(standing("sk-good").await, KeyStanding::Good);
            assert_eq!(standing("sk-bad").await, KeyStanding::Unknown);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2, "both answers are kept");
        assert_eq!(standing("Bearer").await, KeyStanding::Unknown);
        assert_eq!(asked.load(Ordering::SeqCst), 2, "what is no key is not asked about");
        clock.set(start + BAD_LASTS);
        let _ = (standing("sk-good").await, standing("sk-bad").await);
        assert_eq!(asked.load(Ordering::SeqCst), 3, "a bad key may have been made meanwhile");
        clock.set(start + GOOD_LASTS);
        standing("sk-good").await;
        assert_eq!(asked.load(Ordering::SeqCst), 4, "a good one may have been taken away");
    }
}
