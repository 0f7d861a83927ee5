//! The four lists of the policy, in one slab of linked nodes.
//!
//! A node keeps its id while it moves between lists, so an entry finds its node without a search.

use std::ops::{Index, IndexMut};

/// No node.
const NONE: NodeId = NodeId(u32::MAX);

/// A place in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

impl NodeId {
    pub(super) fn raw(self) -> u32 {
        self.0
    }

    pub(super) fn from_raw(raw: u32) -> NodeId {
        NodeId(raw)
    }
}

/// A list, by its name in the papers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// In memory, used once of late.
    T1,
    /// In memory, used at least twice of late.
    T2,
    /// Remembered, evicted from T1.
    B1,
    /// Remembered, evicted from T2.
    B2,
}

/// One block, in memory or remembered.
#[derive(Debug)]
pub(super) struct Node<E> {
    /// What is in memory; `None` for a ghost.
    pub(super) entry: Option<E>,
    pub(super) fingerprint: u64,
    pub(super) weight: usize,
    /// Whether it came as one that is probably used once.
    pub(super) is_cold: bool,
    list: List,
    previous: NodeId,
    next: NodeId,
}

impl<E> Node<E> {
    pub(super) fn list(&self) -> List {
        self.list
    }
}

/// The ends and sums of one list.
#[derive(Clone, Copy, Debug)]
struct Ends {
    first: NodeId,
    last: NodeId,
    bytes: usize,
    len: usize,
}

const EMPTY: Ends = Ends { first: NONE, last: NONE, bytes: 0, len: 0 };

/// The slab and the lists through it.
#[derive(Debug)]
pub(super) struct Lists<E> {
    nodes: Vec<Node<E>>,
    free: Vec<NodeId>,
    ends: [Ends; 4],
}

impl<E> Lists<E> {
    pub(super) fn new() -> Lists<E> {
        Lists { nodes: Vec::new(), free: Vec::new(), ends: [EMPTY; 4] }
    }

    /// Bytes of the nodes of `list`.
    pub(super) fn bytes(&self, list: List) -> usize {
        self.ends[list as usize].bytes
    }

    /// How many nodes `list` has.
    pub(super) fn len(&self, list: List) -> usize {
        self.ends[list as usize].len
    }

    /// The node that has been in `list` longest: where the clock's hand points.
    pub(super) fn first(&self, list: List) -> Option<NodeId> {
        some(self.ends[list as usize].first)
    }

    /// Adds an entry at the end of `list`.
    pub(super) fn push_last(
        &mut self,
        list: List,
        fingerprint: u64,
        weight: usize,
        entry: E,
    ) -> NodeId {
        let node = Node {
            entry: Some(entry),
            fingerprint,
            weight,
            is_cold: false,
            list,
            previous: NONE,
            next: NONE,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self[id] = node;
                id
            }
            None => {
                self.nodes.push(node);
                NodeId(self.nodes.len() as u32 - 1)
            }
        };
        self.link_last(id, list);
        id
    }

    /// Moves a node to the end of `list`.
    pub(super) fn move_last(&mut self, id: NodeId, list: List) {
        self.unlink(id);
        self.link_last(id, list);
    }

    /// Moves a node to the front of `list`.
    pub(super) fn move_first(&mut self, id: NodeId, list: List) {
        self.unlink(id);
        let node = &mut self.nodes[id.0 as usize];
        let ends = &mut self.ends[list as usize];
        (node.list, node.previous, node.next) = (list, NONE, ends.first);
        ends.bytes += node.weight;
        ends.len += 1;
        match std::mem::replace(&mut ends.first, id) {
            NONE => ends.last = id,
            next => self[next].previous = id,
        }
    }

    /// Takes a node out. Its id may be used again. Returns its entry, if it was in memory.
    pub(super) fn remove(&mut self, id: NodeId) -> Option<E> {
        self.unlink(id);
        self.free.push(id);
        self[id].entry.take()
    }

    fn link_last(&mut self, id: NodeId, list: List) {
        let node = &mut self.nodes[id.0 as usize];
        let ends = &mut self.ends[list as usize];
        (node.list, node.previous, node.next) = (list, ends.last, NONE);
        ends.bytes += node.weight;
        ends.len += 1;
        match std::mem::replace(&mut ends.last, id) {
            NONE => ends.first = id,
            previous => self[previous].next = id,
        }
    }

    fn unlink(&mut self, id: NodeId) {
        let node = &self[id];
        let (list, previous, next, weight) = (node.list, node.previous, node.next, node.weight);
        match some(previous) {
            Some(previous) => self[previous].next = next,
            None => self.ends[list as usize].first = next,
        }
        match some(next) {
            Some(next) => self[next].previous = previous,
            None => self.ends[list as usize].last = previous,
        }
        let ends = &mut self.ends[list as usize];
        ends.bytes -= weight;
        ends.len -= 1;
    }
}

impl<E> Index<NodeId> for Lists<E> {
    type Output = Node<E>;

    fn index(&self, id: NodeId) -> &Node<E> {
        &self.nodes[id.0 as usize]
    }
}

impl<E> IndexMut<NodeId> for Lists<E> {
    fn index_mut(&mut self, id: NodeId) -> &mut Node<E> {
        &mut self.nodes[id.0 as usize]
    }
}

fn some(id: NodeId) -> Option<NodeId> {
    (id != NONE).then_some(id)
}

#[cfg(test)]
impl<E> Lists<E> {
    /// Walks every list both ways and counts.
    pub(super) fn assert_sound(&self) {
        let mut linked = 0;
        for list in [List::T1, List::T2, List::B1, List::B2] {
            let (mut bytes, mut len, mut previous) = (0, 0, NONE);
            let mut at = self.ends[list as usize].first;
            while let Some(id) = some(at) {
                let node = &self[id];
                assert_eq!((node.list, node.previous), (list, previous));
                assert_eq!(node.entry.is_some(), matches!(list, List::T1 | List::T2));
                (bytes, len, previous, at) = (bytes + node.weight, len + 1, id, node.next);
            }
            assert_eq!(self.ends[list as usize].last, previous);
            assert_eq!((self.bytes(list), self.len(list)), (bytes, len));
            linked += len;
        }
        assert_eq!(linked + self.free.len(), self.nodes.len(), "a node is in no list");
    }
}
