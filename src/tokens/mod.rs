//! Counting tokens with OpenAI's encodings.
//!
//! [`Encoding::for_model`] says which encoding a model's text is counted with and whether that is its own or only the
//! nearest; [`TokenCounter`] counts. Counts are exact: equal to tiktoken's on any text, with special tokens in the text
//! (`<|endoftext|>`) taken as the plain text that a person typed. `docs/decisions/0001-token-counting.md` says how the
//! library behind it was chosen and what it costs.

mod bpe;
mod counter;
mod encoding;

pub use counter::{INLINE_BYTES, LoadError, TokenCounter};
pub use encoding::{Encoding, Fit};

#[cfg(test)]
mod exactness;
#[cfg(test)]
mod hard_texts;
