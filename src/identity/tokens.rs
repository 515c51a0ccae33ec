//! Judging a bearer token.
//!
//! Two kinds arrive, LibreChat's own and org-scoped ones, and the rules that they are held to exclude each other
//! (RFC 8725 3.12). The unverified payload is looked at once, only to choose the rules; everything that is believed is read
//! again after the signature was found good. The algorithms come from the configuration and the keys from there or from the
//! address that it names: the header's `alg` must agree with them, its `kid` is only compared with the names of keys that
//! an issuer publishes, and its `jku`, `jwk`, `x5u` and `x5c` are never looked at.
//!
//! What is checked is ordered so that [`TokenError::Expired`] means that all else was right.

mod claims;
mod compact;
mod error;
mod fetch;
mod json;
mod jwks;
mod key_set;
mod keys;
mod mapping;
mod settings;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod forge;
#[cfg(test)]
mod genuine;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod published;
#[cfg(test)]
mod publisher;
#[cfg(test)]
mod signer;

use std::sync::Arc;

use jiff::Timestamp;

use self::claims::{LibreChatClaims, Peek, Times};
use self::compact::{Compact, Typ};
use self::keys::{KnownSignatures, VerifyingKey};
use self::settings::{Issuer, ReadyKeys};
use super::{Directory, Identity, Member, Org, Suspended};

pub use self::error::{TokenError, Whose};
pub use self::fetch::FetchError;
pub use self::key_set::{KeySet, KeySetHealth, Timing};
pub use self::keys::Algorithm;
pub use self::mapping::{ClaimPath, Mapping, OrgFrom, Preset};
pub use self::settings::{IssuerKeys, IssuerSettings, LEAST_SECRET, SettingsError, VerifierSettings, check_public_key};

/// The `iss` of tokens that we mint ourselves, under LibreChat's secret.
pub const OWN_ISSUER: &str = "tollgate";

/// The roles a member can have; a token that names another is a `user`'s.
pub const ROLES: [&str; 4] = ["user", "admin", "super_admin", "viewer"];

/// What a good token proves.
#[derive(Debug, Clone)]
pub enum Verified {
    /// A LibreChat access token, from LibreChat or minted by us.
    LibreChat(Identity),
    /// A token of an embedding application, for a person of one of its orgs.
    OrgScoped(Box<OrgScoped>),
}

/// A person as an embedding application vouches for them. LibreChat does not know them by this token.
#[derive(Debug, Clone)]
pub struct OrgScoped {
    /// The configured name of the issuer.
    pub issuer: Arc<str>,
    /// The org, one of those that the issuer may speak for.
    pub org: Arc<Org>,
    /// Who the person is to the embedding application.
    pub claims: OrgScopedClaims,
    /// The role in the org: `user`, `admin`, `super_admin` or `viewer`.
    pub role: Arc<str>,
    /// Whether the token says which role. Where it does not, the role is a user's.
    pub names_role: bool,
    /// The plan: `plan_type` of the token, else the org's.
    pub plan: Option<Arc<str>>,
    /// One more monthly token cap for the org, from `librechat_config.max_tokens`.
    pub org_tokens_per_month: Option<u64>,
    /// The LibreChat user that this person is, when the token says so and its issuer may. Believe it only for an account
    /// with the same e-mail address: [`super::Accounts::confirmed`].
    pub librechat_user_id: Option<Arc<str>>,
    /// `organization.librechat_config` of the token, as the application wrote it.
    pub librechat_config: Option<serde_json::Value>,
    /// When the token was made, where it says so.
    pub issued: Option<Timestamp>,
    /// The end of the token, leeway not included.
    pub expires: Timestamp,
}

/// Who a person is to an embedding application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgScopedClaims {
    /// The person's id there.
    pub sub: String,
    /// Their e-mail address.
    pub email: String,
    /// Their full name.
    pub name: Option<String>,
    /// Their user name.
    pub username: Option<String>,
    /// Where their picture is.
    pub avatar: Option<String>,
}

