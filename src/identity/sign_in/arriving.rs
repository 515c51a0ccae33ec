//! Who a person is here for whom an application vouches: a member of the directory, and an account of LibreChat. Both are made
//! where there are none and the org lets them in: the account first, so that whoever gets none is no member either.

use std::sync::Arc;

use jiff::SignedDuration;

use super::{Arrived, SignIn, SignInError};
use crate::identity::directory::store::DirectoryError;
use crate::identity::directory::{kept_email, refresh};
use crate::identity::{LibreChatUser, Member, OrgScoped};

/// How long it is believed that somebody else has the account under a person's address: LibreChat counts every try as a login
/// that failed, and locks those out who fail often.
const EXISTS_LASTS: SignedDuration = SignedDuration::from_mins(5);

/// How long LibreChat is believed to make no accounts.
const REFUSED_LASTS: SignedDuration = SignedDuration::from_secs(30);

/// How long every other answer is shared by those who waited for it.
const SHARED_FOR: SignedDuration = SignedDuration::from_secs(1);

/// How long an account, or that there is none, is believed.
pub(super) fn account_lasts(account: &Result<Arc<str>, SignInError>) -> SignedDuration {
    match account {
        Err(SignInError::AccountExists) => EXISTS_LASTS,
        Err(SignInError::NoAccount) => REFUSED_LASTS,
        Ok(_) | Err(_) => SHARED_FOR,
    }
}

impl SignIn {
    /// Somebody for whom an application vouches, with the account that they have or get now.
    ///
    /// # Errors
    ///
    /// Why they have none.
    pub async fn arrived(&self, person: &OrgScoped) -> Result<Arrived, SignInError> {
        let user = match &person.librechat_user_id {
            Some(named) => self.accounts.confirmed(named, &person.claims.email).await?,
            None => self.account_of(person).await?,
        };
        let member = self.member_of(person, &user).await?;
        Ok(Arrived { member, user })
    }

    /// The account of a member; `None` where they have none, or LibreChat does not know it any more.
    pub(super) async fn user_of(&self, member: &Member) -> Result<Option<LibreChatUser>, SignInError> {
        match &member.librechat_id {
            Some(id) => Ok(self.accounts.known(id).await?),
            None => Ok(None),
        }
    }

    /// The account of a person whose application names none: their member's, or one that is made now.
    async fn account_of(&self, person: &OrgScoped) -> Result<LibreChatUser, SignInError> {
        let (org, sub) = (&person.org, &*person.claims.sub);
        let member = self.directory.by_external_id(&org.id, sub);
        if let Some(member) = &member
            && let Some(user) = self.user_of(member).await?
        {
            return Ok(user);
        }
        let may_come = member.is_some() || org.joining.by_token || self.directory.invited(&org.id, &person.claims.email).is_some();
        if !may_come {
            return Err(SignInError::NotInvited);
        }
        if !self.settings.makes_accounts {
            return Err(SignInError::NoAccount);
        }
        // No part holds a control character.
        let whose = [&*person.issuer, &*org.id, sub].join("\0").into();
        let id = self.made.of(whose, || async { Ok(Arc::from(self.make_account(person).await?)) }).await?;
        if let Some(user) = self.accounts.known(&id).await? {
            return Ok(user);
        }
        // It was asked for before it was made.
        self.accounts.forget(&id);
        self.accounts.known(&id).await?.ok_or(SignInError::NoAccount)
    }

    /// The member that a person with this account is, who becomes one now where the org lets them.
    async fn member_of(&self, person: &OrgScoped, user: &LibreChatUser) -> Result<Arc<Member>, SignInError> {
        let (org, sub) = (&person.org.id, &*person.claims.sub);
        let (user_id, external_id): (Arc<str>, Arc<str>) = (user.id.as_str().into(), sub.into());
        let theirs = self.directory.by_librechat_id(&user.id);
        match (self.directory.by_external_id(org, sub), theirs) {
            (None, Some(theirs)) if theirs.org.is_empty() && person.org.joining.by_token => {
                let told = Member { org: org.clone(), external_id: Some(external_id), ..Member::clone(&theirs) };
                self.amend(&theirs, told).await
            }
            (_, Some(theirs)) if *theirs.org != **org => Err(SignInError::AccountExists),
            (Some(member), Some(theirs)) if member.id == theirs.id => self.up_to_date(person, member).await,
            (Some(_), Some(_)) => Err(SignInError::AccountExists),
            (Some(member), None) => self.amend(&member, Member { librechat_id: Some(user_id), ..Member::clone(&member) }).await,
            (None, Some(theirs)) if theirs.external_id.is_some() => Err(SignInError::AccountExists),
            (None, Some(theirs)) => self.amend(&theirs, Member { external_id: Some(external_id), ..Member::clone(&theirs) }).await,
            (None, None) => match self.directory.invited(org, &person.claims.email) {
                Some(invited) => {
                    let told = Member { external_id: Some(external_id), librechat_id: Some(user_id), ..Member::clone(&invited) };
                    self.amend(&invited, told).await
                }
                None => self.add(person, user_id).await,
            },
        }
    }

    /// What an application says of a member who is known is written down where it is new.
    async fn up_to_date(&self, person: &OrgScoped, member: Arc<Member>) -> Result<Arc<Member>, SignInError> {
        let told = Member {
            email: Some(email_of(person)),
            name: name_of(person).or_else(|| member.name.clone()),
            role: if person.names_role { person.role.clone() } else { member.role.clone() },
            ..Member::clone(&member)
        };
        if told == *member { Ok(member) } else { self.amend(&member, told).await }
    }

    async fn add(&self, person: &OrgScoped, librechat_id: Arc<str>) -> Result<Arc<Member>, SignInError> {
        if !person.org.joining.by_token {
            return Err(SignInError::NotInvited);
        }
        let (now, external_id) = (self.clock.now(), Arc::from(&*person.claims.sub));
        let member = Member {
            external_id: Some(Arc::clone(&external_id)),
            librechat_id: Some(librechat_id),
            email: Some(email_of(person)),
            name: name_of(person),
            role: person.role.clone(),
            ..Member::seen_first(person.org.id.clone(), now)
        };
        self.members.add_member(&member, now).await?;
        refresh::once(&self.directory, &*self.members).await?;
        // Where another replica was faster, theirs is the one.
        self.directory.by_external_id(&person.org.id, &external_id).ok_or(SignInError::AccountExists)
    }

    async fn amend(&self, known: &Member, told: Member) -> Result<Arc<Member>, SignInError> {
        match self.members.amend_member(known, &told, self.clock.now()).await {
            Err(DirectoryError::Taken) => return Err(SignInError::AccountExists),
            amended => amended?,
        };
        refresh::once(&self.directory, &*self.members).await?;
        let is_told = |member: &Arc<Member>| {
            (&member.org, &member.external_id, &member.librechat_id) == (&told.org, &told.external_id, &told.librechat_id)
        };
        // Another replica may have written the same. Whoever became somebody else meanwhile comes again as that.
        self.directory.member(told.id).filter(is_told).ok_or(SignInError::Changed)
    }
}

pub(super) fn email_of(person: &OrgScoped) -> Arc<str> {
    kept_email(&person.claims.email)
}

pub(super) fn name_of(person: &OrgScoped) -> Option<Arc<str>> {
    person.claims.name.as_deref().or(person.claims.username.as_deref()).map(Arc::from)
}
