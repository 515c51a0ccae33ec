//! Bears witness to the audit log while it is written: checkpoints of what is in the database, on a timer and at the end;
//! and lets go of keys that were destroyed meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::audit_keys::AuditKeys;
use super::checkpoint::Checkpoints;
use super::journal::OpenError;
use super::member_keys::MemberKeys;
use super::recorder::Ledger;
use super::seal::KeyRing;
use crate::clock::SharedClock;

/// How often.
const EVERY: Duration = Duration::from_mins(1);

/// What audit rows are sealed, linked and witnessed with.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The keys of the log.
    pub keys: AuditKeys,
    /// Where the keys of members are kept.
    pub members: Arc<dyn MemberKeys>,
    /// Where checkpoints go.
    pub checkpoint_file: PathBuf,
    /// Says when they are written.
    pub clock: SharedClock,
}

/// Writes checkpoints.
#[derive(Debug)]
pub(super) struct Attestant {
    checkpoints: Arc<Mutex<Checkpoints>>,
    members: Arc<dyn MemberKeys>,
    ring: Arc<KeyRing>,
    clock: SharedClock,
    ledger: Arc<Ledger>,
}

impl Attestant {
    /// The one for the chains of `writer`.
    pub(super) fn open(proof: Proof, writer: Uuid, ring: Arc<KeyRing>, ledger: Arc<Ledger>) -> Result<Self, OpenError> {
        let Proof { keys, members, checkpoint_file: file, clock } = proof;
        let checkpoints = Checkpoints::open(&file, writer, keys.signer).map_err(|reason| OpenError::Checkpoints { file, reason })?;
        Ok(Self { checkpoints: Arc::new(Mutex::new(checkpoints)), members, ring, clock, ledger })
    }

    /// Goes on until it is stopped.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.attest().await;
            if let Err(error) = self.ring.forget_destroyed(&*self.members).await {
                tracing::warn!(error = %error, "it is not known yet which keys of members were destroyed");
            }
        }
    }

    /// Writes how far the database has the chains, where they have moved.
    pub(super) async fn attest(&self) {
        let heads = self.ledger.heads.lock().clone();
        let (checkpoints, now) = (self.checkpoints.clone(), self.clock.now());
        let written = tokio::task::spawn_blocking(move || checkpoints.lock().write(&heads, now)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "a checkpoint of the audit log cannot be written, and is tried again"),
            Err(error) => tracing::error!(error = %error, "writing a checkpoint of the audit log was broken off"),
        }
    }
}
