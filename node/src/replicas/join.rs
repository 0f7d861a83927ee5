//! How a node joins a group when it starts.

use crate::error::{Failure, Outcome};
use base::Category;
use replication::link::{LinkError, Side, Token};
use replication::replica::{Replica, ReplicaError};
use std::net::SocketAddr;
use std::path::Path;

/// Joins the group of the node at `address`. One that has joined it before goes on without: a service starts again
/// with the same settings, when the token is long spent.
pub(super) async fn join(replica: &Replica, token: &Token, address: SocketAddr) -> Outcome {
    if replica.has_joined_by(token)? {
        tracing::debug!(%address, "not joined again: it has, by this token");
        return Ok(());
    }
    let error = match replica.join(token, address).await {
        Ok(()) => return Ok(()),
        Err(ReplicaError::Store(error)) => return Err(Failure::from(error).during("join")),
        Err(ReplicaError::Link(error)) => error,
    };
    if replica.is_peer(token.issuer()) {
        if matches!(error, LinkError::Join { by: Side::Peer, .. }) {
            replica.remember(token)?;
        }
        tracing::warn!(%address, code = error.code(), %error, "not joined again, though its node is a peer");
        return Ok(());
    }
    let action = match &error {
        LinkError::UnknownKey { by: Side::Peer } => {
            "the token is spent or too old, or the node was invited by another: ask for a new one"
        }
        LinkError::UnknownKey { by: Side::Us } => {
            "give the address of the node that has issued the token"
        }
        LinkError::Join { by: Side::Peer, .. } => {
            "ask for a new token; if that node knows this one already, name it with --peer instead"
        }
        error if error.category() == Category::Retryable => {
            "see that the node runs and listens there, then start again"
        }
        error => error.action(),
    };
    let failure = Failure::from(error).at(Path::new(&address.to_string())).during("join");
    Err(failure.action(action))
}
