//! What is needed to understand a story that went wrong.

use crate::story::machine::Machine;
use crate::story::world::{NODES, Node, World};
use base::{NodeId, ScopeId, Vector};
use std::collections::BTreeMap;

impl<M: Machine> World<M> {
    /// Writes into the log how everything is.
    pub(crate) fn confess(&mut self) {
        let mut lines = vec!["writes by stamp:".to_owned()];
        lines.extend(self.ledger.history());
        for at in 0..NODES {
            lines.extend(self.describe(at));
        }
        lines.extend(self.not_in_all());
        self.log.extend(lines);
    }

    fn describe(&self, at: usize) -> Vec<String> {
        let node = &self.nodes[at];
        let incarnation = node.machine.identity().incarnation.0 >> 48;
        let vector = self.shown(&node.machine.applied());
        let mut lines = vec![format!("node {at}, life {incarnation:04x}: {vector}")];
        let (Some(replica), Some(store)) = (&node.replica, node.store()) else { return lines };
        let (floor, dropped) = (store.floor(ScopeId::MAIN), store.dropped(ScopeId::MAIN));
        let is_whole = store.is_whole(ScopeId::MAIN);
        lines.push(format!("  floor {}", self.shown(&floor)));
        let writes = replica.writes();
        lines.push(format!("  dropped {dropped}, whole {is_whole}, users' writes {writes:?}"));
        for peer in replica.peers() {
            let (role, status, name) = (peer.role, peer.status, self.name(peer.peer.node));
            let (is_connected, pending) = (status.is_connected, status.pending);
            let confirmed = self.shown(&status.confirmed);
            lines.push(format!(
                "  peer {name} {role:?}, connected {is_connected}, pending {pending}, {confirmed}"
            ));
        }
        lines.extend(self.troubles(node));
        lines
    }

    /// What some nodes read and others do not.
    fn not_in_all(&self) -> Vec<String> {
        let mut who_reads: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            for row in node.machine.content().unwrap_or_default() {
                who_reads.entry(row).or_default().push(at);
            }
        }
        who_reads.retain(|_, readers| readers.len() < NODES);
        let line = |((keyspace, key, value), readers): ((String, Vec<u8>, Vec<u8>), Vec<usize>)| {
            let (key, value) = (key.escape_ascii(), value.escape_ascii());
            format!("only in {readers:?}: {keyspace}/{key} = {value}")
        };
        who_reads.into_iter().map(line).collect()
    }

    fn troubles(&self, node: &Node<M>) -> Vec<String> {
        let mut troubles: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for trouble in node.replica.iter().flat_map(|replica| replica.troubles()) {
            let peer = trouble.node.map(|peer| self.name(peer)).unwrap_or_default();
            let what = format!("{peer} {}: {}", trouble.code, trouble.message);
            let known = troubles.entry(what).or_default();
            *known = (known.0 + 1, trouble.at_ms);
        }
        let line = |(what, (times, at))| format!("  {times} times, last at {at}: with {what}");
        troubles.into_iter().map(line).collect()
    }

    fn name(&self, node: NodeId) -> String {
        let at = self.nodes.iter().position(|known| known.id == node);
        at.map_or_else(|| "?".to_owned(), |at| at.to_string())
    }

    /// A vector in few words: node, start of the incarnation, tick.
    fn shown(&self, vector: &Vector) -> String {
        let entry = |(origin, tick): (base::Origin, base::Tick)| {
            format!("{}.{:04x}:{tick}", self.name(origin.node), origin.incarnation.0 >> 48)
        };
        vector.iter().map(entry).collect::<Vec<_>>().join(" ")
    }
}