impl OrgScoped {
    /// The identity of this person as the LibreChat user with this id.
    pub fn identity_as(&self, user: Arc<str>, member: Option<&Member>) -> Identity {
        Identity {
            org: Some(self.org.clone()),
            suspended: Suspended::of(Some(&self.org), member),
            email: Some(Arc::from(&*self.claims.email)),
            user,
            name: self.claims.username.as_deref().or(self.claims.name.as_deref()).map(Arc::from),
            role: member.filter(|_| !self.names_role).map_or_else(|| self.role.clone(), |member| member.role.clone()),
            plan: self.plan.clone(),
            org_tokens_per_month: self.org_tokens_per_month,
            session: None,
        }
    }
}

/// Judges bearer tokens.
#[derive(Debug)]
pub struct Verifier {
    librechat: VerifyingKey,
    default_org: Option<Arc<Org>>,
    trust_email_domains: bool,
    issuers: Vec<Issuer>,
    /// In whole seconds.
    leeway: i64,
    directory: Arc<Directory>,
    roles: [Arc<str>; 4],
    known: KnownSignatures,
}

impl Verifier {
    /// A verifier with these settings.
    ///
    /// # Errors
    ///
    /// A [`SettingsError`] for a key that cannot be used or is used twice, an org that is not in the directory, issuers that
    /// could not be told apart, and a leeway of more than a minute.
    pub fn new(settings: VerifierSettings<'_>, directory: Arc<Directory>) -> Result<Self, SettingsError> {
        let checked = settings::check(settings, &directory)?;
        Ok(Self {
            librechat: checked.librechat,
            default_org: checked.default_org,
            trust_email_domains: checked.trust_email_domains,
            issuers: checked.issuers,
            leeway: checked.leeway,
            directory,
            roles: ROLES.map(Arc::from),
            known: KnownSignatures::default(),
        })
    }

    /// Judges a token as of `now`.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] that says which rule it broke first.
    pub fn verify(&self, bearer: &str, now: Timestamp) -> Result<Verified, TokenError> {
        let token = Compact::read(bearer)?;
        let peek: Peek<'_> = token.claims()?;
        if peek.names_two_orgs() {
            return Err(TokenError::BadShape);
        }
        if self.is_org_scoped(&peek) {
            self.org_scoped(&token, &peek, now).map(|person| Verified::OrgScoped(Box::new(person)))
        } else {
            self.librechat(&token, now).map(Verified::LibreChat)
        }
    }

    /// Judges a token like [`Self::verify`]. Where it names a key that its issuer did not publish when it was last asked, the
    /// issuer is asked again, at most once in a while and for everyone together, and the token waits a little for the answer.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] that says which rule it broke first.
    pub async fn verify_or_ask(&self, bearer: &str, now: Timestamp) -> Result<Verified, TokenError> {
        let judged = self.verify(bearer, now);
        let Err(TokenError::UnknownKey { issuer } | TokenError::KeysAway { issuer }) = &judged else { return judged };
        let Some(keys) = self.key_sets().find(|keys| keys.issuer() == issuer) else { return judged };
        if keys.ask().await { self.verify(bearer, now) } else { judged }
    }

