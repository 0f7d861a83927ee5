//! Readers that know that they are readers: what they have written by then is all that they may write.
//!
//! An author that was made a reader may have written on before it heard of that, and those writes are
//! as good as any. It says what it has written once its own vector covers the record that made it a
//! reader. What it says later may reach further: an operator has made it a writer again, there or here,
//! and that record may be on its way. Once all that it says it has is here, and it still only reads, it
//! has written as one that may not. What came until then is taken: others may have taken it too, and
//! without it they would never be equal.
//!
//! Nothing of this is kept: who was not there when a reader said so goes by what it says next.

use super::{Group, State};
use crate::error::ProtocolError;
use crate::roster::Role;
use crate::store::Store;
use base::{NodeId, Origin, Stamp, Tick, Vector};

/// Where the writes of a reader end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    /// The record that made it a reader.
    since: Stamp,
    /// The life in which it has that record.
    origin: Origin,
    /// Its last write.
    last: Tick,
}

impl State {
    /// Notes that `origin` has said that it has `durable`.
    pub(super) fn note_silent(&mut self, origin: Origin, durable: &Vector) {
        let since = self.roster.since(origin.node);
        if self.roster.role(origin.node) != Some(Role::Observer) || !durable.covers_stamp(since) {
            return;
        }
        let known = self.silent.get(&origin.node);
        if known.is_none_or(|known| known.since != since || known.origin != origin) {
            let last = durable.get(origin);
            self.silent.insert(origin.node, Silent { since, origin, last });
        }
    }

    /// Notes the same of what was said before the record was here, and forgets who writes again.
    pub(super) fn note_all_silent(&mut self) {
        let reads = |node: &NodeId| self.roster.role(*node) == Some(Role::Observer);
        self.silent.retain(|node, _| reads(node));
        let members = self.roster.members().map(|(node, _)| node).filter(reads);
        for node in members.collect::<Vec<_>>() {
            if let Some((origin, said)) = self.statements.newest(node) {
                let said = said.clone();
                self.note_silent(origin, &said);
            }
        }
    }

    /// Whether `node` has written though it only reads, and knows it. All that it says it has must be
    /// in `own`: so is, if there is one, the record that makes it a writer again.
    fn writes_as_reader(&self, node: NodeId, own: &Vector) -> bool {
        let (Some(silent), Some((origin, said))) =
            (self.silent.get(&node), self.statements.newest(node))
        else {
            return false;
        };
        let reads_since = self.roster.role(node) == Some(Role::Observer)
            && self.roster.since(node) == silent.since;
        let is_beyond = origin == silent.origin && said.get(origin) > silent.last;
        reads_since && is_beyond && own.covers_all(said)
    }
}

impl Group {
    /// Refuses a reader that writes.
    pub(crate) fn refuse_if_reader_writes(
        &self,
        store: &dyn Store,
        node: NodeId,
    ) -> Result<(), ProtocolError> {
        let own = store.applied(self.config.scope);
        let writes_as_reader = || self.state.lock().writes_as_reader(node, &own);
        if !writes_as_reader() {
            return Ok(());
        }
        // The record that makes it a writer may just have come.
        self.read_roster(store)?;
        if writes_as_reader() { Err(ProtocolError::ReaderWrites { node }) } else { Ok(()) }
    }
}
