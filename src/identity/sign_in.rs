//! Signing in through Tollgate: an application that embeds LibreChat vouches for a person, and LibreChat opens as theirs.
//!
//! The application's token becomes a member of the directory (`arriving`) and an account of LibreChat (`making`), a code that the
//! person's browser opens once, and a session ([`super::sessions`]). What the browser holds is a cookie with the session's
//! secret, and LibreChat tokens of 15 minutes that say which session they are of.

mod arriving;
mod making;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::DecodingKey;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use uuid::Uuid;

use super::answers::Answers;
use super::directory::refresh;
use super::directory::store::{DirectoryError, DirectoryStore};
use super::sessions::{HandOff, Redeemed, Secret, Session, SessionStore, WhichSessions};
use super::{AccountError, Accounts, Directory, LibreChatUser, Member, Minter, OrgScoped, Suspended};
use crate::clock::SharedClock;
use crate::librechat::client::LibreChat;
use crate::records::ReadError;

/// How long a code can be opened.
const CODE_LASTS: SignedDuration = SignedDuration::from_secs(60);

/// How long the session of a token lasts that was given to an application and not to a browser: nobody could renew it.
const PLAIN_SESSION_LASTS: SignedDuration = SignedDuration::from_mins(15);

/// How many look for codes and sessions in the database at once. Anybody can invent those; what else waits for the database, as the
/// directory's changes do, finds room beside them.
const LOOKING: usize = 2;

/// How long somebody waits for their turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// How people are signed in.
#[derive(Debug, Clone)]
pub struct SignInSettings {
    /// What the passwords of the accounts are made from.
    pub secret: crate::config::Secret,
    /// How long a session lasts.
    pub session: Duration,
    /// The oldest token of an application that signs anybody in.
    pub oldest_token: Duration,
    /// Whether accounts are made for people whom LibreChat does not know.
    pub makes_accounts: bool,
    /// The e-mail address of the account that is made before any other.
    pub service_email: String,
    /// Where people come in from outside: `https://chat.example`. As they were asked for where it is empty.
    pub public_url: Option<String>,
    /// Whether LibreChat's own login form is hidden from everyone.
    pub hides_login_form: bool,
    /// Whether `?token=...&org=...` in an address signs in.
    pub token_in_url: bool,
}

/// Why somebody is not signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInError {
    /// The org takes only those who are in its directory.
    NotInvited,
    /// The token is older than may be, or does not say how old it is.
    TooOld,
    /// They or their org are suspended.
    Suspended(Suspended),
    /// Somebody else has the LibreChat account under their e-mail address.
    AccountExists,
    /// They have no LibreChat account, and none can be made.
    NoAccount,
    /// Who they are was changed in the same moment.
    Changed,
    /// LibreChat cannot be asked.
    LibreChatAway,
    /// The database does not answer, or there is no randomness.
    DatabaseAway,
}

impl From<ReadError> for SignInError {
    fn from(error: ReadError) -> Self {
        tracing::error!(%error, "signing in: the database does not answer");
        Self::DatabaseAway
    }
}

impl From<DirectoryError> for SignInError {
    fn from(error: DirectoryError) -> Self {
        tracing::error!(%error, "signing in: the directory cannot be written");
        Self::DatabaseAway
    }
}

impl From<AccountError> for SignInError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::NoSuchUser | AccountError::EmailDiffers => Self::NoAccount,
            AccountError::LibreChatAway => Self::LibreChatAway,
        }
    }
}

/// Somebody with an account: who they are in the directory and in LibreChat.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// In the directory.
    pub member: Arc<Member>,
    /// In LibreChat.
    pub user: LibreChatUser,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The session.
    pub session: Session,
    /// Whose it is.
    pub arrived: Arrived,
}

/// What became of a code that a browser opened.
#[derive(Debug)]
pub enum Entered {
    /// It opened a session, whose secret is this.
    In(Box<SignedIn>, Secret),
    /// It was opened before.
    Again(HandOff),
    /// It came too late.
    Late(HandOff),
    /// It is of another org than that whose host it was opened at.
    Foreign(HandOff),
    /// There is no such code.
    Unknown,
}

