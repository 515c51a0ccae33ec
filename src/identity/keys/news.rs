//! A key may be older than what this process knows: whoever makes one may use it through another replica in the next moment.
//!
//! So before a key is said to be nobody's, the database is asked for what changed: at most once in a while for all requests
//! together, however many invented keys come.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

/// How often the database is asked at most.
const EVERY: Duration = Duration::from_millis(100);

/// How long a request waits for the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// When the database was last asked for what changed, and whether it answered.
#[derive(Debug, Default)]
pub struct News(Mutex<Option<(Instant, bool)>>);

impl News {
    /// Makes sure that what changed until now is known here; `ask` asks the database and says whether it answered.
    /// Those who come meanwhile share the answer. `false` where nobody can say what changed.
    pub async fn heard<F: Future<Output = bool>>(&self, ask: impl FnOnce() -> F) -> bool {
        let came = Instant::now();
        let heard = async {
            let mut last = self.0.lock().await;
            if let Some((asked, answered)) = *last {
                if asked >= came {
                    return answered;
                }
                sleep_until(asked + EVERY).await;
            }
            let asked = Instant::now();
            // Whoever gives up waiting leaves the failure for those behind.
            *last = Some((asked, false));
            let answered = ask().await;
            *last = Some((asked, answered));
            answered
        };
        timeout(PATIENCE, heard).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_ask_once() {
        let (news, asked) = (News::default(), AtomicUsize::new(0));
        let ask = || async {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            true
        };
        let all = futures_util::future::join_all((0..1000).map(|_| news.heard(ask))).await;
        assert!(all.iter().all(|heard| *heard));
        assert_eq!(asked.load(Ordering::SeqCst), 1, "those who wait share the answer");
        tokio::time::advance(Duration::from_millis(1)).await;
        let before = Instant::now();
        assert!(news.heard(ask).await);
        assert_eq!(asked.load(Ordering::SeqCst), 2, "whoever comes later hears what is new");
        assert!(before.elapsed() >= EVERY / 2, "after a while");
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_does_not_answer_holds_nobody_up_for_long() {
        let news = News::default();
        assert!(!news.heard(std::future::pending).await);
        assert!(news.heard(|| async { true }).await, "the next one asks again");
    }
}
