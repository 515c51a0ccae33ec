//! Orgs and their members: in the database, seeded by the configuration, and held in memory, where every change arrives
//! within a second.
//!
//! `people` says what they are, [`store`] keeps them, [`refresh`] brings what changed there, [`arrivals`] writes down who is seen.

pub mod arrivals;
mod keys;
pub mod observing;
mod people;
pub mod refresh;
mod sql;
pub mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use keys::Keys;
use observing::{Observations, Observed};
pub use people::{Joining, Language, Member, Org, Standing, kept_email};
pub use sql::{PostgresDirectory, SqliteDirectory};
use store::Changes;

use super::Suspended;
use super::access::Entrances;
use super::keys::{AgentKey, ApiKey};
use super::lockouts::LoginName;

/// The longest e-mail address that is looked at, in bytes (RFC 5321 4.5.3.1.3 allows a path of 256 with its brackets).
const LONGEST_EMAIL: usize = 254;

/// Every org and member, as far as this process knows. Cheap to ask, from anywhere.
#[derive(Debug, Default)]
pub struct Directory {
    state: RwLock<State>,
    /// How often somebody lost something.
    losses: AtomicU64,
    /// Whoever reads what changed takes it in before another reads.
    reading: tokio::sync::Mutex<()>,
    /// Who lost something by what was taken in, and has not been told of yet.
    lost: Mutex<Lost>,
    /// Whether the database could not be asked for changes the last time.
    behind: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The orgs that the configuration names.
    configured: HashMap<Arc<str>, Org>,
    orgs: BTreeMap<Arc<str>, Arc<Org>>,
    by_domain: HashMap<String, Arc<Org>>,
    entrances: Arc<Entrances>,
    members: HashMap<Uuid, Arc<Member>>,
    by_librechat_id: HashMap<Arc<str>, Arc<Member>>,
    by_external_id: HashMap<(Arc<str>, Arc<str>), Arc<Member>>,
    /// The ids of those with a name that they may sign in with.
    by_login_name: HashMap<LoginName, Vec<Uuid>>,
    /// Sessions that were revoked, and when they would have been over.
    revoked: HashMap<Uuid, Timestamp>,
    keys: Keys,
    /// Whose limits are observed.
    observations: Observations,
    revision: i64,
}

/// Who lost something by changes, so that what runs for them is ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Orgs that may no longer use what costs something.
    pub orgs: Vec<Arc<str>>,
    /// LibreChat ids of members who may no longer, or no longer there.
    pub members: Vec<Arc<str>>,
    /// Sessions that were revoked.
    pub sessions: Vec<Uuid>,
}

impl Directory {
    /// A directory of these orgs, without members. The configuration has checked that ids and domains are unique; were they
    /// not, the first org would keep them.
    pub fn new(orgs: Vec<Org>) -> Self {
        let mut state = State::default();
        for org in orgs.into_iter().rev() {
            state.configured.insert(org.id.clone(), org.clone());
            state.orgs.insert(org.id.clone(), Arc::new(org));
        }
        state.index_orgs();
        Self { state: RwLock::new(state), ..Self::default() }
    }

    /// Every org, in the order of their ids.
    pub fn orgs(&self) -> Vec<Arc<Org>> {
        self.state.read().orgs.values().cloned().collect()
    }

    /// What the ways to all orgs come to.
    pub fn entrances(&self) -> Arc<Entrances> {
        self.state.read().entrances.clone()
    }

    /// The org with this id.
    pub fn by_id(&self, id: &str) -> Option<Arc<Org>> {
        self.state.read().orgs.get(id).cloned()
    }

    /// The day of an instant in the calendar of the org with this id.
    pub fn day_of(&self, id: &str, time: Timestamp) -> Option<String> {
        self.by_id(id).map(|org| org.day(time))
    }

    /// The org that owns the domain of this e-mail address: exactly this domain, not one above or below it.
    ///
    /// An address that two programs could read differently (several `@`, quotes, comments, a trailing dot, anything
    /// outside ASCII) belongs to no org.
    pub fn by_email(&self, email: &str) -> Option<Arc<Org>> {
        let domain = domain_of(email)?.to_ascii_lowercase();
        self.state.read().by_domain.get(&domain).cloned()
    }

