//! One encoding, counted exactly and in linear time on any text.
//!
//! splintr does the work; four things are added because the text comes from strangers:
//!
//! - Long runs without a break (a megabyte of dashes) are counted in windows. Merging them as one piece costs up to
//!   0.25 s and 60 MB of scratch memory per megabyte, windows cost 0.05 s and next to none.
//! - splintr remembers the pieces that it merged, whatever their length. What it remembers is thrown away after every
//!   [`REMEMBERED_BYTES`] of text, so that neither memory nor the life of a person's words in it is without bound.
//! - Special tokens in the text are plain text.
//! - `'ſ` is the contraction `'s`. OpenAI's patterns ignore case as Unicode does, in which the long s is an s; splintr's
//!   scanners do so for ASCII only. No other letter outside ASCII folds to one of a contraction.
//!
//! Why windows are exact: byte-pair encoding always performs the lowest-ranked merge next, the leftmost of equals. A
//! stretch of text into which no merge reaches from outside is therefore encoded as if it stood alone. So any two tokens
//! that are neighbours in an encoding are also the encoding of their own joint text, and the other way round a row of
//! tokens in which all neighbours have this property is *the* encoding of the whole: the first merge to cross a border
//! would also have crossed it when these two tokens stood alone. A window that starts on a border of the one before it,
//! and whose first token is the one that stood there, continues that row.

use std::sync::atomic::{AtomicUsize, Ordering};

use splintr::core::byte_pair_encode;
use splintr::pretrained::from_pretrained;
use splintr::{Backend, Tokenizer};

use super::counter::LoadError;
use super::encoding::Encoding;

/// Pieces longer than two of these are counted in windows. Between 256 and 2,048 bytes the choice hardly matters.
const WINDOW: usize = 1024;

/// A run of text that is not broken for this long may be a long piece: a piece longer than two blocks covers one.
const BLOCK: usize = WINDOW;

/// Up to this length the plain merge is faster than checking that a text is one piece.
const SHORT_PIECE: usize = 16;

/// An apostrophe and a long s: `'s` where case does not matter.
const LONG_S_CONTRACTION: &str = "'ſ";

/// How much text is counted before splintr's memory of pieces is cleared (0.5 ms): about 0.1 s of counting. It holds at
/// most some five times this.
const REMEMBERED_BYTES: usize = 8 << 20;

/// Text with letters of several scripts, merges and a long run, so that everything built at first use is built.
const WARM_UP: &str = "warming qzxjvkqw 안녕하세요 你好 --------------------------------------------------------------------------------";

/// One encoding, ready to count.
pub(super) struct Bpe {
    tokenizer: Tokenizer,
    counted_since_clear: AtomicUsize,
}

impl Bpe {
    /// Loads the vocabulary and builds every table (about 0.1 s).
    pub(super) fn load(encoding: Encoding) -> Result<Self, LoadError> {
        let loaded =
            from_pretrained(encoding.as_str()).map_err(|error| LoadError { encoding: encoding.as_str(), why: error.to_string() })?;
        let Backend::Bpe(tokenizer) = loaded.into_backend() else {
            return Err(LoadError { encoding: encoding.as_str(), why: "not a byte-pair encoding".to_owned() });
        };
        let bpe = Self { tokenizer, counted_since_clear: AtomicUsize::new(0) };
        bpe.count(WARM_UP);
        bpe.count_long_piece(&WARM_UP.repeat(2 * WINDOW / WARM_UP.len() + 1));
        Ok(bpe)
    }

    /// How many tokens `text` is.
    pub(super) fn count(&self, text: &str) -> usize {
        self.forget_in_time(text.len());
        if memchr::memmem::find(text.as_bytes(), LONG_S_CONTRACTION.as_bytes()).is_some() {
            return self.count_with_long_s(text);
        }
        if may_hold_long_piece(text.as_bytes()) && self.longest_piece(text) > 2 * WINDOW {
            let mut tokens = 0;
            self.tokenizer.for_each_pre_token(text, |piece| tokens += self.count_piece(piece));
            return tokens;
        }
        self.tokenizer.encode_ordinary(text).len()
    }

    /// Splits the text with each long s of a contraction written as an s: to the patterns both are lowercase letters, so
    /// that every border stays where it was, and only the contractions are seen.
    fn count_with_long_s(&self, text: &str) -> usize {
        let (mut tokens, mut rest) = (0, text);
        self.tokenizer.for_each_pre_token(&text.replace(LONG_S_CONTRACTION, "'s"), |piece| {
            let end = rest.char_indices().nth(piece.chars().count()).map_or(rest.len(), |(end, _)| end);
            let (own, after) = rest.split_at(end);
            tokens += self.count_piece(own);
            rest = after;
        });
        tokens
    }

