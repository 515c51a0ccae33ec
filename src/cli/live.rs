//! `tollgate check --live`: tries what the configuration names, and says of each whether it works and what to do.
//!
//! Nothing is changed anywhere: LibreChat is only read, Redis runs a script that leaves nothing behind, the database is
//! looked at, issuers' keys are fetched, and beside an SQLite file that does not exist yet one is made and removed at once.

use std::path::Path;
use std::sync::Arc;

use super::say::say;
use super::{Exit, Source, describe, wait_for};
use crate::app::database_url;
use crate::clock::SystemClock;
use crate::config::{self, Config, RecordsUrl, StoreUrl};
use crate::db::{Database, Status};
use crate::identity::tokens::Timing;
use crate::identity::{IssuerKeys, KeySet, Minter, is_user_id};
use crate::librechat::client::{CallError, ChatWire, LibreChat, Person};
use crate::librechat::upstreams::Upstreams;
use crate::limits::redis::RedisStore;
use crate::shared::Redis;

/// One thing that was tried.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) what: String,
    pub(super) outcome: Outcome,
}

/// How one thing went.
#[derive(Debug)]
pub(super) enum Outcome {
    Works(String),
    Fails(String),
    NotTried(String),
}

use Outcome::{Fails, NotTried, Works};

/// `tollgate check --live`: also tries LibreChat (as the user with this id, if given), the store, the database and
/// where issuers publish their keys.
pub fn check_live(source: &Source, user: Option<&str>) -> Exit {
    let config = match source.load() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let described = say(&describe(&config));
    described.and(wait_for(async move {
        let mut tried = librechat(&config, user).await;
        tried.extend(store_and_records(&config).await);
        tried.extend(issuers(&config).await);
        let lines = tried.iter().map(|Tried { what, outcome }| {
            let (word, said) = match outcome {
                Works(said) => ("ok", said),
                Fails(said) => ("failed", said),
                NotTried(said) => ("not tried", said),
            };
            format!("  {word:<9}  {what:<9}  {said}\n")
        });
        let said = say(&("Tried:\n".to_owned() + &lines.collect::<String>()));
        if tried.iter().any(|tried| matches!(tried.outcome, Fails(_))) { Exit::Failure } else { said }
    }))
}

fn tried(what: &str, outcome: Outcome) -> Tried {
    Tried { what: what.to_owned(), outcome }
}

/// Every LibreChat, the secret and the chat wire.
pub(super) async fn librechat(config: &Config, user: Option<&str>) -> Vec<Tried> {
    let minter = Arc::new(Minter::new(config.librechat.jwt_secret.expose().as_bytes()));
    let mut all = Vec::new();
    for upstream in &config.librechat.upstreams {
        let only = config::LibreChat { upstreams: vec![upstream.clone()], ..config.librechat.clone() };
        match LibreChat::new(Arc::new(Upstreams::new(&only)), minter.clone(), Arc::new(SystemClock)) {
            Ok(librechat) => all.extend(one_librechat(&librechat, upstream, user).await),
            Err(error) => all.push(tried("LibreChat", Fails(error.to_string()))),
        }
    }
    all
}

async fn one_librechat(librechat: &LibreChat, upstream: &config::Upstream, user: Option<&str>) -> Vec<Tried> {
    let health = match librechat.upstreams().all() {
        [place, ..] => librechat.health(place).await,
        [] => Ok(()),
    };
    let reached = match health {
        Ok(()) => Works(format!("{upstream} answers")),
        Err(CallError::Status(status)) => {
            Fails(format!("{upstream} answers GET /health with {status}: is librechat.upstreams LibreChat's own address?"))
        }
        Err(error) => Fails(format!("{upstream}: {error}: start LibreChat, or correct librechat.upstreams")),
    };
    let (secret, wire) = match (&reached, user) {
        (Works(_), Some(user)) if is_user_id(user) => as_user(librechat, user).await,
        (Works(_), Some(user)) => {
            let no_id = format!("\"{user}\" is no id of a LibreChat user: 24 digits and letters a to f, the _id in its users collection");
            (Fails(no_id), NotTried("needs a user".to_owned()))
        }
        (Works(_), None) => {
            let how = "give --as ID, the id of a LibreChat user (the _id in its users collection), to read /api/user as";
            (NotTried(how.to_owned()), NotTried("which chat wire LibreChat speaks is told to users only; give --as ID".to_owned()))
        }
        _ => (NotTried("LibreChat does not answer".to_owned()), NotTried("LibreChat does not answer".to_owned())),
    };
    vec![tried("LibreChat", reached), tried("secret", secret), tried("chat wire", wire)]
}

