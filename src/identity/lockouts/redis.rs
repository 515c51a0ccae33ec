//! Failed sign-ins, counted in Redis, for any number of Tollgates.
//!
//! Everything lies in one slot, `{logins}`, since one script decides over a name and an address together. Time is the `now` of
//! the replicas, as in the store of counters.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Cmd;
use uuid::Uuid;

use super::{ATTEMPT_LASTS, After, Bar, Begun, How, Lockout, Lockouts, LoginName, Place, Subject};
use crate::limits::StoreError;
use crate::shared::keys::escaped;
use crate::shared::{Redis, Script};

/// The most places that are known of a name.
const MOST_PLACES: i64 = 20;

/// The most locks that are listed.
const MOST_LISTED: i64 = 10_000;

/// Failures and locks in Redis.
#[derive(Debug, Clone)]
pub struct RedisLockouts {
    redis: Redis,
    begin: Script,
    finish: Script,
}

impl RedisLockouts {
    /// On this connection.
    pub fn new(redis: Redis) -> Self {
        let script = |text| Script::new(&[include_str!("lua/common.lua"), text]);
        Self { redis, begin: script(include_str!("lua/begin.lua")), finish: script(include_str!("lua/finish.lua")) }
    }

    fn key(&self, what: &str, name: &str) -> String {
        format!("{}:{{logins}}:{what}:{}", self.redis.prefix(), escaped(name))
    }

    fn state(&self, subject: &Subject) -> String {
        self.key("state", &subject.to_string())
    }

    fn places(&self, name: &LoginName) -> String {
        self.key("places", name.as_str())
    }

    fn locks(&self) -> String {
        format!("{}:{{logins}}:locked", self.redis.prefix())
    }

    async fn run(&self, script: &Script, id: Uuid, bars: &[Bar], now: Timestamp, third: &str) -> Result<Vec<String>, StoreError> {
        let mut keys = vec![self.locks()];
        for bar in bars {
            keys.extend([self.state(&bar.subject), self.key("pending", &bar.subject.to_string())]);
        }
        let fill = |arguments: &mut Cmd| {
            arguments.arg(id.to_string()).arg(now.as_millisecond()).arg(third);
            for bar in bars {
                arguments.arg(bar.subject.to_string()).arg(u8::from(bar.subject.is_shared())).arg(bar.failures);
                for time in [bar.window, bar.lock, bar.max_lock, bar.remembered] {
                    arguments.arg(milliseconds(time));
                }
            }
        };
        Ok(self.redis.run_script(script, &keys, fill).await?)
    }

    /// The places that are known of a name, also those whose time is over.
    async fn places_of(&self, name: &LoginName) -> Result<Vec<String>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.places(name)).arg(0).arg(-1);
        Ok(self.redis.run(command).await?)
    }

    async fn forget(&self, subject: &Subject) -> Result<bool, StoreError> {
        let mut unlist = redis::cmd("ZREM");
        unlist.arg(self.locks()).arg(subject.to_string());
        self.redis.run::<u64>(unlist).await?;
        Ok(self.redis.delete(&self.state(subject)).await?)
    }
}

#[async_trait]
impl Lockouts for RedisLockouts {
    async fn begin(&self, id: Uuid, bars: &[Bar], now: Timestamp) -> Result<Begun, StoreError> {
        let lost_at = now.as_millisecond().saturating_add(milliseconds(ATTEMPT_LASTS));
        let answer = self.run(&self.begin, id, bars, now, &lost_at.to_string()).await?;
        let named = || answer.get(1).and_then(|index| bars.get(index.parse::<usize>().ok()?.checked_sub(1)?));
        let begun = match (answer.first().map(String::as_str), named()) {
            (Some("admitted"), _) => Some(Begun::Admitted),
            (Some("busy"), Some(bar)) => Some(Begun::Refused { subject: bar.subject.clone(), until: None }),
            (Some("locked"), Some(bar)) => {
                answer.get(2).and_then(|end| instant(end)).map(|until| Begun::Refused { subject: bar.subject.clone(), until: Some(until) })
            }
            _ => None,
        };
        begun.ok_or_else(|| misread("begin"))
    }

    async fn end(&self, id: Uuid, bars: &[Bar], how: How, now: Timestamp) -> Result<Vec<After>, StoreError> {
        let how = match how {
            How::Failed => "failed",
            How::GivenBack => "given_back",
            How::Succeeded => "succeeded",
        };
        let answer = self.run(&self.finish, id, bars, now, how).await?;
        let after = |pair: &[String]| match pair {
            [lockouts, end] => Some(After { lockouts: lockouts.parse().ok()?, locked_until: instant(end) }),
            _ => None,
        };
        answer.chunks(2).map(after).collect::<Option<Vec<_>>>().filter(|all| all.len() == bars.len()).ok_or_else(|| misread("finish"))
    }

    async fn remember_place(&self, name: &LoginName, place: &Place, now: Timestamp, until: Timestamp) -> Result<(), StoreError> {
        let (key, now, until) = (self.places(name), now.as_millisecond(), until.as_millisecond());
        let mut add = redis::cmd("ZADD");
        add.arg(&key).arg(until).arg(place.as_str());
        let mut forget = redis::cmd("ZREMRANGEBYRANK");
        forget.arg(&key).arg(0).arg(-MOST_PLACES - 1);
        let mut expire = redis::cmd("PEXPIRE");
        expire.arg(&key).arg(until.saturating_sub(now).max(1));
        for command in [add, forget, expire] {
            self.redis.run::<i64>(command).await?;
        }
        Ok(())
    }

    async fn knows_place(&self, name: &LoginName, place: &Place, now: Timestamp) -> Result<bool, StoreError> {
        let mut command = redis::cmd("ZSCORE");
        command.arg(self.places(name)).arg(place.as_str());
        let until: Option<f64> = self.redis.run(command).await?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
        Ok(until.is_some_and(|until| until > now.as_millisecond() as f64))
    }

    async fn open(&self, subject: &Subject) -> Result<bool, StoreError> {
        let mut opened = self.forget(subject).await?;
        if let Subject::Name(name) = subject {
            for place in self.places_of(name).await?.iter().filter_map(|place| Place::read(place)) {
                opened |= self.forget(&Subject::NameAt(name.clone(), place)).await?;
            }
        }
        Ok(opened)
    }

    async fn locked(&self, now: Timestamp) -> Result<Vec<Lockout>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.locks()).arg(format!("({}", now.as_millisecond())).arg("+inf").arg("BYSCORE");
        command.arg("LIMIT").arg(0).arg(MOST_LISTED).arg("WITHSCORES");
        let listed: Vec<String> = self.redis.run(command).await?;
        let lockout = |pair: &[String]| match pair {
            [subject, end] => Some(Lockout { subject: Subject::read(subject)?, until: instant(end)? }),
            _ => None,
        };
        Ok(listed.chunks(2).filter_map(lockout).collect())
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}

/// An instant in milliseconds since 1970; none for what is empty.
fn instant(text: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(text.parse().ok()?).ok()
}

fn misread(script: &str) -> StoreError {
    StoreError::Unavailable(format!("the script {script} of sign-ins answered something else").into())
}
