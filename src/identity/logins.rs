//! Sign-ins with LibreChat's own accounts: which failures are counted together, how many there may be, and who a sign-in is
//! for.
//!
//! A name is counted wherever the guesses come from, except at places where its person has signed in before: there it has a
//! count of its own, so that a stranger who guesses locks a person out only where that person never was.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use uuid::Uuid;

use super::lockouts::{After, Bar, Begun, How, Lockouts, LoginName, Place, Subject};
use super::{Directory, Member, Suspended, is_user_id};
use crate::limits::{OnFailure, StoreError};

/// How many failures there may be, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSettings {
    /// The failure that locks a name, or a person's second factor.
    pub failures: u32,
    /// After how long without one failures are forgotten.
    pub window: Duration,
    /// How long the first lock lasts; each further one twice as long.
    pub lock: Duration,
    /// The longest lock.
    pub max_lock: Duration,
    /// For how long after the end of a lock the next one is longer.
    pub remembered: Duration,
    /// The failure from which on an address has to wait, of whatever names; never where it is nothing.
    pub address_failures: Option<u32>,
    /// How long it waits first; each time twice as long.
    pub address_wait: Duration,
    /// The longest it waits.
    pub address_max_wait: Duration,
    /// For how long a place is known where a person has signed in.
    pub known_place: Duration,
    /// What happens while failures cannot be counted.
    pub on_failure: OnFailure,
}

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The password of a name.
    Name(LoginName),
    /// The code of a LibreChat user who has proved the password.
    SecondFactor(Arc<str>),
    /// Nothing that LibreChat could judge.
    Nothing,
}

/// A sign-in that may be forwarded.
#[derive(Debug)]
pub struct Attempt {
    /// What is tried.
    pub tried: Tried,
    /// Whether it is counted. It is not while the store is away and sign-ins are open then.
    pub is_counted: bool,
    id: Uuid,
    place: Option<Place>,
    bars: Vec<Bar>,
}

/// What stands in the way of a sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InTheWay {
    /// Too many failed, until then.
    Locked(Subject, Timestamp),
    /// As many run as are left before the lock.
    Busy,
    /// Failures cannot be counted.
    Away,
}

/// What a sign-in left behind.
#[derive(Debug, Default)]
pub struct Left {
    /// What it locked, and until when.
    pub locked: Vec<(Subject, Timestamp)>,
    /// Whether its person was locked out not long ago, and signed in from where they never had.
    pub is_new_place_after_lock: bool,
}

