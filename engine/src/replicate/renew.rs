//! Another life, begun while the database runs: when a peer has more of the present one than is here, or
//! when what is written here may be refused for what was written before.
//!
//! ```text
//! its number in the manifest ─ commits are held ─ all is flushed ─ IDENTITY ─ log and memtable go on
//! ```
//!
//! `IDENTITY` decides. A crash before it leaves a number that nobody uses; one behind it finds a log whose
//! commits are all in tables, and goes on in the new life.

use super::Replication;
use crate::jobs;
use base::{Error, Identity, NodeId, Origin, Result, ScopeId};

impl Replication {
    /// For a directory that was put back from a plain copy and written to, so that peers have of its life
    /// what it has forgotten: what is here is not all, durably, and another life begins.
    pub fn begin_anew(&self) -> Result<Origin> {
        self.set_incomplete(ScopeId::MAIN)?;
        self.renew()
    }

    /// For a plain copy of a directory that goes on elsewhere: durably, this one is another node from the
    /// next open on, which has to be the next thing that is done. What is here counts as what it has received.
    pub fn become_another_node(&self) -> Result<NodeId> {
        let parts = &*self.parts;
        parts.refuse_if_closed()?;
        parts.refuse_if_read_only()?;
        parts.admissions.pause(|| {
            parts.commits.check_writable()?;
            let present = recovery::read_identity(&*parts.fs)?;
            let random = |e| Error::io("draw random bytes for", parts.fs.root(), e);
            let fresh = recovery::generate_identity(&*parts.rng).map_err(random)?;
            let identity = Identity { database: present.database, ..fresh };
            let _held = parts.commits.hold();
            jobs::flush_all(parts)?;
            recovery::replace_identity(&*parts.fs, &identity)?;
            Ok(identity.node)
        })
    }

    /// Puts another secret in the place of the node's, durably: its key is another one from the next open
    /// on. Its name stays.
    pub fn replace_secret(&self, secret: [u8; 32]) -> Result<()> {
        let parts = &*self.parts;
        parts.refuse_if_closed()?;
        parts.refuse_if_read_only()?;
        parts.admissions.pause(|| {
            let present = recovery::read_identity(&*parts.fs)?;
            recovery::replace_identity(&*parts.fs, &Identity { secret, ..present })
        })
    }

    /// Begins another life, durably: later commits have another incarnation, and what was written so far
    /// counts as that of any other author. Commits wait meanwhile; the log starts anew for peers.
    pub fn renew(&self) -> Result<Origin> {
        let parts = &*self.parts;
        parts.refuse_if_closed()?;
        parts.refuse_if_read_only()?;
        parts.admissions.pause(|| {
            parts.commits.check_writable()?;
            let random = |e| Error::io("draw random bytes for", parts.fs.root(), e);
            // Not what was opened: the secret may have been exchanged.
            let present = recovery::read_identity(&*parts.fs)?;
            let identity: Identity = recovery::new_life(&present, &*parts.rng).map_err(random)?;
            parts.number_of(identity.origin())?;
            let _held = parts.commits.hold();
            jobs::flush_all(parts)?;
            recovery::replace_identity(&*parts.fs, &identity)?;
            let begin = || {
                parts.installer.with_state(|state| {
                    parts.origins.begin_life(identity.incarnation, state);
                });
            };
            parts.commits.begin_life(identity.origin(), begin)?;
            tracing::warn!(target: "esker::engine", life = %identity.incarnation, "another life has begun");
            Ok(identity.origin())
        })
    }
}
