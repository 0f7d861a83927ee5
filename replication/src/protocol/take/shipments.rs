//! Shipments of the tail: who may have written them, and what becomes of them.

use super::{GAPS_MAX, Take};
use crate::error::ProtocolError;
use crate::protocol::config::Event;
use crate::roster::{Member, Role};
use crate::store::{Admission, Store, keyspaces};
use base::{OpKind, Shipment, Tick};
use std::time::Duration;

impl Take {
    /// Shipments came, in this order. They are admitted together as far as the store likes that.
    pub(crate) fn shipments(
        &mut self,
        now: Duration,
        store: &dyn Store,
        shipments: &[&[u8]],
    ) -> Result<(), ProtocolError> {
        let mut rest = shipments;
        while let Some((first, others)) = rest.split_first() {
            if self.round == 0 {
                return Err(ProtocolError::Unexpected { what: "shipment" });
            }
            if !self.is_live() {
                // They answer a subscription of before; what is in them will come again.
                return Ok(());
            }
            self.check_author(store, first)?;
            // What others may write can depend on the first.
            let more = others.iter().take_while(|it| self.check_author(store, it).is_ok()).count();
            let front = rest.get(..=more).unwrap_or(rest);
            let admitted = store.admit_all(front);
            let admitted = admitted.map_err(|error| ProtocolError::refused("shipment", error))?;
            for (bytes, admission) in front.iter().zip(&admitted) {
                self.admitted(now, store, bytes, admission)?;
            }
            rest = rest.get(admitted.len().max(1)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Notes what became of a shipment.
    fn admitted(
        &mut self,
        now: Duration,
        store: &dyn Store,
        bytes: &[u8],
        admission: &Admission,
    ) -> Result<(), ProtocolError> {
        match *admission {
            Admission::Taken { late, .. } => {
                self.gaps = 0;
                self.unconfirmed += bytes.len() as u64;
                self.unpark();
                if late > 0 {
                    self.events.push(Event::LateWrites(late));
                }
                Ok(())
            }
            Admission::Unanswered { late } => self.need_answer(now, store, late),
            Admission::Known => {
                self.gaps = 0;
                self.unconfirmed += bytes.len() as u64;
                Ok(())
            }
            Admission::Gap { have } => {
                self.gaps += 1;
                if self.gaps > GAPS_MAX {
                    return Err(ProtocolError::Gap { origin_have: have });
                }
                self.choose(now, store)
            }
            Admission::Fork { origin, at } => {
                let fork = ProtocolError::Fork { origin, at };
                self.events.push(Event::Incident(fork.to_string()));
                Err(fork)
            }
            Admission::ClockAhead { by_ms } => {
                self.park(now, by_ms);
                Ok(())
            }
            Admission::Closed => {
                self.rest(now);
                Ok(())
            }
        }
    }

    /// A node that may only read does not begin to write. What it wrote before it became a reader
    /// may still be under way.
    fn check_author(&self, store: &dyn Store, bytes: &[u8]) -> Result<(), ProtocolError> {
        let malformed = |found| ProtocolError::malformed("shipment", found);
        let (scope, origin) = Shipment::author(bytes).map_err(malformed)?;
        if scope != self.group.scope() {
            return Err(ProtocolError::WrongScope { found: scope.0 });
        }
        let reads_only = origin.node == self.peer
            && self.group.role_of(self.peer) == Some(Role::Observer)
            && store.applied(scope).get(origin) == Tick::ZERO;
        if !reads_only {
            return Ok(());
        }
        let shipment = Shipment::decode(bytes).map_err(malformed)?;
        let first = shipment.commits.first().map_or(Tick::MAX, |commit| commit.tick);
        let is_of_before = first <= self.group.roster().since(origin.node).tick;
        if is_of_before || is_promotion(&shipment) {
            return Ok(());
        }
        Err(ProtocolError::ReaderWrites { node: origin.node })
    }
}

/// Whether a node begins to write by the record that makes it an author: an operator promoted it,
/// maybe because all who could have written that record are gone.
fn is_promotion(shipment: &Shipment<'_>) -> bool {
    let roster = shipment.keyspaces.iter().find(|(_, name)| *name == keyspaces::ROSTER);
    let (Some((roster, _)), Some(commit)) = (roster, shipment.commits.first()) else {
        return false;
    };
    let key = Member::key(shipment.origin.node);
    commit.ops.clone().any(|op| match op.kind {
        OpKind::Put(value) if op.keyspace == *roster && op.key == key => {
            Member::decode(value).is_ok_and(|member| member.role == Role::Author)
        }
        _ => false,
    })
}