    /// The member with this id.
    pub fn member(&self, id: Uuid) -> Option<Arc<Member>> {
        self.state.read().members.get(&id).cloned()
    }

    /// The API key that is kept under this hash, revoked and ended ones too.
    pub fn api_key(&self, hash: &str) -> Option<Arc<ApiKey>> {
        self.state.read().keys.made_here(hash)
    }

    /// Whose the key of LibreChat's with this hash is: their id in LibreChat.
    pub fn agent_key_owner(&self, hash: &str) -> Option<Arc<str>> {
        self.state.read().keys.owner(hash)
    }

    /// How many keys of LibreChat's somebody is known to have.
    pub fn agent_keys_of(&self, owner: &str) -> usize {
        self.state.read().keys.count_of(owner)
    }

    /// Takes in a key of LibreChat's that has just been seen, before the database has it.
    pub fn learn_agent_key(&self, key: AgentKey) {
        self.state.write().keys.put_agent_key(key);
    }

    /// Forgets a key of LibreChat's that has just been deleted.
    pub fn forget_agent_key(&self, owner: &str, id: &str) {
        self.state.write().keys.forget_agent_key(owner, id);
    }

    /// Forgets API keys that ended or were revoked before.
    pub fn forget_keys(&self, before: Timestamp) {
        self.state.write().keys.tidy(before);
    }

    /// The member with this LibreChat id.
    pub fn by_librechat_id(&self, id: &str) -> Option<Arc<Member>> {
        self.state.read().by_librechat_id.get(id).cloned()
    }

    /// The member of an org with this id in its embedding application.
    pub fn by_external_id(&self, org: &str, id: &str) -> Option<Arc<Member>> {
        self.state.read().by_external_id.get(&(Arc::from(org), Arc::from(id))).cloned()
    }

    /// The one member of an org with this e-mail address whom neither LibreChat nor the embedding application has met: somebody
    /// who was invited.
    pub fn invited(&self, org: &str, email: &str) -> Option<Arc<Member>> {
        let named = self.by_login_name(&LoginName::of(email)?);
        let is_new = |member: &&Arc<Member>| *member.org == *org && member.external_id.is_none() && member.librechat_id.is_none();
        let mut invited = named.iter().filter(is_new);
        invited.next().filter(|_| invited.next().is_none()).cloned()
    }

    /// The members who sign in with this name, their e-mail address: several where orgs share a person.
    pub fn by_login_name(&self, name: &LoginName) -> Vec<Arc<Member>> {
        let state = self.state.read();
        let ids = state.by_login_name.get(name).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| state.members.get(id).cloned()).collect()
    }

    /// Whether a person of LibreChat, or their org, may not use what costs something.
    pub fn suspended(&self, org: &str, librechat_id: &str) -> Option<Suspended> {
        let state = self.state.read();
        let member = state.by_librechat_id.get(librechat_id).filter(|member| *member.org == *org);
        Suspended::of(state.orgs.get(org).map(|org| &**org), member.map(|member| &**member))
    }

    /// Whether the limits of this org are observed, and refuse nobody.
    pub fn is_observed(&self, org: &str) -> bool {
        self.state.read().observations.covers(org)
    }

    /// Everything whose limits are observed.
    pub fn observed(&self) -> Vec<Observed> {
        self.state.read().observations.list()
    }

    /// Whether a session was revoked.
    pub fn is_revoked(&self, session: Uuid) -> bool {
        self.state.read().revoked.contains_key(&session)
    }

    /// Forgets revoked sessions that are over by themselves.
    pub fn forget_revoked(&self, now: Timestamp) {
        self.state.write().revoked.retain(|_, expires| *expires > now);
    }

    /// How often somebody lost something: whoever looks again and again need not look while this stays as it is.
    pub fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }

    /// Keeps who lost something, until it is taken.
    fn keep_lost(&self, lost: Lost) {
        let mut kept = self.lost.lock();
        kept.orgs.extend(lost.orgs);
        kept.members.extend(lost.members);
        kept.sessions.extend(lost.sessions);
    }

    /// Who lost something since this was last asked.
    pub fn take_lost(&self) -> Lost {
        std::mem::take(&mut *self.lost.lock())
    }

    /// Whether changes do not arrive: the database does not answer.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Relaxed)
    }

    /// Takes note of whether the database answered.
    pub(super) fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Relaxed);
    }

    /// The number of the last change that is known here.
    pub fn revision(&self) -> i64 {
        self.state.read().revision
    }

    /// Takes in what changed. Answers who lost something by it.
    pub fn apply(&self, changes: Changes) -> Lost {
        let mut lost = Lost::default();
        let mut state = self.state.write();
        let orgs_changed = !changes.orgs.is_empty();
        for org in changes.orgs {
            let org = Arc::new(match state.configured.get(&org.id) {
                Some(configured) => org.as_configured(configured),
                None => org,
            });
            let before = state.orgs.insert(org.id.clone(), org.clone());
            if org.standing == Standing::Suspended && before.is_none_or(|before| before.standing == Standing::Active) {
                lost.orgs.push(org.id.clone());
            }
        }
        if orgs_changed {
            state.index_orgs();
        }
        for member in changes.members {
            let member = Arc::new(member);
            let before = state.put(member.clone());
            lost.members.extend(member.lost_since(before.as_deref()));
        }
        for (session, expires) in changes.revoked {
            if state.revoked.insert(session, expires).is_none() {
                lost.sessions.push(session);
            }
        }
        for (hash, key) in changes.keys {
            state.keys.put(hash, key);
        }
        for key in changes.agent_keys {
            state.keys.put_agent_key(key);
        }
        for observing in changes.observing {
            state.observations.put(observing);
        }
        state.revision = state.revision.max(changes.revision);
        drop(state);
        if lost != Lost::default() {
            self.losses.fetch_add(1, Relaxed);
        }
        lost
    }
}

