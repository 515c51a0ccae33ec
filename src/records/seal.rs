//! Seals what tells a person by in an audit row (name, address, user agent, captured text) under a key of that person's
//! own, before the row is linked. Destroying the key makes all of it unreadable, in every copy, while the chain still holds.
//!
//! A sealed text is `sealed:1:KEY:BASE64`, AES-256-GCM over a random nonce; row and field are authenticated with it, so
//! that a sealed text cannot be moved to another row or field.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use lru::LruCache;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::capture::CAPTURED;
use super::chain::{hex, unhex};
use super::member_keys::MemberKeys;
use super::{AuditRow, ReadError, StoredAudit};

/// What a sealed text begins with.
const SEALED: &str = "sealed:1:";

/// What is read where the key is destroyed.
pub const ERASED: &str = "(erased)";

/// How many members' keys are held in memory.
const HELD_KEYS: usize = 50_000;

/// The key of one member of one org. A member may have several: each Tollgate makes its own where it knows none.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberKey {
    /// Its id, which sealed texts name.
    pub key_id: Uuid,
    /// The org.
    pub org_id: String,
    /// The member.
    pub member_id: String,
    /// 32 bytes in hexadecimal.
    pub key: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberKey({})", self.key_id)
    }
}

/// Why a row cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The machine gives no randomness.
    #[error("the machine gives no random bytes")]
    NoRandomness,
    /// The key is none.
    #[error("a member's key cannot be used")]
    BadKey,
}

impl MemberKey {
    /// A new key.
    pub fn generate(org: &str, member: &str, now: Timestamp) -> Result<Self, SealError> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::NoRandomness)?;
        // As both databases give it back.
        let created_at = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        Ok(Self { key_id: Uuid::new_v4(), org_id: org.to_owned(), member_id: member.to_owned(), key: hex(&bytes), created_at })
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        let bytes = unhex(&self.key).ok_or(SealError::BadKey)?;
        UnboundKey::new(&AES_256_GCM, &bytes).map(LessSafeKey::new).map_err(|_| SealError::BadKey)
    }
}

/// Whose key seals a row: its org and its actor. A row that names nobody has no person to be erased, and stays as it is.
pub fn person_of<Word>(row: &AuditRow<Word>) -> Option<(&str, &str)> {
    Some((super::chain::chain_of(row), row.actor_id.as_deref()?))
}

/// Seals a row in place. To be done once, before it is linked.
pub fn seal<Word>(row: &mut AuditRow<Word>, key: &MemberKey) -> Result<(), SealError> {
    let sealing = Sealing { cipher: key.cipher()?, key_id: key.key_id, row: row.id };
    if let Some(name) = &row.actor_name {
        row.actor_name = Some(sealing.seal("actor_name", name)?.into());
    }
    if let Some(address) = &row.address {
        row.address = Some(sealing.seal("address", address)?);
    }
    if let Some(user_agent) = &row.user_agent {
        row.user_agent = Some(sealing.seal("user_agent", user_agent)?);
    }
    if let Some(captured) = row.detail.as_mut().and_then(|detail| detail.get_mut(CAPTURED)) {
        *captured = Value::String(sealing.seal(CAPTURED, &captured.to_string())?);
    }
    Ok(())
}

/// Strikes out what [`seal`] seals, for good.
pub fn strike<Word>(row: &mut AuditRow<Word>) {
    row.actor_name.iter_mut().for_each(|name| *name = ERASED.into());
    for text in [&mut row.address, &mut row.user_agent].into_iter().flatten() {
        ERASED.clone_into(text);
    }
    if let Some(captured) = row.detail.as_mut().and_then(|detail| detail.get_mut(CAPTURED)) {
        *captured = Value::from(ERASED);
    }
}

struct Sealing {
    cipher: LessSafeKey,
    key_id: Uuid,
    row: Uuid,
}

impl Sealing {
    fn seal(&self, field: &str, text: &str) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut sealed = text.as_bytes().to_vec();
        self.cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place(self.row, field), &mut sealed)
            .map_err(|_| SealError::BadKey)?;
        let bytes = STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat());
        Ok(format!("{SEALED}{}:{bytes}", self.key_id.simple()))
    }
}

/// Which row and field a text is sealed for.
fn place(row: Uuid, field: &str) -> Aad<Vec<u8>> {
    Aad::from([b"tollgate seal 1\0", &row.as_bytes()[..], field.as_bytes()].concat())
}

/// The key that a text is sealed with, and the rest of it.
fn parts(text: &str) -> Option<(Uuid, &str)> {
    let (key_id, bytes) = text.strip_prefix(SEALED)?.split_once(':')?;
    Some((Uuid::try_parse(key_id).ok()?, bytes))
}

