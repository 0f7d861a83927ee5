//! What must hold at every moment.

use crate::story::machine::Machine;
use crate::story::world::{Found, NODES, Node, World};
use base::{Incarnation, NodeId, ScopeId, Tick, Vector};
use replication::replica::{Replica, Trouble};
use replication::roster::Role;
use std::collections::BTreeSet;

/// Bytes that may be held of payloads which are not whole yet, of each channel that has such.
const HELD_MAX: u64 = 2 << 20;
/// Bytes of a shipment besides those of its writes, at the most.
const BESIDES_MAX: u64 = 4 << 10;

/// How far a node has come in this life of its disk.
#[derive(Debug, Default)]
pub(crate) struct Heights {
    vector: Vector,
    floor: Vector,
    dropped: Tick,
    incarnations: BTreeSet<Incarnation>,
    current: Incarnation,
}

impl Heights {
    /// What was not durable is gone.
    pub(crate) fn fall_to(&mut self, vector: &Vector) {
        self.vector = vector.clone();
        self.dropped = Tick::ZERO;
    }

    /// The disk is another one.
    pub(crate) fn begin_anew(&mut self) {
        (self.vector, self.floor) = (Vector::default(), Vector::default());
        self.dropped = Tick::ZERO;
    }
}

impl<M: Machine> World<M> {
    /// Vectors and floors only rise, incarnations never come back, claims are true, and memory is bounded.
    pub(crate) fn watch(&mut self) -> Result<(), Found> {
        self.nodes.iter_mut().for_each(Node::secure);
        self.excuse_readers();
        for at in 0..NODES {
            self.watch_claims(at).map_err(|found| format!("node {at}: {found}"))?;
            self.watch_node(at).map_err(|found| format!("node {at}: {found}"))?;
            self.watch_audits(at).map_err(|found| format!("node {at}: {found}"))?;
        }
        Ok(())
    }

    /// Nobody waits for those whom operators have out, nor for whom somebody still takes for a reader.
    fn excuse_readers(&mut self) {
        let replicas = self.nodes.iter().filter_map(|node| node.replica.as_ref());
        let readers =
            replicas.flat_map(Replica::peers).filter(|it| it.role == Some(Role::Observer));
        let readers: BTreeSet<NodeId> = readers.map(|it| it.peer.node).collect();
        let is_out = |node: &Node<M>| node.role != Role::Author || readers.contains(&node.id);
        self.nodes.iter_mut().filter(|node| is_out(node)).for_each(Node::excuse);
    }

    /// Nobody says that something is durable before it is.
    fn watch_claims(&self, at: usize) -> Result<(), Found> {
        let Some(replica) = &self.nodes[at].replica else { return Ok(()) };
        let health = replica.health();
        for peer in &self.nodes {
            let claimed = health.peers.get(&peer.id).map(|status| &status.confirmed);
            if let Some(claimed) = claimed.filter(|claimed| !peer.secured.covers_all(claimed)) {
                let (id, secured) = (peer.id, &peer.secured);
                return Err(format!("{id} claimed {claimed:?} when {secured:?} was durable"));
            }
        }
        Ok(())
    }

    /// No audit finds what lag does not explain: nobody loses anything that it says it has.
    fn watch_audits(&mut self, at: usize) -> Result<(), Found> {
        let node = &mut self.nodes[at];
        let Some(replica) = &node.replica else { return Ok(()) };
        for (peer, status) in replica.health().peers {
            let Some(report) = status.audit else { continue };
            if status.diverged > 0 {
                return Err(format!("an audit with {peer} found a divergence: {report:?}"));
            }
            let seen = node.audited_at.insert(peer, report.at_ms);
            self.counts.audits += u64::from(seen != Some(report.at_ms));
        }
        Ok(())
    }

    fn watch_node(&mut self, at: usize) -> Result<(), Found> {
        let node = &mut self.nodes[at];
        let (Some(store), Some(replica)) = (node.store(), &node.replica) else { return Ok(()) };
        let (vector, floor) = (store.applied(ScopeId::MAIN), store.floor(ScopeId::MAIN));
        let (dropped, own) = (store.dropped(ScopeId::MAIN), store.origin().incarnation);
        let heights = &mut node.heights;
        if !vector.covers_all(&heights.vector) {
            return Err(format!("its vector sank from {:?} to {vector:?}", heights.vector));
        }
        if !floor.covers_all(&heights.floor) {
            return Err(format!("its floor sank from {:?} to {floor:?}", heights.floor));
        }
        if !vector.covers_all(&floor) {
            return Err(format!("its floor {floor:?} is above its vector {vector:?}"));
        }
        if dropped < heights.dropped {
            return Err(format!("its highest dropped tick sank to {dropped}"));
        }
        if heights.current != own && !heights.incarnations.insert(own) {
            return Err(format!("incarnation {own} came back"));
        }
        heights.current = own;
        (heights.vector, heights.floor, heights.dropped) = (vector, floor, dropped);
        if let Some(blamed) = replica.troubles().into_iter().find(is_blame) {
            return Err(format!("an honest peer was blamed: {}", blamed.message));
        }
        self.watch_memory(at)
    }

    /// A peer that takes nothing costs a window, and one that sends in pieces what is held of one.
    fn watch_memory(&self, at: usize) -> Result<(), Found> {
        let Some(replica) = &self.nodes[at].replica else { return Ok(()) };
        let limits = self.limits;
        // A shipment that begins inside the window may end outside. Of late writes it has copies.
        let shipment = (limits.shipment_len + 2 * self.longest) as u64 + BESIDES_MAX;
        let bytes_max = limits.window_bytes + shipment;
        for (peer, status) in replica.health().peers {
            let (under_way, bytes) = (status.under_way, status.under_way_bytes);
            if under_way > limits.window_shipments as u64 || bytes > bytes_max {
                return Err(format!(
                    "{under_way} shipments, {bytes} bytes are under way to {peer}, of {} and {bytes_max}",
                    limits.window_shipments
                ));
            }
            let held = status.held_bytes_max;
            if held > HELD_MAX {
                return Err(format!("{held} bytes of pieces of {peer} were held, of {HELD_MAX}"));
            }
        }
        Ok(())
    }
}

/// Whether a peer was banned, or two copies of a node were seen: here is neither.
fn is_blame(trouble: &Trouble) -> bool {
    /// What may happen between honest nodes: a fenced one, a gap, a silence, an end, a full disk.
    const HONEST: [&str; 7] = ["(13)", "(18)", "(20)", "(21)", "(22)", "(23)", "(24)"];
    let is_broken_off = trouble.code == "Conversation";
    trouble.code == "Incident"
        || is_broken_off && !HONEST.iter().any(|code| trouble.message.contains(code))
}
