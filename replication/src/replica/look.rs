//! Looks after the group now and then: who is let in, who is dialed, what is read and written of it.

use super::{Dialing, Peer, Shared};
use crate::link::{Calls, Mesh};
use crate::roster::{Member, Role, Roster};
use base::{NodeId, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Shared {
    /// Lets in and dials who should be, and nobody else.
    pub(super) fn look(&self, mesh: &Mesh) -> Result<()> {
        self.group.tick(self.driving.now(), &*self.store)?;
        let roster = self.group.roster();
        self.look_at_keys(&roster)?;
        let book = self.book.lock().clone();
        let peers = book.all();
        let is_welcome = |node: NodeId| {
            let peer = peers.iter().find(|peer| peer.node == node);
            let is_known = peer.is_some() || roster.role(node).is_some();
            let is_off = peer.is_some_and(|peer| !peer.is_enabled) || book.has_forgotten(node);
            is_known && !is_off && roster.role(node) != Some(Role::Deprecated)
        };
        let members = roster.members().map(|(node, _)| node);
        let known: Vec<NodeId> = peers.iter().map(|peer| peer.node).chain(members).collect();
        let is_let_in = |node: &NodeId| *node != self.group.node() && is_welcome(*node);
        let welcome: BTreeSet<NodeId> = known.into_iter().filter(is_let_in).collect();
        let is_retired = |(_, member): &(NodeId, &Member)| member.role == Role::Deprecated;
        let retired = roster.members().filter(is_retired).map(|(node, _)| node);
        self.pins.set_retired(retired);
        self.pins.set_named(welcome.iter().copied());
        // Who has joined by a token is shut out like any other.
        let joined = self.pins.all().into_iter().filter(|(_, node)| !is_welcome(*node));
        joined.for_each(|(key, _)| self.pins.revoke(key));
        self.group.set_peers(&welcome);
        self.dial(mesh, &peers, &roster, &welcome);
        mesh.found(self.look_around(welcome));
        Ok(())
    }

    fn dial(&self, mesh: &Mesh, peers: &[Peer], roster: &Roster, welcome: &BTreeSet<NodeId>) {
        let is_active = self.options.dialing == Dialing::Active;
        let address = |node: NodeId| {
            let own = peers.iter().find(|peer| peer.node == node).and_then(|peer| peer.address);
            // What others know of it, if nobody has said it here.
            own.or_else(|| roster.member(node)?.addresses.iter().find_map(|text| text.parse().ok()))
        };
        // Who has no address may be found.
        let is_sought = |address: Option<SocketAddr>| address.is_some() || self.discovery.is_some();
        let wanted: BTreeMap<NodeId, Option<SocketAddr>> = welcome
            .iter()
            .map(|node| (*node, address(*node)))
            .filter(|(_, address)| is_active && is_sought(*address))
            .collect();
        let before = std::mem::replace(&mut *self.dialed.lock(), wanted.clone());
        for (node, address) in &wanted {
            if before.get(node) != Some(address) {
                mesh.seek(*node, *address);
            }
        }
        before.keys().filter(|node| !wanted.contains_key(node)).for_each(|node| mesh.forget(*node));
    }
}

/// Runs until it is aborted.
pub(super) async fn look_after(shared: Arc<Shared>, mesh: Arc<Mesh>) {
    loop {
        let looked = match shared.options.calls {
            Calls::Inline => shared.look(&mesh),
            Calls::Threads => {
                let (shared, mesh) = (shared.clone(), mesh.clone());
                let looked = tokio::task::spawn_blocking(move || shared.look(&mesh)).await;
                looked.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = looked {
            tracing::warn!(code = error.code(), %error, "the group of replicas could not be looked after");
            shared.journal.note_trouble(None, shared.store.wall_ms(), error.code(), &error);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
