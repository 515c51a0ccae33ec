//! Which trace a message is, in W3C's words (Trace Context): begun here, or gone on with where a trusted proxy began it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The trace of a generation, where it is traced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Its id: the generation's, where it begins here.
    pub id: Uuid,
    /// The span that it goes on from, where it does.
    pub parent: Option<u64>,
}

/// The spans of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The whole message.
    Message,
    /// Until its request leaves.
    Admit,
    /// Until LibreChat answers that it runs.
    Upstream,
    /// Until it ends.
    Stream,
    /// Until its books are closed.
    Settle,
}

impl Span {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Admit => "admit",
            Self::Upstream => "upstream",
            Self::Stream => "stream",
            Self::Settle => "settle",
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Message => 1,
            Self::Admit => 2,
            Self::Upstream => 3,
            Self::Stream => 4,
            Self::Settle => 5,
        }
    }
}

impl Trace {
    /// The id of a span: the same for whoever tells of it, and never zero.
    pub fn span_id(&self, generation: Uuid, span: Span) -> u64 {
        // The low half of an id is random, but for its two highest bits, of which one is set.
        generation.as_u64_pair().1 ^ (span.number() << 56)
    }
}

/// A `traceparent` that came with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// The trace.
    pub id: Uuid,
    /// The span of whoever asks.
    pub span: u64,
    /// Whether it is traced there.
    pub sampled: bool,
}

impl Incoming {
    /// Reads one, of this version or a later one.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        if !is_hex(version, 2) || version == "ff" || !is_hex(id, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
            return None;
        }
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let id = Uuid::from_u128(u128::from_str_radix(id, 16).ok()?);
        let (span, flags) = (u64::from_str_radix(span, 16).ok()?, u8::from_str_radix(flags, 16).ok()?);
        (!id.is_nil() && span != 0).then_some(Self { id, span, sampled: flags & 1 == 1 })
    }
}

/// The trace of a message that was admitted under this id, if it is traced, and the `traceparent` that LibreChat is sent.
/// Whoever began a trace has decided; otherwise so many of a hundred are.
pub fn begin(generation: Uuid, incoming: Option<Incoming>, percent: u8) -> (Option<Trace>, String) {
    let trace = Trace { id: incoming.map_or(generation, |incoming| incoming.id), parent: incoming.map(|incoming| incoming.span) };
    let sampled = incoming.map_or_else(|| generation.as_u128() % 100 < u128::from(percent), |incoming| incoming.sampled);
    let mut said = format!("00-{}", trace.id.simple());
    // Writing to a string does not fail.
    let _ = write!(said, "-{:016x}-{:02x}", trace.span_id(generation, Span::Upstream), u8::from(sampled));
    (sampled.then_some(trace), said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_well_formed_is_gone_on_with() {
        let incoming = Incoming::read(SAID).expect("the standard's own example");
        assert!(incoming.sampled);
        let (trace, said) = begin(Uuid::now_v7(), Some(incoming), 0);
        assert_eq!(trace.expect("it was decided already").parent, Some(0x00f0_67aa_0ba9_02b7));
        assert!(said.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && said.ends_with("-01") && !said.contains("00f067aa0ba902b7"));
        let unsampled = Incoming::read(&SAID.replace("-01", "-00")).expect("well formed");
        let (trace, said) = begin(Uuid::now_v7(), Some(unsampled), 100);
        assert!(trace.is_none() && said.ends_with("-00"));
        assert!(Incoming::read(&format!("{}-more", SAID.replace("00-4", "01-4"))).is_some(), "of a later version");
    }

    #[test]
    fn what_is_not_well_formed_is_nothing() {
        let long = format!("{SAID}-more");
        for said in [
            "",
            "00",
            &long,
            &SAID.to_uppercase(),
            &SAID.replace("00-4", "ff-4"),
            &SAID.replace("00f067aa0ba902b7", "0000000000000000"),
            &SAID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &SAID.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(Incoming::read(said), None, "{said}");
        }
    }

    #[test]
    fn so_many_of_a_hundred_are_traced_and_spans_are_told_apart() {
        let ids: Vec<Uuid> = (0..2_000).map(|_| Uuid::now_v7()).collect();
        let traced = |percent| ids.iter().filter(|id| begin(**id, None, percent).0.is_some()).count();
        assert_eq!((traced(0), traced(100)), (0, 2_000));
        assert!((350..650).contains(&traced(25)), "{}", traced(25));
        let trace = Trace { id: ids[0], parent: None };
        let spans = [Span::Message, Span::Admit, Span::Upstream, Span::Stream, Span::Settle].map(|span| trace.span_id(ids[0], span));
        assert!(spans.iter().enumerate().all(|(at, span)| *span != 0 && !spans[..at].contains(span)));
    }
}
