//! Keeps one link to each peer.
//!
//! Both nodes of a pair may dial. If both get through, the connection that the node of the lower
//! name has dialed survives, so both keep the same one. If one side dials twice, or long after there
//! was a link, it has forgotten that one, so the newer survives. A conversation begins when the one before it with
//! the same peer has ended.

use super::bans::Bans;
use super::bell::Bell;
use super::breaker::{BreakerSettings, BreakerState};
use super::conversation::Conversations;
use super::dialer::{self, Breakers, DialCounts};
use super::driver::{Control, Driving, drive, establish};
use super::endpoint::{Arrival, Dialed, Endpoint, Guest, Link};
use super::error::{LinkError, Side};
use super::found::Found;
use super::join::Desk;
use super::settings::FIRST_STEP;
use base::lock::{Mutex, Rank};
use base::{NodeId, Rng};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// What a mesh is made of.
pub struct MeshParts {
    /// The socket.
    pub endpoint: Arc<Endpoint>,
    /// This node.
    pub node: NodeId,
    /// Where unknown nodes ask to be let in.
    pub desk: Arc<Desk>,
    /// Who talks to peers.
    pub conversations: Arc<dyn Conversations>,
    /// How conversations are driven.
    pub driving: Driving,
    /// When peers that fail are left alone.
    pub breaker: BreakerSettings,
    /// Spreads the attempts of many nodes.
    pub rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for MeshParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshParts").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A peer as the mesh sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLink {
    /// The peer.
    pub peer: NodeId,
    /// Where it is and who dialed, if there is a link.
    pub link: Option<(SocketAddr, Dialed)>,
    /// Whether it is left alone. Closed for peers that are not dialed.
    pub breaker: BreakerState,
    /// What the link has carried.
    pub traffic: Traffic,
}

/// Bytes of UDP that a link has carried, resent ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the peer.
    pub sent: u64,
    /// From the peer.
    pub received: u64,
}

/// The links of a node.
pub struct Mesh {
    shared: Arc<Shared>,
    listening: AbortHandle,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("peers", &self.peers()).finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    pub(crate) parts: MeshParts,
    pub(crate) breakers: Breakers,
    bans: Bans,
    slots: Mutex<Slots>,
    /// Where peers may be besides.
    pub(crate) found: Found,
    /// Rung when a link comes or goes.
    pub(crate) changed: Bell,
}

#[derive(Default)]
struct Slots {
    peers: BTreeMap<NodeId, Slot>,
    dialers: BTreeMap<NodeId, AbortHandle>,
    taken: u64,
}

impl Slots {
    /// Whether a link to `peer` is being looked for.
    fn is_dialed(&self, peer: NodeId) -> bool {
        let is_linked = self.peers.get(&peer).is_some_and(|slot| slot.link.is_some());
        !is_linked && self.dialers.get(&peer).is_some_and(|dialer| !dialer.is_finished())
    }
}

/// The link to one peer.
#[derive(Default)]
struct Slot {
    /// The link that survived, and which taking it was.
    link: Option<(u64, Link)>,
    /// When that was.
    taken_at: Duration,
    /// Held while a conversation runs.
    floor: Arc<tokio::sync::Mutex<()>>,
}

impl Mesh {
    /// Begins to listen. Called inside a tokio runtime.
    pub fn start(parts: MeshParts) -> Mesh {
        let shared = Arc::new(Shared {
            breakers: Breakers::new(parts.breaker),
            bans: Bans::new(parts.endpoint.settings().ban),
            parts,
            slots: Mutex::new(Rank::Links, Slots::default()),
            found: Found::default(),
            changed: Bell::default(),
        });
        let listening = tokio::spawn(listen(shared.clone())).abort_handle();
        Mesh { shared, listening }
    }

    /// Keeps a link to `peer` at `address` from now on, or where it is found. Forgets that it was banned.
    pub fn keep(&self, peer: NodeId, address: SocketAddr) {
        self.seek(peer, Some(address));
    }

    /// The same of a peer that may have no address but those where it is found.
    pub fn seek(&self, peer: NodeId, address: Option<SocketAddr>) {
        self.shared.breakers.reset(peer);
        self.pardon(peer);
        let task = tokio::spawn(dialer::keep(self.shared.clone(), peer, address)).abort_handle();
        let before = self.shared.slots.lock().dialers.insert(peer, task);
        before.iter().for_each(AbortHandle::abort);
    }

    /// Dials `peer` no more, and closes the link to it.
    pub fn forget(&self, peer: NodeId) {
        let mut slots = self.shared.slots.lock();
        let dialer = slots.dialers.remove(&peer);
        let link = slots.peers.get_mut(&peer).and_then(|slot| slot.link.take());
        drop(slots);
        dialer.iter().for_each(AbortHandle::abort);
        self.shared.breakers.forget(peer);
        link.iter().for_each(|(_, link)| link.close(&closing()));
    }