/// The keys that a row is sealed with; mostly one, or none.
pub fn keys_of(row: &StoredAudit) -> impl Iterator<Item = Uuid> {
    let captured = row.detail.as_ref().and_then(|detail| detail.get(CAPTURED)).and_then(Value::as_str);
    let texts = [row.actor_name.as_deref(), row.address.as_deref(), row.user_agent.as_deref(), captured];
    texts.into_iter().flatten().filter_map(|text| parts(text).map(|(key_id, _)| key_id))
}

/// Unseals a row in place, with the keys that are there. What was sealed with another one is [`ERASED`]. Not to be done
/// before a row's link is verified.
pub fn unseal<'key>(row: &mut StoredAudit, key: impl Fn(Uuid) -> Option<&'key MemberKey>) {
    let id = row.id;
    let open = |field: &str, text: &str| -> Option<String> {
        let (key_id, bytes) = parts(text)?;
        Some(key(key_id).and_then(|key| opened(key, id, field, bytes)).unwrap_or_else(|| ERASED.to_owned()))
    };
    if let Some(name) = row.actor_name.as_deref().and_then(|text| open("actor_name", text)) {
        row.actor_name = Some(name.into());
    }
    for (field, text) in [("address", &mut row.address), ("user_agent", &mut row.user_agent)] {
        if let Some(opened) = text.as_deref().and_then(|text| open(field, text)) {
            *text = Some(opened);
        }
    }
    if let Some(captured) = row.detail.as_mut().and_then(|detail| detail.get_mut(CAPTURED))
        && let Some(opened) = captured.as_str().and_then(|text| open(CAPTURED, text))
    {
        *captured = serde_json::from_str(&opened).unwrap_or(Value::String(opened));
    }
}

fn opened(key: &MemberKey, row: Uuid, field: &str, bytes: &str) -> Option<String> {
    let mut bytes = STANDARD_NO_PAD.decode(bytes).ok()?;
    if bytes.len() < NONCE_LEN {
        return None;
    }
    let mut sealed = bytes.split_off(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
    let opened = key.cipher().ok()?.open_in_place(nonce, place(row, field), &mut sealed).ok()?;
    String::from_utf8(opened.to_vec()).ok()
}

/// Unseals rows that were read, for eyes that may see them.
pub async fn unseal_rows(keys: &dyn MemberKeys, rows: &mut [StoredAudit]) -> Result<(), ReadError> {
    let mut ids: Vec<Uuid> = rows.iter().flat_map(keys_of).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut found = std::collections::HashMap::new();
    for some in ids.chunks(500) {
        found.extend(keys.keys(some).await?.into_iter().map(|key| (key.key_id, key)));
    }
    for row in rows {
        unseal(row, |key_id| found.get(&key_id));
    }
    Ok(())
}

/// The keys that a writer seals with, held in memory.
#[derive(Debug)]
pub struct KeyRing(Mutex<LruCache<(String, String), Arc<MemberKey>>>);

/// A key for sealing.
#[derive(Debug, Clone)]
pub enum Found {
    /// It was known, and is kept already.
    Known(Arc<MemberKey>),
    /// It was made now: it must be kept before, or together with, the first row that it seals.
    Made(Arc<MemberKey>),
}

impl Found {
    /// The key.
    pub fn key(&self) -> &Arc<MemberKey> {
        match self {
            Self::Known(key) | Self::Made(key) => key,
        }
    }
}

impl Default for KeyRing {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(HELD_KEYS).unwrap_or(NonZeroUsize::MIN))))
    }
}

impl KeyRing {
    /// The key of a member; a new one where none is known.
    pub fn key_of(&self, org: &str, member: &str, now: Timestamp) -> Result<Found, SealError> {
        let mut keys = self.0.lock();
        let whose = (org.to_owned(), member.to_owned());
        if let Some(known) = keys.get(&whose) {
            return Ok(Found::Known(known.clone()));
        }
        let made = Arc::new(MemberKey::generate(org, member, now)?);
        keys.put(whose, made.clone());
        Ok(Found::Made(made))
    }

    /// Unseals a row with its person's key, where that is known here.
    pub fn unseal(&self, row: &mut StoredAudit) {
        let whose = person_of(row).map(|(org, member)| (org.to_owned(), member.to_owned()));
        let Some(key) = whose.and_then(|whose| self.0.lock().peek(&whose).cloned()) else { return };
        unseal(row, |id| (id == key.key_id).then_some(&key));
    }

