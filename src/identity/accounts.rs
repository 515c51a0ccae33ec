//! LibreChat's accounts, as far as a token of an embedding application may name one.
//!
//! An issuer that may name users is believed only for an account with the e-mail address of the token, so that a mistake or
//! a theft there does not open every account. LibreChat is asked once for each id; the answer is kept for a while.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::SignedDuration;

use super::answers::Answers;
use crate::clock::SharedClock;

/// How long an account is believed.
const FOUND_LASTS: SignedDuration = SignedDuration::from_mins(10);

/// How long an id is believed to be nobody's: short, for the account may be made in the next moment.
const MISSING_LASTS: SignedDuration = SignedDuration::from_secs(30);

/// How long a failure to ask is shared: those who waited for the same answer do not ask again one after another.
const FAILURE_LASTS: SignedDuration = SignedDuration::from_secs(1);

/// A LibreChat user, as LibreChat's own tokens describe one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibreChatUser {
    /// Its id, 24 hex digits.
    pub id: String,
    /// Its user name, if it has one.
    pub username: Option<String>,
    /// How it signs in: `local`, `openid`, ...
    pub provider: String,
    /// Its e-mail address.
    pub email: String,
}

/// LibreChat could not be asked, or did not answer the question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("LibreChat could not be asked: {0}")]
pub struct LookupError(pub String);

/// Why a person is not taken for the LibreChat user that their token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// LibreChat has no such user.
    #[error("LibreChat has no user with this id")]
    NoSuchUser,
    /// The user has another e-mail address.
    #[error("the LibreChat user has another e-mail address")]
    EmailDiffers,
    /// LibreChat could not be asked. Try again later.
    #[error("LibreChat could not be asked for the user")]
    LibreChatAway,
}

/// LibreChat's accounts.
pub struct Accounts {
    lookup: Lookup,
    answers: Answers<Found>,
}

type Answer = Result<Option<LibreChatUser>, LookupError>;
type Lookup = Box<dyn Fn(Arc<str>) -> BoxFuture<'static, Answer> + Send + Sync>;
type Found = Result<Option<LibreChatUser>, AccountError>;

