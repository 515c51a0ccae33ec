//! Reads that wait for nobody for ever. A connection whose other end is gone says nothing, and TCP may take a quarter of an hour
//! to notice; where nothing was under way, it never does.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};

/// How long one row, or what belongs to one request, may be waited for.
pub const SOON: Duration = Duration::from_secs(5);

/// How long a whole table may be waited for.
pub const LONG: Duration = Duration::from_mins(1);

/// A connection of a pool. It goes back once its work is [`done`](Self::done); given up half way it is closed: the pool would ask it
/// whether it lives, and wait for the answer.
#[derive(Debug)]
pub struct Held<DB: Database> {
    connection: PoolConnection<DB>,
    done: bool,
}

impl<DB: Database> Held<DB> {
    /// Takes one.
    ///
    /// # Errors
    ///
    /// Where none can be had in time.
    pub async fn of(pool: &Pool<DB>) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: pool.acquire().await?, done: false })
    }

    /// Gives it back: everything was answered.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl<DB: Database> Deref for Held<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.connection
    }
}

impl<DB: Database> DerefMut for Held<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }
}

impl<DB: Database> Drop for Held<DB> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.close_on_drop();
        }
    }
}

/// The answer, or an error where it does not come in time.
///
/// # Errors
///
/// Those of the database, and [`sqlx::Error::PoolTimedOut`] where it says nothing.
pub async fn within<T>(patience: Duration, asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(patience, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
