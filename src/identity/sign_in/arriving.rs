//! Who a person is here for whom an application vouches: a member of the directory, and an account of LibreChat. Both are made
//! where there are none and the org lets them in.

use std::sync::Arc;

use uuid::Uuid;

use super::{Arrived, SignIn, SignInError};
use crate::identity::directory::refresh;
use crate::identity::directory::store::DirectoryError;
use crate::identity::{LibreChatUser, Member, OrgScoped, Standing};

impl SignIn {
    /// Somebody for whom an application vouches, with the account that they have or get now.
    ///
    /// # Errors
    ///
    /// Why they have none.
    pub async fn arrived(&self, person: &OrgScoped) -> Result<Arrived, SignInError> {
        if let Some(named) = &person.librechat_user_id {
            let user = self.accounts.confirmed(named, &person.claims.email).await?;
            let member = self.member_named(person, &user).await?;
            return Ok(Arrived { member, user });
        }
        let member = self.member_of(person).await?;
        if let Some(user) = self.user_of(&member).await? {
            return Ok(Arrived { member, user });
        }
        if !self.settings.makes_accounts {
            return Err(SignInError::NoAccount);
        }
        let lock = Arc::clone(self.making.lock().get_or_insert(member.id.to_string(), Arc::default));
        let _alone = lock.lock().await;
        let member = self.directory.member(member.id).unwrap_or(member);
        if let Some(user) = self.user_of(&member).await? {
            return Ok(Arrived { member, user });
        }
        let id = self.make_account(person).await?;
        let member = self.put(Member { librechat_id: Some(id.as_str().into()), ..Member::clone(&member) }).await?;
        self.accounts.forget(&id);
        let user = self.accounts.known(&id).await?.ok_or(SignInError::NoAccount)?;
        Ok(Arrived { member, user })
    }

    /// The account of a member; `None` where they have none, or LibreChat does not know it any more.
    pub(super) async fn user_of(&self, member: &Member) -> Result<Option<LibreChatUser>, SignInError> {
        match &member.librechat_id {
            Some(id) => Ok(self.accounts.known(id).await?),
            None => Ok(None),
        }
    }

    /// The member that a person is, who becomes one now where the org lets them.
    async fn member_of(&self, person: &OrgScoped) -> Result<Arc<Member>, SignInError> {
        let (org, sub) = (&person.org, &*person.claims.sub);
        if let Some(member) = self.directory.by_external_id(&org.id, sub) {
            return self.up_to_date(person, member).await;
        }
        if let Some(invited) = self.directory.invited(&org.id, &person.claims.email) {
            return self.put(Member { external_id: Some(sub.into()), ..Member::clone(&invited) }).await;
        }
        self.add(person, None).await
    }

    /// The same for a person whose LibreChat account the application names.
    async fn member_named(&self, person: &OrgScoped, user: &LibreChatUser) -> Result<Arc<Member>, SignInError> {
        let (org, sub) = (&person.org.id, &*person.claims.sub);
        let theirs = self.directory.by_librechat_id(&user.id);
        match (self.directory.by_external_id(org, sub), theirs) {
            (None, Some(theirs)) if theirs.org.is_empty() && person.org.joining.by_token => {
                self.put(Member { org: org.clone(), external_id: Some(sub.into()), ..Member::clone(&theirs) }).await
            }
            (_, Some(theirs)) if *theirs.org != **org => Err(SignInError::AccountExists),
            (Some(member), Some(theirs)) if member.id == theirs.id => self.up_to_date(person, member).await,
            (Some(_), Some(_)) => Err(SignInError::AccountExists),
            (Some(member), None) => self.put(Member { librechat_id: Some(user.id.as_str().into()), ..Member::clone(&member) }).await,
            (None, Some(theirs)) if theirs.external_id.is_some() => Err(SignInError::AccountExists),
            (None, Some(theirs)) => self.put(Member { external_id: Some(sub.into()), ..Member::clone(&theirs) }).await,
            (None, None) => self.add(person, Some(user.id.as_str().into())).await,
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
        if told == *member { Ok(member) } else { self.put(told).await }
    }

    async fn add(&self, person: &OrgScoped, librechat_id: Option<Arc<str>>) -> Result<Arc<Member>, SignInError> {
        if !person.org.joining.by_token {
            return Err(SignInError::NotInvited);
        }
        let (now, external_id) = (self.clock.now(), Arc::from(&*person.claims.sub));
        let member = Member {
            id: Uuid::now_v7(),
            org: person.org.id.clone(),
            external_id: Some(Arc::clone(&external_id)),
            librechat_id,
            email: Some(email_of(person)),
            name: name_of(person),
            role: person.role.clone(),
            standing: Standing::Active,
            addresses: None,
            last_seen: Some(now),
        };
        self.members.add_member(&member, now).await?;
        refresh::once(&self.directory, &*self.members).await?;
        // Where another replica was faster, theirs is the one.
        self.directory.by_external_id(&person.org.id, &external_id).ok_or(SignInError::AccountExists)
    }

    async fn put(&self, member: Member) -> Result<Arc<Member>, SignInError> {
        let id = member.id;
        match self.members.put_members(&[member], self.clock.now()).await {
            Err(DirectoryError::Taken) => return Err(SignInError::AccountExists),
            written => written?,
        }
        refresh::once(&self.directory, &*self.members).await?;
        self.directory.member(id).ok_or(SignInError::DatabaseAway)
    }
}

pub(super) fn email_of(person: &OrgScoped) -> Arc<str> {
    person.claims.email.trim().to_lowercase().into()
}

pub(super) fn name_of(person: &OrgScoped) -> Option<Arc<str>> {
    person.claims.name.as_deref().or(person.claims.username.as_deref()).map(Arc::from)
}
