//! `tollgate limits explain`: every limit that applies to a member, why it is this one, and what is left of it.
//!
//! Counters in Redis are read there. Counters in memory live in the running process, so that it is asked, as the member,
//! at its public listener; where none runs, they are rebuilt from the usage rows as it would at its start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::say::{say, say_json};
use super::{Exit, Format, SecretIs, Source, complain, failed, misconfigured, observe, table, wait_for};
use crate::app;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, StoreUrl};
use crate::db::{Database, Status};
use crate::identity::{DEFAULT_ROLE, Directory, Identity, LibreChatUser, Minter, Org, is_user_id};
use crate::limits::redis::RedisStore;
use crate::limits::rules::Who;
use crate::limits::{Bucket, Charge, Level, Store as _, explain};
use crate::serve::reachable;
use crate::shared::Redis;

/// How long the running Tollgate may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the running Tollgate's audit row of the question says of who asked: it was not the member.
const USER_AGENT: &str = concat!("tollgate-limits-explain/", env!("CARGO_PKG_VERSION"));

/// Whose limits are asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The org's id.
    pub org: String,
    /// The member's id.
    pub member: String,
    /// The member's role, where it is given.
    pub role: Option<String>,
    /// The plan; the org's when left out.
    pub plan: Option<String>,
}

/// What the counters hold, in the order of the charges, and where that was learnt.
struct Levels {
    levels: Vec<Option<Level>>,
    learnt: String,
}

/// `tollgate limits explain`: every limit that applies to a member, why, and what is left of it.
pub fn explain_limits(source: &Source, asked: &Asked, format: Format) -> Exit {
    let (config, secret) = match source.load_with_orgs() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if !is_member_id(&asked.member) {
        let member = &asked.member;
        return misconfigured(&format_args!(
            "\"{member}\" is no member's id: 24 digits and letters a to f, the _id in LibreChat's users collection"
        ));
    }
    let directory = Directory::new(config.orgs.clone());
    let Some(org) = directory.by_id(&asked.org) else {
        let known = directory.orgs().iter().map(|org| &*org.id).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none" } else { &known };
        return misconfigured(&format_args!("there is no org \"{}\"; the orgs are: {known}", asked.org));
    };
    let rules = match config.rules() {
        Ok(rules) => rules,
        Err(contradictions) => {
            for error in &contradictions {
                complain(error);
            }
            return Exit::Configuration;
        }
    };
    let identity = Identity {
        user: asked.member.as_str().into(),
        name: None,
        role: asked.role.as_deref().unwrap_or(DEFAULT_ROLE).into(),
        plan: asked.plan.as_deref().map(Arc::from).or_else(|| org.plan.clone()),
        org: Some(org.clone()),
        org_tokens_per_month: None,
        email: None,
        suspended: None,
        session: None,
    };
    let now = SystemClock.now();
    let charges = Who::of(&identity).map(|who| rules.applies(&who, now)).unwrap_or_default();
    let note = note_on_role(&config, asked);
    wait_for(async move {
        let observed = observe::is_observed(&config, &org.id).await;
        let charges = if observed { charges.into_iter().map(Charge::observed).collect() } else { charges };
        match levels(&config, secret, &directory, &identity, &charges, now).await {
            Ok(levels) => show(&org, &identity, note, &charges, &levels, format),
            Err(reason) => failed(&reason),
        }
    })
}

