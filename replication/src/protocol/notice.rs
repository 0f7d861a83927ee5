//! A record of the roster as a hello tells of it: so a node that was shut out, or must rejoin, learns
//! it before anything that it says counts.

use crate::error::ProtocolError;
use crate::roster::{self, Role};
use base::{Corruption, Incarnation, NodeId, Origin, Stamp, Tick};
use rkyv::{Archive, Deserialize, Serialize};

/// A record of the roster, in short; all zeros if there is none.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Its role: see [`crate::roster::Role`]; 0 = there is no record.
    pub role: u8,
    /// Whether an operator decided it: 1, else 0.
    pub decided: u8,
    /// The incarnation that must rejoin; 0 = none.
    pub fenced: u64,
    /// When it was written: the tick, 0 if it was only configured ..
    pub tick: u64,
    /// .. and by whom.
    pub node: [u8; 16],
    /// In which incarnation.
    pub incarnation: u64,
}

impl Notice {
    /// What is said of `notice`.
    pub fn of(notice: Option<roster::Notice>) -> Notice {
        let Some(roster::Notice { is_decided, since, role, fenced }) = notice else {
            return Notice::default();
        };
        Notice {
            role: role as u8,
            decided: u8::from(is_decided),
            fenced: fenced.map_or(0, |life| life.0),
            tick: since.tick.raw(),
            node: since.origin.node.0,
            incarnation: since.origin.incarnation.0,
        }
    }

    /// What it says.
    pub fn read(&self) -> Result<Option<roster::Notice>, ProtocolError> {
        let (node, incarnation) = (NodeId(self.node), Incarnation(self.incarnation));
        let tick = Tick::from_raw(self.tick)
            .ok_or(ProtocolError::malformed("message", Corruption::OutOfRange))?;
        if self.decided > 1 || self.role > 3 {
            return Err(ProtocolError::malformed("message", Corruption::OutOfRange));
        }
        Ok(Role::from_raw(self.role).map(|role| roster::Notice {
            is_decided: self.decided == 1,
            since: Stamp { tick, origin: Origin { node, incarnation } },
            role,
            fenced: Some(Incarnation(self.fenced)).filter(|life| life.0 != 0),
        }))
    }
}
