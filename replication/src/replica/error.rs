//! Why a replica could not do what it was asked for.

use crate::link::LinkError;
use base::Error;
use std::fmt;

/// Why a replica does not begin, or did not join, or has no invitation.
#[derive(Debug)]
pub enum ReplicaError {
    /// The other node, the way to it, or the key that links are made with.
    Link(LinkError),
    /// The database.
    Store(Error),
}

impl From<LinkError> for ReplicaError {
    fn from(error: LinkError) -> ReplicaError {
        ReplicaError::Link(error)
    }
}

impl From<Error> for ReplicaError {
    fn from(error: Error) -> ReplicaError {
        ReplicaError::Store(error)
    }
}

impl fmt::Display for ReplicaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplicaError::Link(error) => error.fmt(f),
            ReplicaError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplicaError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReplicaError::Link(error) => error.source(),
            ReplicaError::Store(error) => error.source(),
        }
    }
}