    /// The key sets of issuers that publish them; somebody must run [`KeySet::keep_fresh`] for each.
    pub fn key_sets(&self) -> impl Iterator<Item = &Arc<KeySet>> {
        self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            ReadyKeys::Published(keys) => Some(keys),
            ReadyKeys::Fixed(_) => None,
        })
    }

    /// Whether a token is held to the rules of org-scoped tokens. What we mint ourselves never is; an issuer's is, even
    /// when its `organization` is missing; and so is whatever has an `organization`.
    fn is_org_scoped(&self, peek: &Peek<'_>) -> bool {
        match peek.iss.as_deref() {
            Some(OWN_ISSUER) => false,
            Some(iss) if self.issuers.iter().any(|issuer| issuer.iss.as_deref() == Some(iss)) => true,
            _ => peek.organization.is_some(),
        }
    }

    fn librechat(&self, token: &Compact<'_>, now: Timestamp) -> Result<Identity, TokenError> {
        if !self.librechat.is_for(token) {
            return Err(TokenError::BadAlgorithm);
        }
        if !self.librechat.verifies(token) {
            return Err(TokenError::BadSignature);
        }
        let claims: LibreChatClaims = token.claims()?;
        if token.typ() != Typ::Jwt || !claims.is_an_access_token() {
            return Err(TokenError::BadShape);
        }
        if claims.aud.is_present() {
            return Err(TokenError::BadAudience);
        }
        let times = Times::of(claims.exp, claims.nbf, claims.iat)?;
        let minted = claims.iss.is_some();
        let session = claims.sid.filter(|_| minted);
        let member = self.directory.by_librechat_id(&claims.id);
        let has_moved = member.as_ref().is_some_and(|member| Some(&*member.org) != claims.org.as_deref());
        if session.is_some_and(|session| has_moved || self.directory.is_revoked(session)) {
            return Err(TokenError::Revoked);
        }
        let org = match (minted, &member) {
            (true, _) => self.org_of_minted(claims.org.as_deref())?,
            (false, Some(member)) if !member.org.is_empty() => self.org_of(member),
            (false, _) => self.org_of_email(claims.email.as_deref()),
        };
        let role = match &member {
            // A session is as old as a week: what the directory says now counts.
            Some(member) if !minted || session.is_some() => member.role.clone(),
            _ => self.role(claims.role.as_deref().filter(|_| minted)),
        };
        let identity = Identity {
            plan: claims.plan.filter(|_| session.is_some()).map(Arc::from).or_else(|| org.as_ref().and_then(|org| org.plan.clone())),
            suspended: Suspended::of(org.as_deref(), member.as_deref()),
            org,
            user: claims.id.into(),
            name: claims.username.map(Arc::from),
            role,
            org_tokens_per_month: claims.org_tokens.filter(|_| session.is_some()),
            email: claims.email.map(Arc::from),
            session,
        };
        times.check(now, self.leeway, || Whose::from(&identity))?;
        Ok(identity)
    }

    /// The org of a member whom LibreChat vouches for.
    pub fn org_of(&self, member: &Member) -> Option<Arc<Org>> {
        if member.org.is_empty() { self.org_of_email(member.email.as_deref()) } else { self.directory.by_id(&member.org) }
    }

    /// The org of a token that we minted: the one it names, and none when it names none.
    fn org_of_minted(&self, org: Option<&str>) -> Result<Option<Arc<Org>>, TokenError> {
        org.map(|id| self.directory.by_id(id).ok_or(TokenError::ForeignOrg)).transpose()
    }

    /// The org of a person whom LibreChat vouches for, and whom the directory does not know: whoever only the invited may
    /// join has nobody new.
    fn org_of_email(&self, email: Option<&str>) -> Option<Arc<Org>> {
        let by_domain = email.filter(|_| self.trust_email_domains).and_then(|email| self.directory.by_email(email));
        // The default org as it is now: it may be suspended since the start.
        let org = by_domain.or_else(|| self.directory.by_id(&self.default_org.as_ref()?.id));
        org.filter(|org| org.joining.by_domain)
    }

    fn org_scoped(&self, token: &Compact<'_>, peek: &Peek<'_>, now: Timestamp) -> Result<OrgScoped, TokenError> {
        let issuer = self.issuer_of(token, peek)?;
        let claims = token.everything()?;
        if token.typ() == Typ::Other {
            return Err(TokenError::BadShape);
        }
        let said = issuer.claims.read(&claims)?;
        if !claims::is_for(&claims, issuer.audience.as_deref())? {
            return Err(TokenError::BadAudience);
        }
        if !issuer.speaks_for(said.org) {
            return Err(TokenError::ForeignOrg);
        }
        let org = self.directory.by_id(said.org).ok_or(TokenError::ForeignOrg)?;
        if !said.email_is_good {
            return Err(TokenError::UnverifiedEmail);
        }
        let librechat_user_id = if issuer.may_name_users { claims::named_user(said.librechat_user_id)? } else { None };
        let times = Times::of_claims(&claims)?;
        let person = OrgScoped {
            issuer: issuer.name.clone(),
            role: self.role(said.role),
            names_role: said.role.is_some(),
            plan: said.plan.map(Arc::from).or_else(|| org.plan.clone()),
            org,
            claims: OrgScopedClaims {
                sub: said.sub.to_owned(),
                email: said.email.to_owned(),
                name: said.name.map(str::to_owned),
                username: said.username.map(str::to_owned),
                avatar: said.avatar.map(str::to_owned),
            },
            org_tokens_per_month: said.tokens_per_month,
            librechat_user_id,
            librechat_config: claims.get("organization").and_then(|org| org.get("librechat_config")).cloned(),
            issued: times.issued,
            expires: times.expires,
        };
        times.check(now, self.leeway, || Whose::from(&person))?;
        Ok(person)
    }

    /// The issuer whose key made the signature, among those whose configured `iss` is the token's; a token without `iss`
    /// can only be of an issuer without one. Issuers that may speak for the token's org are tried first.
    fn issuer_of(&self, token: &Compact<'_>, peek: &Peek<'_>) -> Result<&Issuer, TokenError> {
        let org = peek.organization_id();
        let speaks = |issuer: &Issuer| org.as_deref().is_some_and(|org| issuer.speaks_for(org));
        let named = || self.issuers.iter().filter(|issuer| issuer.iss.as_deref() == peek.iss.as_deref());
        let in_order = named().filter(|issuer| speaks(issuer)).chain(named().filter(|issuer| !speaks(issuer)));

        let mut refusal = TokenError::BadIssuer;
        for issuer in in_order {
            match self.judge(issuer, token) {
                None => return Ok(issuer),
                // What newer keys could still turn into a good token is not given up for another issuer's no.
                Some(_) if matches!(refusal, TokenError::UnknownKey { .. } | TokenError::KeysAway { .. }) => {}
                Some(TokenError::BadAlgorithm) if refusal != TokenError::BadIssuer => {}
                Some(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// What speaks against a token's having been signed by this issuer.
    fn judge(&self, issuer: &Issuer, token: &Compact<'_>) -> Option<TokenError> {
        let published = match &issuer.keys {
            ReadyKeys::Fixed(keys) if !keys.iter().any(|key| key.is_for(token)) => return Some(TokenError::BadAlgorithm),
            ReadyKeys::Fixed(keys) => return (!self.known.verifies(keys.iter(), token)).then_some(TokenError::BadSignature),
            ReadyKeys::Published(published) => published,
        };
        if !published.algorithms().iter().any(|algorithm| algorithm.as_str() == token.algorithm()) {
            return Some(TokenError::BadAlgorithm);
        }
        let judged = published.with_keys(|keys| {
            let good = self.known.verifies(keys.for_token(token.kid(), token.algorithm()), token);
            (good, token.kid().is_some_and(|kid| keys.knows(kid)))
        });
        match judged {
            None => Some(TokenError::KeysAway { issuer: issuer.name.clone() }),
            Some((true, _)) => None,
            // Its key is there, and did not make the signature: asking again would not help.
            Some((false, true)) => Some(TokenError::BadSignature),
            Some((false, false)) => Some(TokenError::UnknownKey { issuer: issuer.name.clone() }),
        }
    }

    fn role(&self, named: Option<&str>) -> Arc<str> {
        let [user, ..] = &self.roles;
        self.roles.iter().find(|role| Some(&***role) == named).unwrap_or(user).clone()
    }
}
