//! The life of this node: what others may have of it, and the next one if they have more.

use super::{Announcing, Group};
use crate::error::ProtocolError;
use crate::roster::Role;
use crate::store::Store;
use base::{Error, Origin, Result, Vector};

/// New incarnations because of what peers say they have, in one life of the process at the most: one that
/// lies could ask for more and more.
const RENEWALS_MAX: u32 = 3;

/// What follows from what a peer has of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// All of it was written here.
    Known,
    /// It has more than was written: this node lives anew, and its sessions begin again.
    Renewed,
}

impl Group {
    /// Compares what a peer has of this node with what was written. One that has more has what we
    /// lost: it comes back as the writes of a former life; unless something else was written since.
    pub fn check_own(&self, store: &dyn Store, has: &Vector) -> Result<Own, ProtocolError> {
        self.refuse_if_forked()?;
        let own = store.origin();
        // What is behind a barrier was shipped before it is visible here.
        if has.get(own) <= store.applied(self.scope()).get(own) {
            return self.check_past(store, has.get(own)).map(|()| Own::Known);
        }
        let last = store.written(self.scope()).get(own);
        let confirmed = has.get(own);
        if confirmed <= last {
            return self.check_past(store, confirmed).map(|()| Own::Known);
        }
        let is_lie = confirmed.ms() > store.wall_ms().saturating_add(store.max_drift_ms());
        if is_lie || !self.may_believe(own) {
            return Err(ProtocolError::ConfirmBeyond { origin: own, confirmed, last });
        }
        self.renew(store, own)?;
        Ok(Own::Renewed)
    }

    /// Whether a peer that says it has more of the life `ended` than was written is believed once more.
    fn may_believe(&self, ended: Origin) -> bool {
        let mut state = self.state.lock();
        if state.own != ended {
            return true; // Another session has believed it.
        }
        let may = state.renewals < RENEWALS_MAX;
        state.renewals += u32::from(may);
        may
    }

    /// Refuses what only those may do who may write.
    ///
    /// # Errors
    /// `InvalidInput`: a reader that writes would be shut out by its peers.
    pub fn refuse_unless_author(&self) -> Result<()> {
        if self.role() == Role::Author {
            return Ok(());
        }
        let what = "this node only reads, and can not change who is a member; ask one that writes";
        Err(Error::invalid(what))
    }

    /// Begins a new incarnation, because a peer has more of the life `ended` than is here, or that one
    /// must not go on. Returns the present one, which another session may have begun before.
    pub fn renew(&self, store: &dyn Store, ended: Origin) -> Result<Origin> {
        let mut state = self.state.lock();
        if state.own != ended {
            return Ok(state.own);
        }
        let origin = store.renew()?;
        state.own = origin;
        state.owed.begin_life(store.commits(self.config.scope));
        (state.has_met, state.is_overruled) = (false, false);
        state.announcing = Announcing::Due;
        state.refreshed_at = None;
        Ok(origin)
    }
}
