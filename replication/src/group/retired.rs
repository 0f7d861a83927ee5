//! That this node was retired: those that retired it refuse it, and that is how it hears of it.
//!
//! It remembers, so that it takes no writes that nobody would ever see, after a restart either; until
//! a member talks with it again.
//!
//! ```text
//! key        "retired", in the keyspace `esker.node`
//! size       field
//!    1       version   1
//!    1       retired   1 if it was, 0 if it is back
//! ```

use super::Group;
use crate::roster::Role;
use crate::store::{Store, keyspaces};
use base::{NodeId, Result, ScopeId};

const VERSION: u8 = 1;
const KEY: &[u8] = b"retired";

/// What is known of it, and what is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retired {
    pub(super) is_so: bool,
    is_kept: bool,
}

impl Retired {
    /// What `store` remembers.
    pub(super) fn read(store: &dyn Store) -> Result<Retired> {
        let kept = store.get(keyspaces::NODE, KEY)?;
        let is_so = kept.as_deref() == Some(&[VERSION, 1]);
        Ok(Retired { is_so, is_kept: is_so })
    }
}

impl Group {
    /// The node `by` refuses this one, because its group has retired it.
    pub(crate) fn note_retired(&self, by: NodeId) {
        let mut state = self.state.lock();
        let role = state.roster.role(by);
        // Who is out itself, or was never in, does not know.
        if matches!(role, Some(Role::Author | Role::Observer)) {
            state.retired.is_so = true;
            state.owed.want_kept();
        }
    }

    /// Writes what has changed.
    pub(super) fn keep_retirement(&self, store: &dyn Store) -> Result<()> {
        let retired = self.state.lock().retired;
        if retired.is_so != retired.is_kept {
            let value = [VERSION, u8::from(retired.is_so)];
            store.put(ScopeId::LOCAL, keyspaces::NODE, KEY, &value)?;
            self.state.lock().retired.is_kept = retired.is_so;
        }
        Ok(())
    }
}