/// Signs people in.
pub struct SignIn {
    /// How.
    pub settings: SignInSettings,
    sessions: Arc<dyn SessionStore>,
    directory: Arc<Directory>,
    members: Arc<dyn DirectoryStore>,
    accounts: Arc<Accounts>,
    librechat: LibreChat,
    minter: Arc<Minter>,
    temp_tokens: DecodingKey,
    clock: SharedClock,
    service_account: OnceCell<()>,
    looking: Semaphore,
    /// Whose account was made, or why not, a moment ago.
    made: Answers<Result<Arc<str>, SignInError>>,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SignIn").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What [`SignIn`] works with.
pub struct Parts {
    /// Codes and sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Who is known.
    pub directory: Arc<Directory>,
    /// Where it is kept.
    pub members: Arc<dyn DirectoryStore>,
    /// LibreChat's accounts.
    pub accounts: Arc<Accounts>,
    /// LibreChat.
    pub librechat: LibreChat,
    /// Makes LibreChat tokens.
    pub minter: Arc<Minter>,
    /// The time.
    pub clock: SharedClock,
}

impl SignIn {
    /// Signs people in as the settings say. LibreChat's secret signs the tokens between the two steps of a login.
    pub fn new(settings: SignInSettings, parts: Parts, librechat_secret: &[u8]) -> Self {
        let Parts { sessions, directory, members, accounts, librechat, minter, clock } = parts;
        Self {
            settings,
            sessions,
            directory,
            members,
            accounts,
            librechat,
            minter,
            temp_tokens: DecodingKey::from_secret(librechat_secret),
            service_account: OnceCell::new(),
            looking: Semaphore::new(LOOKING),
            made: Answers::new(clock.clone(), arriving::account_lasts),
            clock,
        }
    }

    /// Takes in somebody for whom an application vouches and asks to sign them in.
    ///
    /// # Errors
    ///
    /// Why they cannot be.
    pub async fn welcome(&self, person: &OrgScoped) -> Result<Arrived, SignInError> {
        let oldest = SignedDuration::try_from(self.settings.oldest_token).unwrap_or(SignedDuration::MAX);
        if person.issued.is_none_or(|issued| self.clock.now().duration_since(issued) > oldest) {
            return Err(SignInError::TooOld);
        }
        let known = self.directory.by_external_id(&person.org.id, &person.claims.sub);
        if let Some(suspended) = Suspended::of(Some(&person.org), known.as_deref()) {
            return Err(SignInError::Suspended(suspended));
        }
        let arrived = self.arrived(person).await?;
        match Suspended::of(Some(&person.org), Some(&arrived.member)) {
            Some(suspended) => Err(SignInError::Suspended(suspended)),
            None => Ok(arrived),
        }
    }

    /// A code that opens a session for somebody, once and soon.
    ///
    /// # Errors
    ///
    /// Where it cannot be kept.
    pub async fn hand_off(&self, person: &OrgScoped, arrived: &Arrived) -> Result<Secret, SignInError> {
        let (now, code) = (self.clock.now(), Secret::make().map_err(|_| SignInError::DatabaseAway)?);
        let hand_off = HandOff {
            org: person.org.id.clone(),
            member: arrived.member.id,
            plan: person.plan.clone(),
            org_tokens_per_month: person.org_tokens_per_month,
            expires: now.saturating_add(CODE_LASTS).unwrap_or(now),
        };
        self.sessions.add_hand_off(&code.hash(), &hand_off, now).await?;
        Ok(code)
    }

    /// Opens a code, at the host of this org where it is an org's own.
    ///
    /// # Errors
    ///
    /// Why nobody is signed in, though the code was good.
    pub async fn enter(&self, code: &Secret, host_org: Option<&str>) -> Result<Entered, SignInError> {
        let turn = self.turn().await?;
        let redeemed = self.sessions.redeem(&code.hash(), self.clock.now()).await?;
        drop(turn);
        let hand_off = match redeemed {
            Redeemed::Opens(hand_off) if host_org.is_some_and(|org| *org != *hand_off.org) => return Ok(Entered::Foreign(hand_off)),
            Redeemed::Opens(hand_off) => hand_off,
            Redeemed::Again(hand_off) => return Ok(Entered::Again(hand_off)),
            Redeemed::Late(hand_off) => return Ok(Entered::Late(hand_off)),
            Redeemed::Unknown => return Ok(Entered::Unknown),
        };
        let known = || self.directory.member(hand_off.member).filter(|member| member.org == hand_off.org);
        if known().is_none() {
            // Another replica may have made them a moment ago.
            refresh::once(&self.directory, &*self.members).await?;
        }
        let member = known().ok_or(SignInError::NoAccount)?;
        let org = self.directory.by_id(&hand_off.org);
        if let Some(suspended) = Suspended::of(org.as_deref(), Some(&member)) {
            return Err(SignInError::Suspended(suspended));
        }
        let user = self.user_of(&member).await?.ok_or(SignInError::NoAccount)?;
        let (signed_in, secret) = self.begin(hand_off, Arrived { member, user }, self.settings.session).await?;
        Ok(Entered::In(Box::new(signed_in), secret))
    }

