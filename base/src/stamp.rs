//! Who wrote an entry and when: the order by which replicas decide.

use crate::tick::Tick;
use std::fmt;

/// The lasting name of a node, derived from its public key (see [`crate::identity`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 16]);

/// One life of a node's data: a fresh random number at creation, at a restore, and after a lost
/// tail, so that no stamp is ever used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// An author: a node in one of its incarnations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Its incarnation when it wrote.
    pub incarnation: Incarnation,
}

impl Origin {
    /// Bytes of an encoded origin: node, then incarnation.
    pub const LEN: usize = 16 + 8;
}

/// Who wrote an entry and when, comparable across nodes. The larger stamp wins. Fields are in
/// comparison order; the origin only breaks ties, so writes of two nodes never compare equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// When.
    pub tick: Tick,
    /// Who.
    pub origin: Origin,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