impl State {
    /// Of two orgs that claim a domain the one with the lower id has it; the configuration and the imports refuse that.
    fn index_orgs(&mut self) {
        self.by_domain.clear();
        for org in self.orgs.values() {
            for domain in &org.domains {
                self.by_domain.entry(domain.to_ascii_lowercase()).or_insert_with(|| org.clone());
            }
        }
        self.entrances = Arc::new(Entrances::of(self.orgs.values()));
    }

    /// Puts a member in the place of who they were. Answers who that was.
    fn put(&mut self, member: Arc<Member>) -> Option<Arc<Member>> {
        let before = self.members.insert(member.id, member.clone());
        if let Some(before) = &before {
            // Somebody else may have the id by now.
            if let Some(id) = &before.librechat_id
                && self.by_librechat_id.get(id).is_some_and(|known| known.id == before.id)
            {
                self.by_librechat_id.remove(id);
            }
            if let Some(id) = &before.external_id {
                let key = (before.org.clone(), id.clone());
                if self.by_external_id.get(&key).is_some_and(|known| known.id == before.id) {
                    self.by_external_id.remove(&key);
                }
            }
            self.forget_login_name(before);
        }
        if let Some(name) = login_name(&member) {
            self.by_login_name.entry(name).or_default().push(member.id);
        }
        if let Some(id) = &member.external_id {
            self.by_external_id.insert((member.org.clone(), id.clone()), member.clone());
        }
        if let Some(id) = member.librechat_id.clone() {
            self.by_librechat_id.insert(id, member);
        }
        before
    }

    fn forget_login_name(&mut self, member: &Member) {
        let Some(name) = login_name(member) else { return };
        if let Some(ids) = self.by_login_name.get_mut(&name) {
            ids.retain(|id| *id != member.id);
            if ids.is_empty() {
                self.by_login_name.remove(&name);
            }
        }
    }
}

fn login_name(member: &Member) -> Option<LoginName> {
    LoginName::of(member.email.as_deref()?)
}

/// The domain of a plain address, `None` for anything that is not plain.
fn domain_of(email: &str) -> Option<&str> {
    if email.len() > LONGEST_EMAIL {
        return None;
    }
    let (local, domain) = email.split_once('@')?;
    let local_is_plain = !local.is_empty() && local.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&byte));
    let domain_is_plain = domain.split('.').all(is_plain_label);
    (local_is_plain && domain_is_plain).then_some(domain)
}