    /// Dials `peer` now, if it is dialed at all and has no link: not after the pause or when the
    /// breaker allows. Whoever is left alone for what it did stays so.
    pub fn hurry(&self, peer: NodeId, address: Option<SocketAddr>) {
        if !self.shared.slots.lock().is_dialed(peer) {
            return;
        }
        self.shared.breakers.reset(peer);
        let mut slots = self.shared.slots.lock();
        if slots.is_dialed(peer) {
            let task = tokio::spawn(dialer::keep(self.shared.clone(), peer, address));
            let before = slots.dialers.insert(peer, task.abort_handle());
            before.iter().for_each(AbortHandle::abort);
        }
    }

    /// Leaves peers alone as `settings` say from now on.
    pub fn configure_breakers(&self, settings: BreakerSettings) {
        self.shared.breakers.configure(settings);
    }

    /// Whether each peer that was dialed is left alone, and how attempts to reach it have ended.
    pub fn breakers(&self) -> BTreeMap<NodeId, (BreakerState, DialCounts)> {
        self.shared.breakers.all(self.shared.parts.driving.now())
    }

    /// Does not leave `peer` alone any more, as if nothing had failed. Returns false if it was never dialed.
    pub fn reset_breaker(&self, peer: NodeId) -> bool {
        self.shared.breakers.reset(peer)
    }

    /// Where peers may be besides the addresses that they are kept at: hints, instead of those before.
    pub fn found(&self, all: BTreeMap<NodeId, Vec<SocketAddr>>) {
        self.shared.found.set(all);
    }

    /// Lets a peer that was banned connect again.
    pub fn pardon(&self, peer: NodeId) {
        self.shared.bans.pardon(peer);
    }

    /// Every peer that has a link or is dialed.
    pub fn peers(&self) -> Vec<PeerLink> {
        let now = self.shared.parts.driving.now();
        let slots = self.shared.slots.lock();
        let mut peers: BTreeMap<NodeId, Option<Link>> =
            slots.dialers.keys().map(|peer| (*peer, None)).collect();
        let up = |slot: &Slot| slot.link.as_ref().map(|(_, link)| link.clone());
        let linked = slots.peers.iter().filter_map(|(peer, slot)| Some((*peer, Some(up(slot)?))));
        peers.extend(linked);
        drop(slots);
        let describe = |(peer, link): (NodeId, Option<Link>)| {
            let breaker = self.shared.breakers.state(peer, now);
            let traffic = link.as_ref().map(Link::traffic).unwrap_or_default();
            let link = link.map(|link| (link.address(), link.dialed()));
            PeerLink { peer, link, breaker, traffic }
        };
        peers.into_iter().map(describe).collect()
    }

    /// Rung when a link comes or goes.
    pub fn changed(&self) -> &Bell {
        &self.shared.changed
    }

    /// Closes all links and the endpoint, waits until the peers know or could have known, and until
    /// all conversations have ended.
    pub async fn shutdown(&self) {
        let floors = self.stop();
        self.shared.parts.endpoint.close().await;
        for floor in floors {
            drop(floor.lock().await);
        }
    }

    /// Closes everything. Conversations end by that, but not at once.
    fn stop(&self) -> Vec<Arc<tokio::sync::Mutex<()>>> {
        self.listening.abort();
        let slots = std::mem::take(&mut *self.shared.slots.lock());
        slots.dialers.values().for_each(AbortHandle::abort);
        let links = slots.peers.values().filter_map(|slot| slot.link.as_ref());
        links.for_each(|(_, link)| link.close(&closing()));
        slots.peers.into_values().map(|slot| slot.floor).collect()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop();
    }
}

fn closing() -> LinkError {
    LinkError::Closed { by: Side::Us }
}

/// Takes whoever comes.
async fn listen(shared: Arc<Shared>) {
    while let Some(arrival) = shared.parts.endpoint.arrival().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            match arrival {
                Arrival::Peer(link) => match shared.let_in(link).await {
                    Ok(raised) => drop(shared.converse(raised).await),
                    Err(error) => {
                        tracing::debug!(code = error.code(), %error, "a link that a peer dialed is not used")
                    }
                },
                Arrival::Guest(guest) => shared.hear(guest).await,
            }
        });
    }
}

/// A link that is up and the one of its peer.
pub(crate) struct Raised {
    link: Link,
    control: Control,
    number: u64,
}

impl Shared {
    /// A link that a peer has dialed.
    async fn let_in(&self, link: Link) -> Result<Raised, LinkError> {
        let (peer, now) = (link.peer(), self.parts.driving.now());
        if self.bans.remaining(peer, now).is_some() {
            let error = LinkError::Banned { by: Side::Us };
            link.close(&error);
            return Err(error);
        }
        let raised = self.raise(link).await;
        raised.inspect_err(|error| self.bans.note(peer, error, now))
    }

