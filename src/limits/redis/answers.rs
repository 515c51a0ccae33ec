//! What the scripts answer.

use crate::limits::store::{Observed, StoreError};
use crate::limits::{Charge, Refusal};

/// What the reserve script answered.
pub(super) enum Answer {
    Settled,
    Refused(Box<Refusal>),
    /// It was reserved before.
    Again {
        room: u64,
        has_other: bool,
    },
    Admitted {
        room: u64,
        shadowed: Vec<Refusal>,
    },
}

/// What the settle and release scripts answered.
pub(super) enum Ended {
    Counted(bool),
    EveryoneFirst,
}

impl Answer {
    pub(super) fn read(answer: &[String], charges: &[&Charge], least_room: u64) -> Option<Self> {
        let refusal = |index: &str, used: &str, held: &str, is_shadow: bool| {
            let charge = *charges.get(index.parse::<usize>().ok()?.checked_sub(1)?)?;
            let bar = if is_shadow { charge.shadow.clone()? } else { charge.enforce.clone()? };
            let needs = charge.amount(least_room);
            Some(Refusal { bucket: charge.bucket.clone(), bar, used: used.parse().ok()?, held: held.parse().ok()?, needs })
        };
        let (word, rest) = answer.split_first()?;
        match (word.as_str(), rest) {
            ("settled", []) => Some(Self::Settled),
            ("again", [room, has_other]) => Some(Self::Again { room: room.parse().ok()?, has_other: has_other == "1" }),
            ("refused", [index, used, held]) => Some(Self::Refused(Box::new(refusal(index, used, held, false)?))),
            ("admitted", [room, shadows @ ..]) => {
                let (shadows, odd) = shadows.as_chunks::<3>();
                let shadowed = shadows.iter().map(|[index, used, held]| refusal(index, used, held, true)).collect::<Option<_>>()?;
                odd.is_empty().then_some(Self::Admitted { room: room.parse().ok()?, shadowed })
            }
            _ => None,
        }
    }
}

/// What the observe script answered of so many buckets. Whoever meddles with a counter may leave it below zero.
pub(super) fn observed(answer: &[String], buckets: usize) -> Option<Observed> {
    let ([cut, settled, open], used) = answer.split_first_chunk()?;
    let amount =
        |text: &String| if text.is_empty() { Some(None) } else { text.parse::<i64>().ok().map(|used| Some(used.max(0).unsigned_abs())) };
    Some(Observed {
        cut: cut.parse().ok()?,
        settled: settled.parse().ok()?,
        open: open.parse().ok()?,
        used: used.iter().map(amount).collect::<Option<Vec<_>>>().filter(|used| used.len() == buckets)?,
    })
}

pub(super) fn misread(script: &str) -> StoreError {
    StoreError::Unavailable(format!("the answer of the {script} script makes no sense").into())
}