/// Whether LibreChat takes our token for this user, and which wire it speaks to them.
async fn as_user(librechat: &LibreChat, user: &str) -> (Outcome, Outcome) {
    let person = Person { user: user.into(), org: "".into(), address: "127.0.0.1".to_owned(), user_agent: String::new() };
    let secret = match librechat.user(&person).await {
        Ok(found) if found.id == user => Works(format!("LibreChat takes a token of ours for the user {user}")),
        Ok(found) => Fails(format!("LibreChat takes a token for {user} as that of {}", found.id)),
        Err(CallError::Status(401)) => Fails(format!(
            "LibreChat refuses a token of ours for {user}: librechat.jwt_secret is not its JWT_SECRET, or it has no such user"
        )),
        Err(CallError::Status(403)) => Fails(format!("LibreChat bans the user {user} or this address; try another user")),
        Err(error) => Fails(format!("GET /api/user as {user}: {error}")),
    };
    if !matches!(secret, Works(_)) {
        return (secret, NotTried("LibreChat did not take the token".to_owned()));
    }
    let wire = match librechat.wire(&person).await {
        Ok(ChatWire::Resumable) => Works("a start that answers JSON, and a stream of its own (LibreChat 0.8.2 and later)".to_owned()),
        Ok(ChatWire::Direct) => Works("the answer of the start is the stream (LibreChat before 0.8.2)".to_owned()),
        Err(error) => Fails(format!("GET /api/agents/chat/active as {user}: {error}")),
    };
    (secret, wire)
}

/// The store and the database of records.
pub(super) async fn store_and_records(config: &Config) -> [Tried; 2] {
    [tried("store", store(config).await), tried("records", records(config).await)]
}

async fn store(config: &Config) -> Outcome {
    let url = match &config.store.url {
        StoreUrl::Memory => return Works("in memory: nothing to try".to_owned()),
        StoreUrl::Redis(url) => url,
    };
    let place = &config.store.url;
    let redis = match Redis::new(config.store.redis(url), tokio::runtime::Handle::current()) {
        Ok(redis) => redis,
        Err(error) => return Fails(format!("{place}: {error}")),
    };
    if let Err(error) = redis.ping().await {
        return Fails(format!("{place}: {error}: start it, or correct store.url"));
    }
    match RedisStore::new(redis).self_test().await {
        Ok(()) => Works(format!("{place} runs scripts")),
        Err(error) => {
            Fails(format!("{place} answers, but does not run our scripts: {error}: allow EVAL, EVALSHA and writing to this user"))
        }
    }
}

async fn records(config: &Config) -> Outcome {
    let place = &config.records.url;
    let database = match Database::open(&database_url(&config.records.url)) {
        Ok(database) => database,
        Err(error) => return Fails(format!("{place}: {error}")),
    };
    let status = database.status().await;
    database.close().await;
    match (status, place) {
        (Status::Ready, RecordsUrl::Sqlite(file)) => match std::fs::File::options().append(true).open(file) {
            Ok(_) => Works(format!("{place} is migrated")),
            Err(error) => Fails(format!("{place} cannot be written: {error}")),
        },
        (Status::Ready, RecordsUrl::Postgres(_)) => Works(format!("{place} is migrated")),
        (Status::Missing(file), _) => match try_to_create(&file) {
            Ok(()) => Works(format!("{place} does not exist yet; the first start makes it")),
            Err(error) => Fails(format!("{place} does not exist, and cannot be made: {error}")),
        },
        (Status::NotMigrated { pending }, _) => {
            Fails(format!("{place} lacks {pending} of our migrations: run tollgate migrate, or start tollgate serve, which migrates too"))
        }
        (Status::Unreachable(reason), RecordsUrl::Sqlite(_)) => Fails(format!("{place}: {reason}: make it readable, or name another file")),
        (Status::Unreachable(reason), _) => Fails(format!("{place}: {reason}: start it, or correct records.url")),
    }
}

/// Whether the keys of issuers that publish them can be fetched, and used.
pub(super) async fn issuers(config: &Config) -> Vec<Tried> {
    let mut all = Vec::new();
    for issuer in &config.issuers {
        let IssuerKeys::Published(algorithms, url) = &issuer.keys else { continue };
        let keys = KeySet::new(issuer.name.as_str().into(), url.clone(), algorithms.clone(), Timing::default());
        let names = algorithms.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>().join(", ");
        let outcome = match keys.try_once().await {
            Ok((0, unusable)) => {
                Fails(format!("{url} publishes no key for {names} ({unusable} others): correct algorithms, or issuers.jwks_url"))
            }
            Ok((usable, 0)) => Works(format!("{url} publishes keys for {names}: {usable}")),
            Ok((usable, unusable)) => Works(format!("{url} publishes keys for {names}: {usable}, and {unusable} that are not used")),
            Err(error) => Fails(format!("{url}: {error}: correct issuers.jwks_url, or let Tollgate reach it")),
        };
        all.push(tried(&format!("keys of {}", issuer.name), outcome));
    }
    all
}

/// Whether a file could be made at this place, tried with a name beside it.
fn try_to_create(file: &Path) -> std::io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".check-{}", std::process::id()));
    let beside = file.with_file_name(name);
    std::fs::File::create_new(&beside)?;
    std::fs::remove_file(&beside)
}
