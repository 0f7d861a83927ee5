//! Shipments of the tail, and what becomes of them.

use super::{GAPS_MAX, Take};
use crate::error::ProtocolError;
use crate::protocol::config::Event;
use crate::store::{Admission, Store};
use base::Shipment;
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
            self.check_scope(first)?;
            let more = others.iter().take_while(|it| self.check_scope(it).is_ok()).count();
            let front = rest.get(..=more).unwrap_or(rest);
            let admitted = store.admit_all(front);
            let admitted = admitted.map_err(|error| ProtocolError::refused("shipment", error))?;
            for (bytes, admission) in front.iter().zip(&admitted) {
                self.admitted(now, store, bytes, admission)?;
            }
            rest = rest.get(admitted.len().max(1)..).unwrap_or_default();
        }
        self.group.refuse_if_reader_writes(store, self.peer)
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
            Admission::TooManyAuthors => {
                // It stays with who has it; what others wrote goes on.
                if self.group.refuse_author(self.peer) == 1 {
                    let what = "writes of an author that is one too many here are left out";
                    self.events.push(Event::Incident(what.to_owned()));
                }
                Ok(())
            }
            Admission::Closed => {
                self.rest(now);
                Ok(())
            }
        }
    }

    fn check_scope(&self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let author = Shipment::author(bytes);
        let (scope, _) = author.map_err(|found| ProtocolError::malformed("shipment", found))?;
        if scope != self.group.scope() {
            return Err(ProtocolError::WrongScope { found: scope.0 });
        }
        Ok(())
    }
}
