//! What goes wrong between nodes, as a command fails with it.

use super::{Exit, Failure};
use replication::link::LinkError;
use replication::replica::ReplicaError;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Failure {
        let exit = match &error {
            LinkError::Setting { .. } | LinkError::Text { .. } => Exit::Input,
            LinkError::UnknownKey { .. }
            | LinkError::Revoked { .. }
            | LinkError::Join { .. }
            | LinkError::Banned { .. }
            | LinkError::Retired { .. } => Exit::Denied,
            LinkError::Socket { .. } => Exit::Io,
            LinkError::Key { .. } => Exit::Database,
            _ => Exit::Other,
        };
        Failure::new(exit, error.code(), error.to_string()).action(error.action())
    }
}

impl From<ReplicaError> for Failure {
    fn from(error: ReplicaError) -> Failure {
        match error {
            ReplicaError::Store(error) => error.into(),
            ReplicaError::Link(error) => error.into(),
        }
    }
}

/// Nobody can be heard at `address`, a setting.
pub(crate) fn listen_failed(address: SocketAddr, source: &io::Error) -> Failure {
    Failure::new(Exit::Io, "ListenFailed", format!("cannot listen: {source}"))
        .at(Path::new(&address.to_string()))
        .action(
            "see whether another process listens there, whether this machine has the address now, and whether this \
             user may",
        )
}