    /// Lets go of keys that were destroyed in the meantime; how many. To be called on a timer: until then rows of an erased
    /// member are sealed with a key that is nowhere else, and can be read by nobody.
    pub async fn forget_destroyed(&self, store: &dyn MemberKeys) -> Result<usize, ReadError> {
        let held: Vec<Uuid> = self.0.lock().iter().map(|(_, key)| key.key_id).collect();
        let mut destroyed = std::collections::HashSet::new();
        for some in held.chunks(500) {
            destroyed.extend(store.destroyed(some).await?);
        }
        let mut keys = self.0.lock();
        let gone: Vec<_> = keys.iter().filter(|(_, key)| destroyed.contains(&key.key_id)).map(|(whose, _)| whose.clone()).collect();
        for whose in &gone {
            keys.pop(whose);
        }
        Ok(gone.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::records::chain::{ChainKey, Head};
    use crate::records::{Category, Outcome, Severity};

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().expect("an instant")
    }

    fn row() -> StoredAudit {
        StoredAudit {
            id: Uuid::from_u128(1),
            time: now(),
            category: Category::Api,
            severity: Severity::Info,
            org_id: Some("acme".into()),
            org_day: Some("2026-11-20".to_owned()),
            actor_id: Some("66f0".into()),
            actor_name: Some("Ada".into()),
            actor_role: Some("user".into()),
            action: "chat.started".to_owned(),
            resource_type: None,
            resource_id: None,
            outcome: Outcome::Success,
            request_id: None,
            method: None,
            path: None,
            query: None,
            status: None,
            duration_ms: None,
            error: None,
            address: Some("192.0.2.1".to_owned()),
            user_agent: Some(String::new()),
            conversation_id: None,
            model: None,
            total_tokens: None,
            cost_nanousd: None,
            count: 1,
            reference: None,
            detail: Some(json!({ "limit": 5, "captured": { "mode": "full", "prompt": "한국어" } })),
            link: None,
        }
    }

    #[test]
    fn what_is_sealed_is_read_with_its_key_and_not_without() {
        let key = MemberKey::generate("acme", "66f0", now()).expect("a key");
        let mut sealed = row();
        seal(&mut sealed, &key).expect("sealing");
        let text = format!("{sealed:?}");
        for personal in ["Ada", "192.0.2.1", "한국어"] {
            assert!(!text.contains(personal), "{personal} is there to be read: {text}");
        }
        assert_eq!(sealed.detail.as_ref().expect("a detail")["limit"], 5, "the decision can be read without a key");
        assert_eq!(keys_of(&sealed).collect::<Vec<_>>(), [key.key_id; 4]);

        let mut read = sealed.clone();
        unseal(&mut read, |id| (id == key.key_id).then_some(&key));
        assert_eq!(read, row());
        let mut erased = sealed.clone();
        unseal(&mut erased, |_| None);
        assert_eq!(erased.actor_name.as_deref(), Some(ERASED));
        assert_eq!(erased.address.as_deref(), Some(ERASED));
        assert_eq!(erased.detail.expect("a detail"), json!({ "limit": 5, "captured": ERASED }));

        let mut moved = sealed.clone();
        (moved.address, moved.user_agent) = (moved.user_agent.take(), moved.address.take());
        unseal(&mut moved, |_| Some(&key));
        assert_eq!((moved.address.as_deref(), moved.user_agent.as_deref()), (Some(ERASED), Some(ERASED)));
        let mut elsewhere = StoredAudit { id: Uuid::from_u128(2), ..sealed };
        unseal(&mut elsewhere, |_| Some(&key));
        assert_eq!(elsewhere.actor_name.as_deref(), Some(ERASED));
    }

    #[test]
    fn the_chain_holds_with_and_without_the_key() {
        let key = MemberKey::generate("acme", "66f0", now()).expect("a key");
        let chain = ChainKey::new(&[7; 32]).expect("long enough");
        let mut sealed = row();
        seal(&mut sealed, &key).expect("sealing");
        let (link, _) = chain.link(Uuid::nil(), "acme", &Head::default(), &sealed);
        sealed.link = Some(link);
        assert!(chain.holds(&sealed), "what is linked is the sealed text, for which no key is needed");
    }

    #[test]
    fn hostile_text_is_only_text() {
        let key = MemberKey::generate("acme", "66f0", now()).expect("a key");
        for text in ["sealed:1:", "sealed:1:x:y", &format!("sealed:1:{}:AAAA", key.key_id.simple()), &format!("sealed:1:{}:", key.key_id)] {
            let before = StoredAudit { user_agent: Some(text.to_owned()), ..row() };
            let mut after = before.clone();
            seal(&mut after, &key).expect("sealing");
            unseal(&mut after, |id| (id == key.key_id).then_some(&key));
            assert_eq!(after, before);
            unseal(&mut StoredAudit { user_agent: Some(text.to_owned()), ..row() }, |_| Some(&key));
        }
    }

    #[test]
    fn a_ring_makes_a_key_once_and_nobody_sees_it() {
        let ring = KeyRing::default();
        let made = ring.key_of("acme", "66f0", now()).expect("a key");
        assert!(matches!(made, Found::Made(_)));
        let known = ring.key_of("acme", "66f0", now()).expect("a key");
        assert!(matches!(&known, Found::Known(key) if key == made.key()));
        assert!(matches!(ring.key_of("blue", "66f0", now()), Ok(Found::Made(_))), "a member of another org is another person");
        assert!(!format!("{known:?}").contains(&made.key().key), "a key does not show itself");
    }
}
