//! The peers of a node: the seam between serving and replication.
//!
//! HTTP handlers see replication through [`Replicas`] only.

mod discovery;
mod join;
mod linked;

pub(crate) use self::discovery::{Discovery, Heard, Stranger};

use self::linked::Linked;
use crate::config::Config;
use crate::error::{Failure, Outcome};
use crate::serve::Settings;
use crate::writes::Writes;
use base::NodeId;
use clap::ValueEnum;
use esker_node::resilience::BreakerReport;
pub(crate) use replication::replica::Flush;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// What a node does with its peers. Calls may block on the disk, never on a peer.
pub(crate) trait Replicas: Send + Sync {
    /// Where it listens for peers.
    fn listens_at(&self) -> SocketAddr;

    /// Refuses writes of users where they are not taken now.
    fn check_writes(&self) -> Outcome;

    /// Whether writes of users are taken now, and if not why.
    fn writes(&self) -> Writes;

    /// Whether writes are refused only until it has met a peer, and has taken over what that holds.
    fn is_catching_up(&self) -> bool;

    /// What this node is to its peers now.
    fn role(&self) -> Role;

    /// Makes a replica a writer, for good.
    fn promote(&self) -> Outcome;

    /// How far a replica is behind the writers; none of a node that writes.
    fn behind(&self) -> Option<Behind>;

    /// All peers, by node.
    fn peers(&self) -> Vec<Peer>;

    /// How the search for members on the local network goes; none if nobody is looked for.
    fn discovery(&self) -> Option<Discovery>;

    /// How this node and its peers are.
    fn sync_status(&self) -> SyncStatus;

    /// Begins to bring what was written here up to now to all tracked peers.
    fn begin_flush(&self) -> Outcome<Flush>;

    /// What has become of it by now.
    fn flushed(&self, flush: &mut Flush) -> Outcome<Flushed>;

    /// A token by which one node may join, once and soon.
    fn invite(&self) -> Outcome<Invitation>;

    /// Adds a peer that adds this node as well.
    fn add(&self, peer: &PeerAddress) -> Outcome<Peer>;

    /// Takes over what can change of `config` while it runs.
    fn configure(&self, config: &Config);

    /// Whether each peer that was dialed is left alone, and how attempts to reach it have ended, by node.
    fn breakers(&self) -> BTreeMap<NodeId, BreakerReport>;

    /// Does not leave a peer alone any more, and dials it now. Returns false if it was never dialed.
    fn reset_breaker(&self, node: NodeId) -> bool;

    /// Changes how a peer is treated.
    ///
    /// # Errors
    /// `PeerNotFound` if there is no such peer.
    fn change(&self, node: NodeId, change: PeerChange) -> Outcome<Option<Peer>>;

    /// Tells the peers goodbye and stops. Called once, before the database is closed.
    fn shutdown(&self);
}

/// Starts replication of `db` with the peers that `settings` name.
pub(crate) fn start(db: &engine::Db, settings: &Settings) -> Outcome<Box<dyn Replicas>> {
    Ok(Box::new(Linked::start(db, settings)?))
}

/// What a node is to its peers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Takes writes of users and of peers
    #[default]
    Writer,
    /// Takes writes of peers only
    Replica,
    /// Takes writes, and waits for peers to connect instead of connecting to them
    RespondOnly,
}

/// Whether collection of deletes waits for a peer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PeerClass {
    /// It may write; deletes are kept until it has them.
    Tracked,
    /// It only reads; nothing waits for it.
    Untracked,
    /// It is fenced, and has to rejoin.
    Deprecated,
}

/// One peer and how it is. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) node: String,
    /// Where it is dialled, if it is.
    pub(crate) address: Option<String>,
    /// Where it is heard on the local network.
    #[serde(default)]
    pub(crate) found: Vec<Heard>,
    /// Whether collection waits for it.
    pub(crate) class: PeerClass,
    /// Whether it is talked to at all.
    pub(crate) enabled: bool,
    /// Whether a link to it is up.
    pub(crate) online: bool,
    /// Whether it is left alone because it could not be reached: 0 closed, 1 open, 2 half-open.
    pub(crate) breaker: u8,
    /// How long the oldest commit has waited that it has not confirmed; 0 if it has all.
    pub(crate) lag_ms: u64,
    /// Commits that it has not confirmed.
    pub(crate) pending: u64,
    /// When something was last received from it or confirmed by it.
    pub(crate) last_sync: Option<u64>,
    /// When its last confirmation came.
    pub(crate) last_confirmation: Option<u64>,
    /// By how much its clock is ahead of the one here.
    pub(crate) clock_offset_ms: i64,
    /// Nothing is taken from it, because its clock is too far ahead.
    pub(crate) parked: bool,
    /// Shipments that were sent to it and are not confirmed.
    pub(crate) under_way: u64,
    /// Their bytes.
    pub(crate) under_way_bytes: u64,
    /// Entries that differed between it and this node though lag does not explain it, since the start.
    pub(crate) diverged: u64,
    /// What was exchanged with it since the start.
    pub(crate) totals: Totals,
    /// The last error of the link to it.
    pub(crate) last_error: Option<PeerError>,
}

