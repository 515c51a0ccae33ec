//! LibreChat accounts for people whom it has never seen, made through its own pages' routes.
//!
//! Their passwords follow from a secret of ours and who they are to their application, so that every replica can enter what
//! any has made, and nothing has to be kept. An account under the same address that somebody else made has another password:
//! it is never entered, and its person is told.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::arriving::{email_of, name_of};
use super::{SignIn, SignInError};
use crate::identity::logins::user_of_temp_token;
use crate::identity::{OrgScoped, is_user_id};
use crate::librechat::client::CallError;
use crate::librechat::client::accounts::{Credentials, Entered};

/// The name of the account that is made before any other.
const SERVICE_NAME: &str = "Tollgate";

impl SignIn {
    /// The id of the account that is ours for this person; it is made where there is none.
    pub(super) async fn make_account(&self, person: &OrgScoped) -> Result<String, SignInError> {
        self.service_account.get_or_try_init(|| self.make_service_account()).await?;
        let account = Credentials {
            email: email_of(person).to_string(),
            password: self.password(&["member", &person.issuer, &person.org.id, &person.claims.sub]),
            tenant: person.org.access.tenant.clone(),
        };
        let name = name_of(person);
        self.entered_or_made(&account, name.as_deref().unwrap_or_default()).await?.ok_or(SignInError::AccountExists)
    }

    /// The first account of an empty LibreChat becomes its administrator, and that must be nobody who signs in.
    async fn make_service_account(&self) -> Result<(), SignInError> {
        let account = Credentials { email: self.settings.service_email.clone(), password: self.password(&["service"]), tenant: None };
        if self.entered_or_made(&account, SERVICE_NAME).await?.is_none() {
            tracing::error!(
                email = account.email,
                "somebody else has the LibreChat account that Tollgate makes first; set sign_in.service_email, or the secret that made it"
            );
            return Err(SignInError::NoAccount);
        }
        Ok(())
    }

    /// The id of an account with these credentials, which is made where there is none under its address. `None` where there
    /// is one with another password.
    async fn entered_or_made(&self, account: &Credentials, name: &str) -> Result<Option<String>, SignInError> {
        if let Some(id) = self.entered(account).await? {
            return Ok(Some(id));
        }
        self.librechat.register(account, name).await.map_err(|error| refused("register", &error))?;
        self.entered(account).await
    }

    async fn entered(&self, account: &Credentials) -> Result<Option<String>, SignInError> {
        let id = match self.librechat.enter(account).await.map_err(|error| refused("login", &error))? {
            Entered::User { id, email } if email.eq_ignore_ascii_case(&account.email) => Some(id),
            Entered::User { .. } | Entered::Nobody => None,
            // The password was right, which is all that is asked here.
            Entered::CodeAsked(token) => user_of_temp_token(&token, &self.temp_tokens).map(|id| id.to_string()),
        };
        Ok(id.filter(|id| is_user_id(id)))
    }

    fn password(&self, of: &[&str]) -> String {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, self.settings.secret.expose().as_bytes());
        // No part holds a control character, so that no two lists become one text.
        URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, of.join("\0").as_bytes()))
    }
}

/// What LibreChat's no means. Operators read why in the log.
fn refused(step: &'static str, error: &CallError) -> SignInError {
    match error {
        CallError::Status(status @ (400..=428 | 430..=499)) => {
            tracing::error!(
                step,
                status,
                "LibreChat makes no account: it needs ALLOW_REGISTRATION, ALLOW_EMAIL_LOGIN and ALLOW_UNVERIFIED_EMAIL_LOGIN, and \
                 registration.allowedDomains must hold the domain"
            );
            SignInError::NoAccount
        }
        error => {
            tracing::warn!(step, %error, "LibreChat could not be asked for an account");
            SignInError::LibreChatAway
        }
    }
}
