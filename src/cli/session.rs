//! `tollgate session`: who is signed in through Tollgate, and signing them out.

use serde_json::json;

use super::directory::{Place, id_of, known, with_directory};
use super::ledger::Noted;
use super::table::{aligned, at};
use super::{Exit, Source};
use crate::identity::sessions::{Session, WhichSessions};

/// Which sessions a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionsOf {
    /// All of an org.
    Org,
    /// Those of a member, who is named by an id of theirs or by e-mail address.
    Member(String),
    /// The one with this id.
    One(uuid::Uuid),
}

/// `tollgate session list`.
pub fn list_sessions(source: &Source, org: &str, of: &SessionsOf) -> Exit {
    with_directory(source, async |_, place, now| {
        let org = known(place, org)?;
        let which = which(place, &org.id, of)?;
        let noted = Noted { action: "sessions.read", org: Some(&org), kind: "org", which: org.id.to_string(), detail: None };
        place.opened.note(noted, now).await?;
        let sessions = place.opened.sessions().list(&which, now).await.map_err(|error| error.to_string())?;
        let head = ["SESSION", "E-MAIL", "MEMBER", "SINCE", "UNTIL"].map(str::to_owned);
        let rows = sessions.iter().filter(|session| session.org == org.id).map(|session| {
            let member = place.directory.member(session.member);
            [
                session.id.to_string(),
                member.as_ref().and_then(|member| member.email.as_deref()).unwrap_or("-").to_owned(),
                member.map_or_else(|| session.member.to_string(), |member| id_of(&member)),
                at(session.started, &org.zone),
                at(session.expires, &org.zone),
            ]
        });
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        Ok(if rows.len() == 1 { "Nobody is signed in.\n".to_owned() } else { aligned(&rows) })
    })
}

/// `tollgate session revoke`.
pub fn revoke_sessions(source: &Source, org: &str, of: &SessionsOf) -> Exit {
    with_directory(source, async |_, place, now| {
        let org = known(place, org)?;
        let which = which(place, &org.id, of)?;
        let (store, away) = (place.opened.sessions(), |error: crate::records::ReadError| error.to_string());
        let theirs = |session: &Session| session.org == org.id;
        if !store.list(&which, now).await.map_err(away)?.iter().all(theirs) {
            return Err(format!("org {} has no such session", org.id));
        }
        let named = match of {
            SessionsOf::Org => "all".to_owned(),
            SessionsOf::Member(member) => id_of(&place.member(&org.id, member)?),
            SessionsOf::One(id) => id.to_string(),
        };
        let kind = if matches!(of, SessionsOf::Member(_)) { "member" } else { "session" };
        // What cannot be audited is not done.
        let noted = Noted { action: "session.revoked", org: Some(&org), kind, which: named, detail: Some(json!({ "by": "command line" })) };
        place.opened.note(noted, now).await?;
        let ended = store.revoke(&which, now).await.map_err(away)?.len();
        let sessions = if ended == 1 { "session" } else { "sessions" };
        Ok(format!("{ended} {sessions} ended, on every replica within a second.\n"))
    })
}

fn which(place: &Place, org: &str, of: &SessionsOf) -> Result<WhichSessions, String> {
    Ok(match of {
        SessionsOf::Org => WhichSessions::OfOrg(org.into()),
        SessionsOf::Member(named) => WhichSessions::OfMember(place.member(org, named)?.id),
        SessionsOf::One(id) => WhichSessions::One(*id),
    })
}