/// What was exchanged since the start.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Totals {
    /// Frames sent.
    pub(crate) frames_sent: u64,
    /// Frames received.
    pub(crate) frames_received: u64,
    /// Bytes sent.
    pub(crate) bytes_sent: u64,
    /// Bytes received.
    pub(crate) bytes_received: u64,
    /// Sessions that came up.
    pub(crate) sessions: u64,
    /// Deltas of entries that were taken, because the log did not reach back far enough.
    pub(crate) deltas: u64,
    /// Whole states that were taken, because deletes had been forgotten meanwhile.
    pub(crate) rejoins: u64,
    /// Bootstraps by tables.
    pub(crate) bootstraps: u64,
    /// Links that failed.
    pub(crate) failures: u64,
}

/// How a node and its peers are. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SyncStatus {
    /// Whether a link to any peer is up.
    pub(crate) online: bool,
    /// When something was last exchanged with any peer.
    pub(crate) last_sync: Option<u64>,
    /// Commits that the peer that is furthest behind has not confirmed.
    pub(crate) pending: u64,
    /// Each peer, by node.
    pub(crate) peers: Vec<Peer>,
    /// The newest errors, oldest first, at most 50.
    pub(crate) errors: Vec<PeerError>,
    /// What was exchanged since the start.
    pub(crate) totals: Totals,
}

/// What came of bringing to all tracked peers what was written here.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flushed {
    /// Commits that all tracked peers have confirmed since.
    pub(crate) successful: u64,
    /// Commits that some tracked peer has not; it gets them when it comes.
    pub(crate) failed: u64,
    /// Each tracked peer.
    pub(crate) peers: Vec<PeerFlushed>,
}

/// The same of one peer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerFlushed {
    /// Its name.
    pub(crate) node: String,
    /// Commits that it has confirmed since.
    pub(crate) successful: u64,
    /// Commits that it has not.
    pub(crate) failed: u64,
    /// Whether a link to it is up.
    pub(crate) online: bool,
    /// What went wrong with it last meanwhile.
    pub(crate) error: Option<PeerError>,
}

/// How far a replica is behind the writers.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Behind {
    /// How long ago it had everything that any writer had written; none if that is not known.
    pub(crate) lag_ms: Option<u64>,
    /// Writers that it has not caught up with since it started.
    pub(crate) unheard_writers: Vec<String>,
}

impl Behind {
    /// Whether everything is here that any writer had written `max_ms` ago.
    pub(crate) fn is_within(&self, max_ms: u64) -> bool {
        self.lag_ms.is_some_and(|lag_ms| lag_ms <= max_ms)
    }
}

/// Something that went wrong with a peer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct PeerError {
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// With whom, if that is known.
    pub(crate) node: Option<String>,
    /// The stable name of the error.
    pub(crate) code: String,
    /// What happened.
    pub(crate) message: String,
}

/// A token by which one node may join.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Invitation {
    /// What the joiner gives with `--join`.
    pub(crate) token: String,
    /// Until when, in milliseconds since the Unix epoch.
    pub(crate) expires: u64,
}

/// How the treatment of a peer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerChange {
    /// Talk to it.
    Enable,
    /// Do not talk to it.
    Disable,
    /// Collection waits for it.
    Track,
    /// Collection does not wait for it.
    Untrack,
    /// It is fenced for good.
    Deprecate,
    /// It is forgotten, and its links are closed.
    Remove,
}

impl PeerChange {
    const ALL: [PeerChange; 6] = [
        PeerChange::Enable,
        PeerChange::Disable,
        PeerChange::Track,
        PeerChange::Untrack,
        PeerChange::Deprecate,
        PeerChange::Remove,
    ];

    /// Its name in a URL and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PeerChange::Enable => "enable",
            PeerChange::Disable => "disable",
            PeerChange::Track => "track",
            PeerChange::Untrack => "untrack",
            PeerChange::Deprecate => "deprecate",
            PeerChange::Remove => "remove",
        }
    }

    /// The change of that name.
    pub(crate) fn named(name: &str) -> Option<PeerChange> {
        PeerChange::ALL.into_iter().find(|change| change.name() == name)
    }
}

/// A peer and where it listens, written `ID@ADDR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    /// Its name.
    pub(crate) node: NodeId,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl FromStr for PeerAddress {
    type Err = Failure;

    fn from_str(text: &str) -> Outcome<PeerAddress> {
        let refuse = || {
            Failure::input(
                "a peer is ID@ADDR: the 32 digits that `esker id` prints, then host:port as numbers",
            )
        };
        let (node, address) = text.split_once('@').ok_or_else(refuse)?;
        let address = address.parse().map_err(|_| refuse())?;
        Ok(PeerAddress { node: node_of(node).ok_or_else(refuse)?, address })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.address)
    }
}

/// The node that 32 hexadecimal digits name.
pub(crate) fn node_of(text: &str) -> Option<NodeId> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(|number| NodeId(number.to_be_bytes()))
}

/// There is no peer of that name.
pub(crate) fn no_such_peer() -> Failure {
    Failure::new(crate::error::Exit::NotFound, "PeerNotFound", "this node has no such peer")
        .action("list the peers to see their names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_read_as_it_is_written() {
        let text = "000102030405060708090a0b0c0d0eff@[::1]:7400";
        let peer: PeerAddress = text.parse().unwrap();
        assert_eq!(peer.node.0[15], 0xff);
        assert_eq!(peer.to_string(), text);
        for bad in ["", "@", "00@1.2.3.4:5", &text.replace("00", "+0"), &text.replace(":7400", "")]
        {
            assert!(bad.parse::<PeerAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_change_has_a_name_of_its_own() {
        for change in PeerChange::ALL {
            assert_eq!(PeerChange::named(change.name()), Some(change));
        }
        assert_eq!(PeerChange::named("invite"), None);
    }
}
