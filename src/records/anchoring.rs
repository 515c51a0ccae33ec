//! What retention does before it removes audit rows: an anchor for each chain that it cuts.

use jiff::Timestamp;

use super::chains::{AuditChains, ChainId};
use super::checkpoint::anchor;
use super::signing::Signer;
use super::{ReadError, WriteError};

/// Why chains were not anchored. Rows must not be removed then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AnchorError {
    /// The chains cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// An anchor cannot be written.
    #[error("the records database took no anchor: {0}")]
    Write(#[from] WriteError),
}

/// Writes an anchor for every chain that has rows before `cutoff`, but those of orgs that are `held`; how many. Retention
/// may then remove rows before `cutoff` of the orgs that are not held, and of nobody else.
pub async fn anchor_before(
    chains: &dyn AuditChains,
    signer: &Signer,
    cutoff: Timestamp,
    held: impl Fn(&str) -> bool + Send,
    now: Timestamp,
) -> Result<u64, AnchorError> {
    let mut written = 0;
    let mut last: Option<ChainId> = None;
    while let Some(chain) = chains.next_chain(last.as_ref()).await? {
        last = Some(chain.clone());
        if held(&chain.org) {
            continue;
        }
        let Some(cut_at) = chains.last_before(&chain, cutoff).await? else { continue };
        let public = signer.public();
        let is_further = |anchored: &super::checkpoint::Anchor| anchored.is_signed_with(&public) && anchored.head.seq >= cut_at.seq;
        if chains.anchors(&chain).await?.iter().any(is_further) {
            continue;
        }
        chains.insert_anchor(&anchor(signer, chain, cut_at, now)).await?;
        written += 1;
    }
    Ok(written)
}
