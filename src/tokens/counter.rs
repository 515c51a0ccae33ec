//! Both encodings, loaded once and shared by every request.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use tracing::error;

use super::bpe::Bpe;
use super::encoding::Encoding;

/// Texts up to this many bytes are counted where they are, on the event loop: 0.2 to 0.5 ms of ordinary text (1.2 ms of
/// Chinese that was never seen), 3 ms of the worst. Longer ones are counted on a thread of their own.
pub const INLINE_BYTES: usize = 32 * 1024;

/// At most so many bytes of long texts are being counted at once, in units of [`PERMIT_BYTES`]. It bounds the working
/// memory, which is up to 30 bytes per byte of the worst text.
const PERMITS: u32 = 4 * 1024;

/// The unit of [`PERMITS`].
const PERMIT_BYTES: usize = 1024;

/// A vocabulary that could not be read. Vocabularies are part of the program, so this means a broken build.
#[derive(Debug, thiserror::Error)]
#[error("cannot load the token encoding {encoding}: {why}")]
pub struct LoadError {
    /// The encoding's name.
    pub encoding: &'static str,
    /// What the tokenizer said.
    pub why: String,
}

/// Counts tokens, exactly as tiktoken does.
///
/// Load it once, share it by [`Arc`]. Resident size with both encodings is about 70 MB.
pub struct TokenCounter {
    o200k_base: Bpe,
    cl100k_base: Bpe,
    long_texts: Arc<Semaphore>,
}

impl std::fmt::Debug for TokenCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCounter").finish_non_exhaustive()
    }
}

impl TokenCounter {
    /// Loads both encodings and builds every table, so that no request waits for it. Takes 0.3 s.
    ///
    /// # Errors
    /// When a vocabulary cannot be read.
    pub fn load() -> Result<Self, LoadError> {
        Ok(Self {
            o200k_base: Bpe::load(Encoding::O200kBase)?,
            cl100k_base: Bpe::load(Encoding::Cl100kBase)?,
            long_texts: Arc::new(Semaphore::new(PERMITS as usize)),
        })
    }

    /// How many tokens `text` is, special tokens in it taken as plain text.
    ///
    /// Costs 5 to 15 ns per byte of ordinary text (36 ns of Chinese that was never seen) and at most 0.1 µs per byte of any. In async code, use
    /// [`Self::count_off_loop`] for text whose length is not known to be small.
    pub fn count(&self, encoding: Encoding, text: &str) -> u64 {
        let bpe = match encoding {
            Encoding::O200kBase => &self.o200k_base,
            Encoding::Cl100kBase => &self.cl100k_base,
        };
        bpe.count(text) as u64
    }

    /// Like [`Self::count`], but texts longer than [`INLINE_BYTES`] do not hold up the event loop.
    ///
    /// Each long text gets a thread of its own rather than one of the runtime's: the tokenizer keeps its working memory
    /// per thread at the largest size it ever had, and this way it goes when the text is done. Long texts wait for each
    /// other so that not too much of that memory is in use at once.
    ///
    /// Should counting panic, the answer is the most that the text can be: a token per byte.
    pub async fn count_off_loop<T>(self: &Arc<Self>, encoding: Encoding, text: T) -> u64
    where
        T: AsRef<str> + Send + 'static,
    {
        let bytes = text.as_ref().len();
        if bytes <= INLINE_BYTES {
            return self.count(encoding, text.as_ref());
        }
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(PERMITS).min(PERMITS);
        // The semaphore is never closed, so there is a permit in the end.
        let permit = Arc::clone(&self.long_texts).acquire_many_owned(permits).await;
        let (answer, answered) = oneshot::channel();
        let counter = Arc::clone(self);
        let thread = std::thread::Builder::new().name("count-tokens".to_owned()).spawn(move || {
            let tokens = counter.count(encoding, text.as_ref());
            drop(permit);
            // Nobody listens any more when the request was dropped meanwhile.
            let _ = answer.send(tokens);
        });
        match (thread, answered.await) {
            (Ok(_), Ok(tokens)) => tokens,
            (thread, _) => {
                let why = thread.err().map_or_else(|| "panicked".to_owned(), |error| error.to_string());
                error!(error.message = why, text.bytes = bytes, "a long text could not be counted; taken as a token per byte");
                bytes as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> Arc<TokenCounter> {
        Arc::new(TokenCounter::load().unwrap())
    }

    #[test]
    fn special_tokens_in_text_are_plain_text() {
        let counter = counter();
        for encoding in [Encoding::O200kBase, Encoding::Cl100kBase] {
            assert_eq!(counter.count(encoding, ""), 0, "nothing is no token in {encoding:?}");
            assert_eq!(counter.count(encoding, "hello world"), 2, "two common words in {encoding:?}");
            assert!(counter.count(encoding, "<|endoftext|>") > 1, "a special token that a person typed is text in {encoding:?}");
        }
    }

    #[tokio::test]
    async fn long_and_short_texts_count_the_same_off_the_loop() {
        let counter = counter();
        for bytes in [0, 100, INLINE_BYTES, INLINE_BYTES + 1, 300_000] {
            let text = "ordinary text, ".repeat(bytes / 15 + 1)[..bytes].to_owned();
            let inline = counter.count(Encoding::O200kBase, &text);
            let off_loop = counter.count_off_loop(Encoding::O200kBase, text).await;
            assert_eq!(off_loop, inline, "{bytes} bytes");
        }
        assert_eq!(counter.long_texts.available_permits(), PERMITS as usize, "every permit came back");
    }

    #[tokio::test]
    async fn many_long_texts_at_once_are_all_counted() {
        let counter = counter();
        let text: Arc<str> = "-a".repeat(2_500_000).into();
        let expected = counter.count(Encoding::O200kBase, &text);
        let counts = (0..4).map(|_| counter.count_off_loop(Encoding::O200kBase, Arc::clone(&text)));
        for tokens in futures_util::future::join_all(counts).await {
            assert_eq!(tokens, expected, "a text larger than all permits is still counted");
        }
    }
}