/// Watches sign-ins.
pub struct Logins {
    lockouts: Arc<dyn Lockouts>,
    settings: LoginSettings,
    temp_tokens: DecodingKey,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("lockouts", &self.lockouts).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Logins {
    /// Counted there; LibreChat's secret signs the tokens between its two steps.
    pub fn new(lockouts: Arc<dyn Lockouts>, settings: LoginSettings, librechat_secret: &[u8]) -> Self {
        Self { lockouts, settings, temp_tokens: DecodingKey::from_secret(librechat_secret) }
    }

    /// Whose second factor a token of the first step is for. One that LibreChat did not sign is nobody's: whoever makes one up
    /// must not lock others. Whether it is over is LibreChat's to say.
    pub fn second_factor_of(&self, temp_token: &str) -> Tried {
        user_of_temp_token(temp_token, &self.temp_tokens).map_or(Tried::Nothing, Tried::SecondFactor)
    }

    /// Reserves an attempt.
    pub async fn begin(&self, tried: Tried, address: Option<IpAddr>, now: Timestamp) -> Result<Attempt, InTheWay> {
        let place = address.map(Place::of);
        let begun = match self.bars(&tried, place.as_ref(), now).await {
            Ok(bars) => {
                let id = Uuid::now_v7();
                self.lockouts.begin(id, &bars, now).await.map(|begun| (id, bars, begun))
            }
            Err(error) => Err(error),
        };
        match begun {
            Ok((id, bars, Begun::Admitted)) => Ok(Attempt { tried, is_counted: true, id, place, bars }),
            Ok((_, _, Begun::Refused { subject, until: Some(until) })) => Err(InTheWay::Locked(subject, until)),
            Ok((_, _, Begun::Refused { until: None, .. })) => Err(InTheWay::Busy),
            Err(_) if self.settings.on_failure == OnFailure::Closed => Err(InTheWay::Away),
            Err(_) => Ok(Attempt { tried, is_counted: false, id: Uuid::nil(), place, bars: Vec::new() }),
        }
    }

    async fn bars(&self, tried: &Tried, place: Option<&Place>, now: Timestamp) -> Result<Vec<Bar>, StoreError> {
        let subject = match (tried, place) {
            (Tried::Name(name), Some(place)) if self.lockouts.knows_place(name, place, now).await? => {
                Some(Subject::NameAt(name.clone(), place.clone()))
            }
            (Tried::Name(name), _) => Some(Subject::Name(name.clone())),
            (Tried::SecondFactor(user), _) => Some(Subject::SecondFactor(user.clone())),
            (Tried::Nothing, _) => None,
        };
        let own = subject.map(|subject| self.bar(subject));
        let shared = place.and_then(|place| self.address_bar(place));
        Ok(own.into_iter().chain(shared).collect())
    }

    fn bar(&self, subject: Subject) -> Bar {
        let LoginSettings { failures, window, lock, max_lock, remembered, .. } = self.settings;
        Bar { subject, failures, window, lock, max_lock, remembered }
    }

    fn address_bar(&self, place: &Place) -> Option<Bar> {
        let LoginSettings { window, address_wait, address_max_wait, .. } = self.settings;
        let (subject, failures) = (Subject::Address(place.clone()), self.settings.address_failures?);
        Some(Bar { subject, failures, window, lock: address_wait, max_lock: address_max_wait, remembered: window })
    }

    /// Ends an attempt. `email` is the address of who signed in.
    pub async fn end(&self, attempt: &Attempt, how: How, email: Option<&str>, now: Timestamp) -> Result<Left, StoreError> {
        let after = if attempt.is_counted { self.lockouts.end(attempt.id, &attempt.bars, how, now).await? } else { Vec::new() };
        let mut left = Left::default();
        for (bar, After { locked_until, lockouts }) in attempt.bars.iter().zip(after) {
            left.locked.extend(locked_until.map(|until| (bar.subject.clone(), until)));
            left.is_new_place_after_lock |= how == How::Succeeded && lockouts > 0 && matches!(bar.subject, Subject::Name(_));
        }
        if how == How::Succeeded {
            self.remember(attempt, email, now).await?;
        }
        Ok(left)
    }

    /// Where a person has signed in is known from then on, under the name that they typed and under their address. The code
    /// that came last proves the password too: failures of the name are forgotten.
    async fn remember(&self, attempt: &Attempt, email: Option<&str>, now: Timestamp) -> Result<(), StoreError> {
        let typed = if let Tried::Name(name) = &attempt.tried { Some(name.clone()) } else { None };
        let known_until = SignedDuration::try_from(self.settings.known_place).ok().and_then(|known| now.checked_add(known).ok());
        let by_email = email.and_then(LoginName::of).filter(|name| Some(name) != typed.as_ref());
        if let (Tried::SecondFactor(_), Some(name)) = (&attempt.tried, &by_email) {
            let named = [Some(Subject::Name(name.clone())), attempt.place.clone().map(|place| Subject::NameAt(name.clone(), place))];
            let bars: Vec<Bar> = named.into_iter().flatten().map(|subject| self.bar(subject)).collect();
            self.lockouts.end(attempt.id, &bars, How::Succeeded, now).await?;
        }
        let (Some(place), Some(until)) = (&attempt.place, known_until.filter(|until| *until > now)) else { return Ok(()) };
        for name in typed.iter().chain(&by_email) {
            self.lockouts.remember_place(name, place, now, until).await?;
        }
        Ok(())
    }

    /// The members whose sign-in this is, as far as the directory knows them.
    pub fn members(directory: &Directory, tried: &Tried) -> Vec<Arc<Member>> {
        match tried {
            Tried::Name(name) => directory.by_login_name(name),
            Tried::SecondFactor(user) => directory.by_librechat_id(user).into_iter().collect(),
            Tried::Nothing => Vec::new(),
        }
    }
}

/// The LibreChat user whom a token of the first step names, where this key signed it; whether it is over does not matter.
pub(super) fn user_of_temp_token(temp_token: &str, key: &DecodingKey) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(rename = "userId")]
        user_id: String,
    }
    let mut rules = Validation::new(Algorithm::HS256);
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let read = jsonwebtoken::decode::<Claims>(temp_token, key, &rules);
    read.ok().map(|token| token.claims.user_id).filter(|user| is_user_id(user)).map(Arc::from)
}

/// Whether all of these members are suspended, or their orgs: whoever is of several orgs may sign in for any that is not.
pub fn all_suspended(directory: &Directory, members: &[Arc<Member>]) -> Option<Suspended> {
    let mut first = None;
    for member in members {
        let org = directory.by_id(&member.org);
        first = first.or(Some(Suspended::of(org.as_deref(), Some(member))?));
    }
    first
}
