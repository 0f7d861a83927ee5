//! Who a database is.

use crate::stamp::{Incarnation, NodeId, Origin};

/// What a database is called for ever, and in this life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random at creation; keys every file, so files of two databases never mix.
    pub database: [u8; 16],
    /// The node's name. Derived from the first `secret`; it stays when that is exchanged.
    pub node: NodeId,
    /// This life of the data.
    pub incarnation: Incarnation,
    /// Random; the node's key pair is derived from it. Never printed.
    pub secret: [u8; 32],
}

impl Identity {
    /// The author of what this database writes.
    pub fn origin(&self) -> Origin {
        Origin { node: self.node, incarnation: self.incarnation }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity {{ node: {}, incarnation: {} }}", self.node, self.incarnation)
    }
}