/// A user of LibreChat, or one of its API keys as the audit and usage rows name it.
fn is_member_id(member: &str) -> bool {
    is_user_id(member) || member.strip_prefix("key:").is_some_and(|key| key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What to know of the role. No command can see which one a token gives; LibreChat's own tokens give none.
fn note_on_role(config: &Config, asked: &Asked) -> &'static str {
    match asked.role.as_deref() {
        None if config.issuers.is_empty() => "",
        None => " (assumed; --role names another)",
        Some(DEFAULT_ROLE) => "",
        Some(_) => " (as the directory or a token of an issuer gives it)",
    }
}

async fn levels(
    config: &Config,
    secret: SecretIs,
    directory: &Directory,
    identity: &Identity,
    charges: &[Charge],
    now: Timestamp,
) -> Result<Levels, String> {
    let buckets: Vec<Bucket> = charges.iter().map(|charge| charge.bucket.clone()).collect();
    let StoreUrl::Redis(url) = &config.store.url else {
        let address = reachable(config.public.listen);
        // A token that the running Tollgate refuses would stand in its audit rows as an attack.
        let asked = match secret {
            SecretIs::Missing => Err(format!("the Tollgate at {address} cannot be asked without LibreChat's secret")),
            SecretIs::Given if !is_user_id(&identity.user) => Err("an API key's counters are told to nobody".to_owned()),
            SecretIs::Given => ask_running(config, address, identity, &buckets, now).await,
        };
        return match asked {
            Ok(levels) => Ok(Levels { levels, learnt: format!("asked of the Tollgate that runs at {address}") }),
            Err(reason) => from_rows(config, directory, &buckets, now, &reason).await,
        };
    };
    let redis = Redis::new(config.store.redis(url), tokio::runtime::Handle::current()).map_err(|error| error.to_string())?;
    let levels = RedisStore::new(redis).peek(&buckets).await.map_err(|error| error.to_string())?;
    Ok(Levels { levels: levels.into_iter().map(Some).collect(), learnt: format!("read from {}", config.store.url) })
}

/// What the running Tollgate says of the member's counters, or why it says nothing.
async fn ask_running(
    config: &Config,
    address: SocketAddr,
    identity: &Identity,
    buckets: &[Bucket],
    now: Timestamp,
) -> Result<Vec<Option<Level>>, String> {
    let minter = Minter::new(config.librechat.jwt_secret.expose().as_bytes());
    let user = LibreChatUser { id: identity.user.to_string(), username: None, provider: "local".to_owned(), email: String::new() };
    let token = minter.mint_swapped(&user, identity, now, now);
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(PATIENCE)
        .user_agent(USER_AGENT)
        .build()
        .map_err(|error| error.to_string())?;
    let answer = client.get(format!("http://{address}/_tollgate/me")).bearer_auth(token).send().await;
    let answer = answer.map_err(|error| {
        let nobody = format!("nothing listens at {address}");
        if error.is_connect() { nobody } else { format!("what listens at {address} does not answer") }
    })?;
    if answer.status() != 200 {
        return Err(format!("what listens at {address} answers {} to a token made with librechat.jwt_secret", answer.status().as_u16()));
    }
    let me = answer.json::<serde_json::Value>().await.map_err(|_| format!("what listens at {address} is no Tollgate"))?;
    let limits = table::shown(&me["limits"]);
    let level = |bucket: &Bucket| {
        let same = limits.iter().find(|limit| {
            (limit.scope.as_str(), limit.resource.as_str(), limit.window.as_str())
                == (bucket.scope.as_str(), bucket.resource.as_str(), bucket.period.window.as_str())
                && limit.period == bucket.period.key()
        })?;
        Some(Level { used: same.used?, held: same.held? })
    };
    Ok(buckets.iter().map(level).collect())
}

/// What the usage rows say, as a Tollgate that starts now would count them.
async fn from_rows(config: &Config, directory: &Directory, buckets: &[Bucket], now: Timestamp, reason: &str) -> Result<Levels, String> {
    let place = &config.records.url;
    let database = Database::open(&app::database_url(place)).map_err(|error| error.to_string())?;
    let used = match database.status().await {
        Status::Ready => Some(database.records().used_since(explain::months_open_since(now)).await.map_err(|error| error.to_string())?),
        Status::Missing(_) | Status::NotMigrated { .. } => None,
        Status::Unreachable(why) => return Err(format!("{reason}, and {place} cannot be read: {why}")),
    };
    database.close().await;
    let Some(used) = used else {
        let learnt = format!("none yet: {reason}, and there are no usage rows in {place}");
        return Ok(Levels { levels: vec![Some(Level::default()); buckets.len()], learnt });
    };
    let counters = explain::buckets_of(&used, directory, now);
    let used_of = |bucket: &Bucket| counters.iter().find(|(counter, _)| counter == bucket).map_or(0, |(_, used)| *used);
    let levels = buckets.iter().map(|bucket| Some(Level { used: used_of(bucket), held: 0 })).collect();
    Ok(Levels { levels, learnt: format!("rebuilt from the usage rows in {place}, since {reason}; answers that still run are not in them") })
}

fn show(org: &Org, identity: &Identity, note_on_role: &str, charges: &[Charge], levels: &Levels, format: Format) -> Exit {
    let limits = explain::told(charges, &levels.levels);
    let (member, role, plan) = (&*identity.user, &*identity.role, identity.plan.as_deref());
    let told = json!({
        "org": &*org.id, "member": member, "role": role, "plan": plan,
        "time_zone": org.zone.iana_name(), "counters": levels.learnt, "limits": limits,
    });
    if format == Format::Json {
        return say_json(&told);
    }
    let plan = plan.map_or_else(String::new, |plan| format!(", plan {plan}"));
    let head = format!("Member {member} of {} ({}), role {role}{note_on_role}{plan}\nCounters: {}\n", org.name, org.id, levels.learnt);
    let table = table::of_limits(&table::shown(&told["limits"]), &org.zone);
    say(&(head + if limits.is_empty() { "No limit applies.\n" } else { &table }))
}