fn is_plain_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::access::Access;
    use crate::records::Capture;

    fn org(id: &str, domains: &[&str]) -> Org {
        Org {
            id: id.into(),
            name: id.into(),
            domains: domains.iter().map(ToString::to_string).collect(),
            zone: TimeZone::UTC,
            plan: None,
            language: None,
            capture: Capture::None,
            legal_hold: false,
            standing: Standing::Active,
            joining: Joining::default(),
            policy: None,
            access: Access::default(),
        }
    }

    fn directory() -> Directory {
        Directory::new(vec![org("acme", &["acme.test", "acme.example"]), org("beta", &["Beta.test"]), org("bare", &[])])
    }

    fn owner(email: &str) -> Option<String> {
        directory().by_email(email).map(|org| org.id.to_string())
    }

    #[test]
    fn an_org_is_found_by_id_and_by_each_of_its_domains() {
        let directory = directory();
        assert_eq!(directory.by_id("bare").map(|org| org.id.to_string()).as_deref(), Some("bare"));
        assert!(directory.by_id("Acme").is_none(), "ids are compared exactly");
        assert_eq!(directory.orgs().len(), 3);
        assert_eq!(owner("ann@acme.test").as_deref(), Some("acme"));
        assert_eq!(owner("ann+tag@ACME.example").as_deref(), Some("acme"));
        assert_eq!(owner("ann@beta.test").as_deref(), Some("beta"));
    }

    #[test]
    fn an_address_that_is_not_plain_belongs_to_nobody() {
        let cases = [
            "",
            "@",
            "@acme.test",
            "ann",
            "acme.test",
            "ann@sub.acme.test",
            "ann@test",
            "ann@evilacme.test",
            "ann@acme.test.",
            "ann@.acme.test",
            "ann@acme..test",
            "ann@acme.test@evil.test",
            "ann@evil.test@acme.test",
            "\"ann@evil.test\"@acme.test",
            "ann@acme.test ",
            " ann@acme.test",
            "an n@acme.test",
            "<ann@acme.test>",
            "ann,bob@acme.test",
            "ann@acme.test\n",
            "ann@acme.test\0",
            "ann@[acme.test]",
            "ann@acme\u{3002}test",
            "ann\u{ff20}evil.test@acme.test",
            "ann@\u{430}cme.test",
            "ann@acme.te\u{17f}t",
        ];
        for case in cases {
            assert_eq!(owner(case), None, "{case:?} must belong to no org");
        }
        assert_eq!(owner(&format!("{}@acme.test", "a".repeat(300))), None, "a very long address belongs to no org");
    }

    #[test]
    fn members_are_found_by_the_name_they_sign_in_with() {
        let directory = directory();
        let member = |number, org: &str, email: &str| Member {
            id: Uuid::from_u128(number),
            org: org.into(),
            external_id: None,
            librechat_id: None,
            email: Some(email.into()),
            name: None,
            role: "user".into(),
            standing: Standing::Active,
            addresses: None,
            last_seen: None,
        };
        let apply = |members| directory.apply(Changes { revision: 1, members, ..Changes::default() });
        let found = |typed: &str| {
            let name = LoginName::of(typed).expect("a name");
            directory.by_login_name(&name).iter().map(|member| member.org.to_string()).collect::<Vec<_>>()
        };
        apply(vec![member(1, "acme", "ann@acme.test"), member(2, "beta", "ann@acme.test"), member(3, "beta", "bob@beta.test")]);
        assert_eq!(found(" Ann@ACME.test"), ["acme", "beta"], "one person of two orgs");
        apply(vec![member(1, "acme", "anna@acme.test")]);
        assert_eq!((found("ann@acme.test"), found("anna@acme.test")), (vec!["beta".to_owned()], vec!["acme".to_owned()]));
        assert_eq!(found("nobody@acme.test"), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_text_has_at_most_the_org_of_its_exact_domain(email in ".{0,40}(@|\\.|acme|test|beta){0,6}.{0,10}") {
            if let Some(id) = owner(&email) {
                let domain = email.to_ascii_lowercase();
                let domain = domain.rsplit('@').next().unwrap_or_default();
                let expected = match domain {
                    "acme.test" | "acme.example" => "acme",
                    "beta.test" => "beta",
                    other => panic!("{other:?} is no org's domain, yet {email:?} belongs to {id}"),
                };
                prop_assert_eq!(id, expected);
            }
        }
    }
}