    fn forget_in_time(&self, bytes: usize) {
        let before = self.counted_since_clear.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) >= REMEMBERED_BYTES {
            self.counted_since_clear.store(0, Ordering::Relaxed);
            self.tokenizer.clear_cache();
        }
    }

    fn longest_piece(&self, text: &str) -> usize {
        let mut longest = 0;
        self.tokenizer.for_each_pre_token(text, |piece| longest = longest.max(piece.len()));
        longest
    }

    fn count_piece(&self, piece: &str) -> usize {
        if piece.len() > 2 * WINDOW { self.count_long_piece(piece) } else { self.encode_piece(piece).len() }
    }

    /// Encodes text that is a pre-token or a part of one, and so must not be split again.
    fn encode_piece(&self, piece: &str) -> Vec<u32> {
        if piece.len() > SHORT_PIECE {
            let mut pieces = 0_u32;
            self.tokenizer.for_each_pre_token(piece, |_| pieces += 1);
            if pieces == 1 {
                return self.tokenizer.encode_ordinary(piece);
            }
        }
        byte_pair_encode(piece.as_bytes(), self.tokenizer.encoder())
    }

    /// Counts one long pre-token window by window; the module's documentation says why this is exact.
    fn count_long_piece(&self, piece: &str) -> usize {
        let mut counted = 0;
        let mut width = WINDOW;
        let mut start = 0;
        let mut end = piece.floor_char_boundary(width);
        let mut tokens = self.encode_piece(&piece[start..end]);
        while end < piece.len() {
            if let Some(next) = self.next_window(piece, start, &tokens) {
                counted += next.kept;
                (start, end, tokens) = (next.start, next.end, next.tokens);
                width = WINDOW;
            } else {
                width *= 2;
                end = piece.floor_char_boundary(start + width);
                tokens = self.encode_piece(&piece[start..end]);
            }
        }
        counted + tokens.len()
    }

    /// The window that continues the one at `start`, from a border in its later half; `None` if none of those tried fits.
    fn next_window(&self, piece: &str, start: usize, tokens: &[u32]) -> Option<Window> {
        let mut back = 2;
        while back <= tokens.len() / 2 {
            let mut kept = tokens.len() - back;
            let mut border = start + self.bytes_of(&tokens[..kept]);
            while kept > 0 && !piece.is_char_boundary(border) {
                kept -= 1;
                border -= self.bytes_of(&tokens[kept..=kept]);
            }
            if kept == 0 {
                return None;
            }
            let rest = piece.len() - border;
            let end = if rest <= 2 * WINDOW { piece.len() } else { piece.floor_char_boundary(border + WINDOW) };
            let continued = self.encode_piece(&piece[border..end]);
            if continued.first() == tokens.get(kept) {
                return Some(Window { kept, start: border, end, tokens: continued });
            }
            back *= 2;
        }
        None
    }

    fn bytes_of(&self, tokens: &[u32]) -> usize {
        tokens.iter().map(|&token| self.tokenizer.decoder().get(token).map_or(0, <[u8]>::len)).sum()
    }
}

/// A window that continues the one before it.
struct Window {
    /// How many tokens of the window before stay.
    kept: usize,
    /// Where it starts in the piece.
    start: usize,
    /// Where it ends in the piece.
    end: usize,
    /// Its encoding.
    tokens: Vec<u32>,
}

/// Whether a pre-token of more than two blocks is possible: only if some block is all letters, all punctuation and line
/// ends, or all white space, where any byte outside ASCII may be each of these. Ordinary text says no within a few bytes
/// of each block. A wrong answer would cost time, never exactness.
fn may_hold_long_piece(text: &[u8]) -> bool {
    text.chunks_exact(BLOCK).any(|block| {
        let mut kinds = u8::MAX;
        block.iter().all(|&byte| {
            kinds &= kinds_of(byte);
            kinds != 0
        })
    })
}

/// The kinds of run that a byte can continue: 1 letters, 2 punctuation and line ends, 4 white space.
fn kinds_of(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' => 1,
        b'0'..=b'9' => 0,
        b' ' => 4,
        0..=31 | 127 => 2 | 4,
        128.. => 1 | 2 | 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_pieces_is_cleared_in_time() {
        let bpe = Bpe::load(Encoding::Cl100kBase).unwrap();
        for seed in 0..200_u32 {
            let word: String = (0..2_000_u32).map(|i| char::from(b'a' + u8::try_from((i * i + seed * i) % 23).unwrap())).collect();
            bpe.count(&word.repeat(30));
            assert!(bpe.counted_since_clear.load(Ordering::Relaxed) < REMEMBERED_BYTES, "the count since the last clearing is bounded");
        }
        bpe.count(&" ordinary words".repeat(REMEMBERED_BYTES / 15 + 1));
        assert!(bpe.tokenizer.cache_len() < 100, "a text of {REMEMBERED_BYTES} bytes clears what was remembered before it");
    }

    #[test]
    fn only_unbroken_text_is_looked_at_twice() {
        let prose = "Ordinary words, with 12 numbers and\nlines. ".repeat(200);
        assert!(!may_hold_long_piece(prose.as_bytes()), "prose has no long runs");
        let json = r#"{"key":"value","list":[1,2,3]}"#.repeat(200);
        assert!(!may_hold_long_piece(json.as_bytes()), "minified JSON has no long runs");
        for run in ["a", " ", "-", "中", "\n", "\u{301}"] {
            let long = format!("12 {} 34", run.repeat(2 * BLOCK + 8));
            assert!(may_hold_long_piece(long.as_bytes()), "a long run of {run:?} is noticed");
        }
    }
}