impl std::fmt::Debug for Accounts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Accounts").field("known", &self.answers.len()).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Accounts that are looked up with this function: from the id of a user to the user, or `None` when there is none. It
    /// must end by itself; nobody else cuts it short.
    pub fn new<F>(lookup: impl Fn(Arc<str>) -> F + Send + Sync + 'static, clock: SharedClock) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let lookup: Lookup = Box::new(move |id| lookup(id).boxed());
        let lasts = |found: &Found| match found {
            Ok(Some(_)) => FOUND_LASTS,
            Ok(None) => MISSING_LASTS,
            Err(_) => FAILURE_LASTS,
        };
        Self { lookup, answers: Answers::new(clock, lasts) }
    }

    /// The LibreChat user with this id, if its e-mail address is this one. Addresses are compared without the spaces around
    /// them and without regard to the case of ASCII letters; other letters have look-alikes and must be the same.
    ///
    /// # Errors
    ///
    /// An [`AccountError`] when there is no such user, it has another address, or LibreChat could not be asked.
    pub async fn confirmed(&self, user_id: &str, email: &str) -> Result<LibreChatUser, AccountError> {
        let user = self.user(user_id).await?.ok_or(AccountError::NoSuchUser)?;
        let (theirs, claimed) = (user.email.trim(), email.trim());
        if claimed.is_empty() || !theirs.eq_ignore_ascii_case(claimed) {
            return Err(AccountError::EmailDiffers);
        }
        Ok(user)
    }

    /// The LibreChat user with this id, whoever they are.
    ///
    /// # Errors
    ///
    /// Where LibreChat cannot be asked.
    pub async fn known(&self, user_id: &str) -> Result<Option<LibreChatUser>, AccountError> {
        self.user(user_id).await
    }

    /// Forgets what LibreChat said of this id, which it may have made or deleted just now.
    pub fn forget(&self, user_id: &str) {
        self.answers.forget(user_id);
    }

    async fn user(&self, id: &str) -> Found {
        let id: Arc<str> = id.into();
        let ask = || async {
            match (self.lookup)(id.clone()).await {
                Ok(user) => Ok(user.filter(|user| *user.id == *id)),
                Err(error) => {
                    tracing::warn!(%error, user.id = &*id, "a token's LibreChat user could not be looked up");
                    Err(AccountError::LibreChatAway)
                }
            }
        };
        self.answers.of(id.clone(), ask).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use jiff::Timestamp;

    use super::super::answers::KEPT;
    use super::*;
    use crate::clock::ManualClock;

    const ANN: &str = "6b008f411deed07a2f49c1c8";
    const NOBODY: &str = "000000000000000000000000";

    fn ann() -> LibreChatUser {
        LibreChatUser { id: ANN.into(), username: Some("ann".into()), provider: "local".into(), email: "ann@acme.test".into() }
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_199_000).unwrap()
    }

    /// Accounts of a LibreChat that knows only Ann and counts how often it is asked.
    fn accounts(clock: &Arc<ManualClock>) -> (Accounts, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let lookup = move |id: Arc<str>| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                Ok((&*id == ANN).then(ann))
            }
        };
        (Accounts::new(lookup, clock.clone()), asked)
    }

    #[tokio::test]
    async fn an_account_is_confirmed_by_its_address_only() {
        let (accounts, _) = accounts(&ManualClock::at(start()));
        for email in ["ann@acme.test", "  Ann@ACME.test "] {
            assert_eq!(accounts.confirmed(ANN, email).await, Ok(ann()), "{email:?} is Ann's address");
        }
        for email in ["", " ", "bob@acme.test", "ann@acme.test.", "ann@acme.te\u{17f}t", "ann@acme.test, bob@acme.test"] {
            assert_eq!(accounts.confirmed(ANN, email).await, Err(AccountError::EmailDiffers), "{email:?} is not Ann's address");
        }
        assert_eq!(accounts.confirmed(NOBODY, "ann@acme.test").await, Err(AccountError::NoSuchUser));
    }

    #[tokio::test]
    async fn an_account_without_an_address_is_confirmed_by_none() {
        let lookup = |id: Arc<str>| async move { Ok(Some(LibreChatUser { id: id.to_string(), email: String::new(), ..ann() })) };
        let accounts = Accounts::new(lookup, ManualClock::at(start()));
        assert_eq!(accounts.confirmed(ANN, "").await, Err(AccountError::EmailDiffers));
    }

    #[tokio::test]
    async fn an_answer_about_somebody_else_is_no_answer() {
        let accounts = Accounts::new(|_| async { Ok(Some(ann())) }, ManualClock::at(start()));
        assert_eq!(accounts.confirmed(NOBODY, "ann@acme.test").await, Err(AccountError::NoSuchUser));
    }

    #[tokio::test]
    async fn answers_are_kept_as_long_as_they_last() {
        let clock = ManualClock::at(start());
        let (accounts, asked) = accounts(&clock);
        for (second, id, expected) in [
            (0, ANN, 1),
            (599, ANN, 1),
            (600, ANN, 2),
            (600, NOBODY, 3),
            (629, NOBODY, 3),
            (630, NOBODY, 4),
            // The clock was set back.
            (10, ANN, 5),
        ] {
            clock.set(start() + SignedDuration::from_secs(second));
            let _ = accounts.confirmed(id, "ann@acme.test").await;
            assert_eq!(asked.load(Ordering::SeqCst), expected, "lookups after second {second} for {id}");
        }
    }

    #[tokio::test]
    async fn many_at_once_ask_once() {
        let (accounts, asked) = accounts(&ManualClock::at(start()));
        let all = futures_util::future::join_all((0..100).map(|_| accounts.confirmed(ANN, "ann@acme.test"))).await;
        assert!(all.iter().all(Result::is_ok), "everybody gets the one answer");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "only the first asks");
    }

    #[tokio::test]
    async fn a_failure_is_shared_by_those_who_waited_and_then_forgotten() {
        let clock = ManualClock::at(start());
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let lookup = move |_| {
            let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                tokio::task::yield_now().await;
                if first { Err(LookupError("connection refused".into())) } else { Ok(Some(ann())) }
            }
        };
        let accounts = Accounts::new(lookup, clock.clone());
        let all = futures_util::future::join_all((0..100).map(|_| accounts.confirmed(ANN, "ann@acme.test"))).await;
        assert!(all.iter().all(|one| *one == Err(AccountError::LibreChatAway)), "everybody shares the failure");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "those who waited do not ask again");
        clock.set(start() + SignedDuration::from_secs(1));
        assert_eq!(accounts.confirmed(ANN, "ann@acme.test").await, Ok(ann()), "the failure is not kept");
    }

    #[tokio::test]
    async fn a_caller_who_leaves_does_not_block_the_next() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let lookup = move |_| {
            let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if first {
                    std::future::pending::<()>().await;
                }
                Ok(Some(ann()))
            }
        };
        let accounts = Accounts::new(lookup, ManualClock::at(start()));
        assert!(accounts.confirmed(ANN, "ann@acme.test").now_or_never().is_none(), "the first lookup never ends");
        assert_eq!(accounts.confirmed(ANN, "ann@acme.test").await, Ok(ann()), "the next caller asks anew");
    }

    #[tokio::test]
    async fn the_cache_is_bounded() {
        let (accounts, _) = accounts(&ManualClock::at(start()));
        for n in 0..KEPT.get() + 100 {
            let _ = accounts.confirmed(&format!("{n:024x}"), "ann@acme.test").await;
        }
        assert_eq!(accounts.answers.len(), KEPT.get(), "old entries make room for new ones");
    }
}
