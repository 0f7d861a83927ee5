//! A node without peers.
//!
//! It holds its address, so that no other program takes it, and answers nobody there: it knows no
//! peer whose key it could accept.

use super::{Invitation, Peer, PeerAddress, PeerChange, PeerError, Replicas, Totals, no_such_peer};
use crate::error::{Exit, Failure, Outcome};
use base::{Error, NodeId};
use std::net::{SocketAddr, UdpSocket};

/// No peers, and none can be added.
pub(crate) struct NoPeers {
    address: SocketAddr,
    _held: UdpSocket,
}

impl NoPeers {
    /// Takes the address `listen`.
    pub(crate) fn start(listen: SocketAddr) -> Outcome<NoPeers> {
        let name = || listen.to_string();
        let held = UdpSocket::bind(listen).map_err(|e| Error::io("listen at", name(), e))?;
        let address = held.local_addr().map_err(|e| Error::io("listen at", name(), e))?;
        Ok(NoPeers { address, _held: held })
    }
}

impl Replicas for NoPeers {
    fn listens_at(&self) -> SocketAddr {
        self.address
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn totals(&self) -> Totals {
        Totals::default()
    }

    fn errors(&self) -> Vec<PeerError> {
        Vec::new()
    }

    fn invite(&self) -> Outcome<Invitation> {
        Err(alone())
    }

    fn add(&self, _peer: &PeerAddress) -> Outcome<Peer> {
        Err(alone())
    }

    fn change(&self, _node: NodeId, _change: PeerChange) -> Outcome<Option<Peer>> {
        Err(no_such_peer())
    }

    fn shutdown(&self) {}
}

/// What asks for a peer is refused.
pub(super) fn alone() -> Failure {
    Failure::new(Exit::Input, "NoReplication", "this version runs nodes without peers only")
        .action("start it without --peer and --join")
}