    /// Signs somebody in at once, in a browser: who comes with a token in the address.
    ///
    /// # Errors
    ///
    /// Where the session cannot be kept.
    pub async fn begin_in_browser(&self, person: &OrgScoped, arrived: Arrived) -> Result<(SignedIn, Secret), SignInError> {
        self.begin(as_hand_off(person, &arrived, self.clock.now()), arrived, self.settings.session).await
    }

    /// A token for an application that speaks to LibreChat for somebody, without a browser.
    ///
    /// # Errors
    ///
    /// Where its session cannot be kept.
    pub async fn begin_plainly(&self, person: &OrgScoped, arrived: Arrived) -> Result<SignedIn, SignInError> {
        let lasts = PLAIN_SESSION_LASTS.unsigned_abs();
        // Nobody is given the secret.
        self.begin(as_hand_off(person, &arrived, self.clock.now()), arrived, lasts).await.map(|(signed_in, _)| signed_in)
    }

    async fn begin(&self, of: HandOff, arrived: Arrived, lasts: Duration) -> Result<(SignedIn, Secret), SignInError> {
        let (now, secret) = (self.clock.now(), Secret::make().map_err(|_| SignInError::DatabaseAway)?);
        let session = Session {
            id: Uuid::now_v7(),
            org: of.org,
            member: of.member,
            plan: of.plan,
            org_tokens_per_month: of.org_tokens_per_month,
            started: now,
            expires: now.saturating_add(lasts).unwrap_or(now),
        };
        self.sessions.start(&secret.hash(), &session).await?;
        Ok((SignedIn { session, arrived }, secret))
    }

    /// Who is signed in with this secret; nobody once the session is over, its person has moved to another org, or LibreChat
    /// does not know them any more.
    ///
    /// # Errors
    ///
    /// Where the database or LibreChat cannot be asked.
    pub async fn signed_in(&self, secret: &Secret) -> Result<Option<SignedIn>, SignInError> {
        let Some(session) = self.session(secret).await? else { return Ok(None) };
        let known = || self.directory.member(session.member).filter(|member| member.org == session.org);
        if known().is_none() {
            // Another replica may have made them, or moved them here, a moment ago.
            refresh::once(&self.directory, &*self.members).await?;
        }
        let Some(member) = known() else {
            self.revoke(session.id).await?;
            return Ok(None);
        };
        let user = self.user_of(&member).await?;
        Ok(user.map(|user| SignedIn { session, arrived: Arrived { member, user } }))
    }

    /// The session with this secret; none once it is over.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn session(&self, secret: &Secret) -> Result<Option<Session>, SignInError> {
        let _turn = self.turn().await?;
        Ok(self.sessions.session(&secret.hash(), self.clock.now()).await?)
    }

    /// Waits until few enough others look.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, SignInError> {
        let turn = timeout(PATIENCE, self.looking.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(SignInError::DatabaseAway)
    }

    /// Ends a session, on every replica within a second.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn revoke(&self, session: Uuid) -> Result<(), SignInError> {
        self.sessions.revoke(&WhichSessions::One(session), self.clock.now()).await?;
        Ok(refresh::once(&self.directory, &*self.members).await?)
    }

    /// The LibreChat token of somebody who is signed in.
    pub fn token(&self, SignedIn { session, arrived }: &SignedIn) -> String {
        self.minter.mint_of_session(&arrived.user, &arrived.member.role, session, self.clock.now())
    }

    /// Forgets what is long over.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn tidy(&self) -> Result<(), ReadError> {
        let now = self.clock.now();
        self.directory.forget_revoked(now);
        self.sessions.tidy(now.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(now)).await
    }
}

fn as_hand_off(person: &OrgScoped, arrived: &Arrived, now: Timestamp) -> HandOff {
    HandOff {
        org: person.org.id.clone(),
        member: arrived.member.id,
        plan: person.plan.clone(),
        org_tokens_per_month: person.org_tokens_per_month,
        expires: now,
    }
}