    /// Makes a link that of its peer, or closes it.
    pub(crate) async fn raise(&self, link: Link) -> Result<Raised, LinkError> {
        let settled = match establish(&link, self.parts.endpoint.settings()).await {
            Ok(control) => self.settle(&link).map(|number| (control, number)),
            Err(error) => Err(error),
        };
        match settled {
            Ok((control, number)) => Ok(Raised { link, control, number }),
            Err(error) => {
                link.close(&error);
                Err(error)
            }
        }
    }

    /// Talks until the link ends.
    pub(crate) async fn converse(&self, raised: Raised) -> LinkError {
        let Raised { link, control, number } = raised;
        let (peer, parts) = (link.peer(), &self.parts);
        let floor = self.slots.lock().peers.entry(peer).or_default().floor.clone();
        let _floor = floor.lock().await;
        let error = match parts.conversations.begin(peer, parts.driving.now()) {
            Ok(conversation) => {
                let settings = parts.endpoint.settings();
                drive(link, control, conversation, settings, &parts.driving).await
            }
            Err(parting) => {
                let error = LinkError::from(parting);
                link.close(&error);
                error
            }
        };
        parts.conversations.ended(peer, &error);
        self.bans.note(peer, &error, parts.driving.now());
        self.vacate(peer, number);
        tracing::info!(%peer, code = error.code(), %error, "a link has ended");
        error
    }

    async fn hear(&self, guest: Guest) {
        let (now, settings) = (self.parts.driving.now(), self.parts.endpoint.settings());
        match self.parts.desk.hear(guest, now, settings).await {
            Ok((key, node)) => tracing::info!(%key, %node, "a node has joined"),
            Err(error) => tracing::warn!(code = error.code(), %error, "a node could not join"),
        }
    }

    /// Takes the place of the link that `peer` has, if this one is to survive.
    fn settle(&self, link: &Link) -> Result<u64, LinkError> {
        let (peer, now) = (link.peer(), self.parts.driving.now());
        // Who has a link does not dial. So who comes later than two that dialed at once can come has
        // forgotten the link: it was started again.
        // A peer may be more patient than this node was told to be.
        let at_once_max = self.parts.endpoint.settings().handshake.get().max(FIRST_STEP);
        let mut slots = self.slots.lock();
        slots.taken += 1;
        let number = slots.taken;
        let slot = slots.peers.entry(peer).or_default();
        if let Some((_, other)) = &slot.link
            && other.is_open()
            && (link.dialed() == Dialed::ByUs || now < slot.taken_at + at_once_max)
            && !survives(self.parts.node, peer, link.dialed(), other.dialed())
        {
            return Err(LinkError::Superseded);
        }
        slot.taken_at = now;
        let before = slot.link.replace((number, link.clone()));
        drop(slots);
        before.iter().for_each(|(_, link)| link.close(&LinkError::Superseded));
        self.changed.ring();
        Ok(number)
    }

    fn vacate(&self, peer: NodeId, number: u64) {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.peers.get_mut(&peer)
            && slot.link.as_ref().is_some_and(|(taken, _)| *taken == number)
        {
            slot.link = None;
        }
        drop(slots);
        self.changed.ring();
    }

    /// Waits until `peer` has no link.
    pub(crate) async fn vacant(&self, peer: NodeId) {
        let mut changed = self.changed.listen();
        while !self.is_vacant(peer) {
            changed.rung().await;
        }
    }

    /// Whether `peer` has no link.
    pub(crate) fn is_vacant(&self, peer: NodeId) -> bool {
        self.slots.lock().peers.get(&peer).is_none_or(|slot| slot.link.is_none())
    }
}

/// Whether a new link takes the place of an open one.
fn survives(us: NodeId, peer: NodeId, new: Dialed, open: Dialed) -> bool {
    let dialer_of = |dialed| if dialed == Dialed::ByUs { us } else { peer };
    new == open || dialer_of(new) < dialer_of(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both nodes decide alone, and keep the same connection.
    #[test]
    fn both_sides_of_a_pair_keep_the_same_link() {
        let (low, high) = (NodeId([1; 16]), NodeId([2; 16]));
        for (first, second) in [(low, high), (high, low)] {
            let seen = |us, dialer| if us == dialer { Dialed::ByUs } else { Dialed::ByPeer };
            let kept = |us, peer| {
                let takes = survives(us, peer, seen(us, second), seen(us, first));
                if takes { second } else { first }
            };
            assert_eq!((kept(low, high), kept(high, low)), (low, low));
        }
        for dialed in [Dialed::ByUs, Dialed::ByPeer] {
            assert!(survives(low, high, dialed, dialed), "the peer has begun anew");
        }
    }
}
