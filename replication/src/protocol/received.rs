//! Frames of tail and bulk as they come: shipments that came at once are admitted together, and what a frame
//! holds whole is taken from where it is.

use super::frame::{Channel, Extent, Frame, Kind};
use super::session::Session;
use crate::error::ProtocolError;
use crate::store::Store;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of shipments from which on no more are collected: what was packed is unpacked here.
const COLLECTED_MAX: usize = 4 << 20;

/// Shipments in the order in which they came.
#[derive(Default)]
struct Collected<'f> {
    shipments: Vec<Cow<'f, [u8]>>,
    bytes: usize,
}

impl<'f> Collected<'f> {
    fn push(&mut self, shipment: Cow<'f, [u8]>) {
        self.bytes += shipment.len();
        self.shipments.push(shipment);
    }
}

impl Session {
    /// Takes frames of the tail.
    pub(super) fn receive_of_tail<'f>(
        &mut self,
        now: Duration,
        frames: impl Iterator<Item = &'f [u8]>,
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        let mut collected = Collected::default();
        for frame in frames {
            let opened = match self.open(now, Channel::Tail, frame) {
                Ok(_) if !self.handshake.is_up() => self.refuse_before_hello().map(|()| None),
                Ok(frame) => self.shipment_of(now, frame, store, &mut collected),
                Err(error) => Err(error),
            };
            match opened {
                Ok(Some(shipment)) => collected.push(shipment),
                Ok(None) => {}
                Err(error) => {
                    // What came before it is as good as if it had come alone.
                    self.settle(now, store, &mut collected)?;
                    return Err(error);
                }
            }
            if collected.bytes >= COLLECTED_MAX {
                self.settle(now, store, &mut collected)?;
            }
        }
        self.settle(now, store, &mut collected)
    }

    /// The shipment that a frame holds, or completes.
    fn shipment_of<'f>(
        &mut self,
        now: Duration,
        frame: Frame<'f>,
        store: &dyn Store,
        collected: &mut Collected<'_>,
    ) -> Result<Option<Cow<'f, [u8]>>, ProtocolError> {
        if frame.kind == Kind::TailStart && frame.extent == Extent::Whole {
            // What came before it answers another subscription.
            self.settle(now, store, collected)?;
            return self.take.tail_start(&frame.payload).map(|()| None);
        }
        if frame.extent == Extent::Whole && self.assembled_tail.is_empty() {
            return Ok(Some(frame.payload));
        }
        match self.assembled_tail.take(frame, store)? {
            Some((Kind::Shipment, payload)) => {
                // Of such at most one is in memory: it goes by itself.
                self.settle(now, store, collected)?;
                let group = Arc::clone(&self.group);
                let shipment = payload.open(&group)?;
                self.take.shipments(now, store, &[&*shipment]).map(|()| None)
            }
            Some(_) => Err(ProtocolError::Unexpected { what: "start of a tail in pieces" }),
            None => Ok(None),
        }
    }

    /// Takes a frame of the bulk channel.
    pub(super) fn receive_of_bulk(
        &mut self,
        now: Duration,
        frame: Frame<'_>,
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        if frame.extent == Extent::Whole && self.assembled_bulk.is_empty() {
            self.take.bulk(now, store, frame.kind, &frame.payload)?;
        } else if let Some((kind, payload)) = self.assembled_bulk.take(frame, store)? {
            let group = Arc::clone(&self.group);
            self.take.bulk(now, store, kind, &payload.open(&group)?)?;
        }
        self.leave_if_renewed();
        Ok(())
    }

    fn settle(
        &mut self,
        now: Duration,
        store: &dyn Store,
        collected: &mut Collected<'_>,
    ) -> Result<(), ProtocolError> {
        let Collected { shipments, .. } = std::mem::take(collected);
        let shipments: Vec<&[u8]> = shipments.iter().map(|shipment| &**shipment).collect();
        self.take.shipments(now, store, &shipments)
    }
}
