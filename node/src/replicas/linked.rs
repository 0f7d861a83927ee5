//! A node with peers: replication over QUIC.
//!
//! It runs on threads of its own, so that requests of users and conversations with peers do not
//! wait for each other's turn.

use super::join::join;
use super::{
    Behind, Discovery, Flush, Flushed, Invitation, Peer, PeerAddress, PeerChange, PeerClass,
    PeerError, PeerFlushed, Replicas, Role, SyncStatus, Totals, discovery, no_such_peer,
};
use crate::config::Config;
use crate::error::{Exit, Failure, Outcome, listen_failed};
use crate::logs;
use crate::serve::Settings;
use crate::writes::Writes;
use base::{Clock, Error, NodeId, OsRng, SystemClock};
use engine::Db;
use esker_node::resilience::{BreakerReport, BreakerState, Timeout, Timeouts};
use replication::engine_store::EngineStore;
use replication::group;
use replication::link::{Bell, DialCounts, INVITE_LASTS, Limit, LinkError, LinkSettings, Wire};
use replication::replica::{
    self, Dialing, PeerReport, Replica, ReplicaOptions, ReplicaParts, Trouble,
};
use replication::roster;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::Span;

/// Threads that drive QUIC; calls of the database run on others.
const THREADS: usize = 2;

/// How long calls of the database that peers have caused may go on at the end.
const END_MAX: Duration = Duration::from_secs(5);

const AUTHOR: roster::Role = roster::Role::Author;

/// See the module.
pub(crate) struct Linked {
    /// Until it is shut down.
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    replica: Mutex<Option<Arc<Replica>>>,
    address: SocketAddr,
    dialing: Dialing,
}

impl Linked {
    /// Listens, dials the peers of `settings`, and joins if they say so.
    pub(crate) fn start(db: &Db, settings: &Settings) -> Outcome<Linked> {
        let mut builder = Builder::new_multi_thread();
        // What is opened is opened in its span, if it is a dataset.
        let span = Span::current();
        builder.on_thread_start(move || logs::stay_in(&span)).on_thread_stop(logs::leave);
        let runtime =
            builder.worker_threads(THREADS).thread_name("esker-peers").enable_all().build();
        let runtime = runtime.map_err(|e| Error::io("start threads", "for peers", e))?;
        let bell = Bell::default();
        let link = link_settings(&settings.timeouts);
        let wire = {
            let _inside = runtime.enter();
            Wire::bind(settings.listen, &link).map_err(|error| not_bound(settings.listen, error))?
        };
        let parts = ReplicaParts {
            store: Arc::new(EngineStore::new(db.clone(), &bell)),
            identity: db.identity(),
            bell,
            wire,
            rng: Arc::new(OsRng),
        };
        let dialing = match settings.role {
            Role::RespondOnly => Dialing::RespondOnly,
            Role::Writer | Role::Replica => Dialing::Active,
        };
        let options = ReplicaOptions {
            role: match settings.role {
                Role::Replica => roster::Role::Observer,
                Role::Writer | Role::RespondOnly => roster::Role::Author,
            },
            dialing,
            peers: settings.peers.iter().map(|peer| (peer.node, peer.address)).collect(),
            joins: settings.join.is_some(),
            link,
            breaker: settings.config.peer_breakers(),
            discovery: discovery::options_of(&settings.config),
            ..ReplicaOptions::default()
        };
        let replica = {
            let _inside = runtime.enter();
            Arc::new(Replica::start(parts, options)?)
        };
        if let Some((token, address)) = &settings.join {
            runtime.block_on(join(&replica, token, *address))?;
        }
        let address = replica.address()?;
        let handle = runtime.handle().clone();
        let (runtime, replica) = (Mutex::new(Some(runtime)), Mutex::new(Some(replica)));
        Ok(Linked { runtime, handle, replica, address, dialing })
    }

    fn replica(&self) -> Outcome<Arc<Replica>> {
        let replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner).clone();
        replica.ok_or_else(|| {
            Failure::new(Exit::Other, "ShuttingDown", "the node is shutting down")
                .action("ask again once it runs")
        })
    }
}

impl Replicas for Linked {
    fn listens_at(&self) -> SocketAddr {
        self.address
    }

    fn check_writes(&self) -> Outcome {
        let replica = self.replica()?;
        let refuse =
            |message, action| Err(Failure::new(Exit::Denied, "ReadOnly", message).action(action));
        match replica.writes() {
            group::Writes::Open => Ok(()),
            group::Writes::Reader => Err(reads_only(&replica)),
            group::Writes::Retired => refuse(
                "this node was retired: its group goes on without it, and nobody would see what it takes",
                "write to another node, or track this one again there",
            ),
            group::Writes::Joining => {
                let message =
                    "this node has a new disk, and has not met a peer that may hold its data";
                Err(Failure::new(Exit::Other, "Joining", message).action(
                    "ask again once it has met one, or start it without peers if there are none",
                ))
            }
            group::Writes::Announcing => refuse(
                "this node was restored, and no peer has accepted its new life yet",
                "wait until it has met a writer, or write to another node; if its peers are gone for \
                 good, `esker peers promote`",
            ),
            group::Writes::Forked => {
                let message = "this node was put back from a copy and written to: \
                               peers have of it what it has forgotten";
                Err(Failure::new(Exit::Denied, "Forked", message)
                    .action("stop it, then `esker repair --path DIR --new-life`"))
            }
            group::Writes::ClockSkew => {
                // They may have come to agree since.
                replica.clock_skew_ms().map_or(Ok(()), |(by_ms, limit_ms)| {
                    Err(Failure::from(Error::ClockSkew { by_ms, limit_ms })
                        .action("set the clock of this node right, or that of its peers"))
                })
            }
            group::Writes::Rejoining => refuse(
                "this node takes over what its peers hold",
                "wait until it has caught up, or write to another node",
            ),
        }
    }

    fn writes(&self) -> Writes {
        let Ok(replica) = self.replica() else { return Writes::Open };
        match replica.writes() {
            group::Writes::Open => Writes::Open,
            group::Writes::Reader => Writes::Reader,
            group::Writes::Joining => Writes::Joining,
            group::Writes::Rejoining => Writes::Rejoining,
            group::Writes::Announcing => Writes::Announcing,
            group::Writes::Forked => Writes::Forked,
            group::Writes::ClockSkew => Writes::ClockSkew,
            group::Writes::Retired => Writes::Retired,
        }
    }

    fn is_catching_up(&self) -> bool {
        matches!(self.writes(), Writes::Joining | Writes::Rejoining)
    }

    fn role(&self) -> Role {
        let role = self.replica().map(|replica| replica.role());
        match (role, self.dialing) {
            (Ok(roster::Role::Author) | Err(_), Dialing::Active) => Role::Writer,
            (Ok(roster::Role::Author) | Err(_), Dialing::RespondOnly) => Role::RespondOnly,
            (Ok(roster::Role::Observer | roster::Role::Deprecated), _) => Role::Replica,
        }
    }

    fn promote(&self) -> Outcome {
        self.inside(Replica::promote)
    }

    fn behind(&self) -> Option<Behind> {
        let replica = self.replica().ok().filter(|replica| replica.role() != AUTHOR)?;
        let group::Behind { by, unheard } = replica.behind();
        Some(Behind {
            lag_ms: by.map(|by| u64::try_from(by.as_millis()).unwrap_or(u64::MAX)),
            unheard_writers: unheard.iter().map(ToString::to_string).collect(),
        })
    }

    fn peers(&self) -> Vec<Peer> {
        let Ok(replica) = self.replica() else { return Vec::new() };
        replica.peers().into_iter().map(peer).collect()
    }

    fn discovery(&self) -> Option<Discovery> {
        Some(self.replica().ok()?.discovery()?.into())
    }

    fn sync_status(&self) -> SyncStatus {
        let Ok(replica) = self.replica() else { return SyncStatus::default() };
        let status = replica.sync_status();
        SyncStatus {
            online: status.is_online,
            last_sync: status.last_sync_ms,
            pending: status.pending,
            peers: status.peers.into_iter().map(peer).collect(),
            errors: status.troubles.into_iter().map(trouble).collect(),
            totals: totals(&status.totals),
        }
    }

    fn begin_flush(&self) -> Outcome<Flush> {
        self.inside(|replica| Ok(replica.begin_flush()))
    }

    fn flushed(&self, flush: &mut Flush) -> Outcome<Flushed> {
        let replica::Flushed { successful, failed, peers } = self.replica()?.flushed(flush);
        let of = |peer: replica::PeerFlushed| PeerFlushed {
            node: peer.node.to_string(),
            successful: peer.settled.successful,
            failed: peer.settled.failed,
            online: peer.settled.is_connected,
            error: peer.trouble.map(trouble),
        };
        Ok(Flushed { successful, failed, peers: peers.into_iter().map(of).collect() })
    }

    fn invite(&self) -> Outcome<Invitation> {
        self.check_decides()?;
        let token = self.replica()?.invite().map_err(|error| match error {
            LinkError::Join { reason: replica::NOT_MET, .. } => Failure::from(error)
                .action("link it with one of its peers first, see `esker peers list`"),
            error => error.into(),
        })?;
        let lasts_ms = u64::try_from(INVITE_LASTS.as_millis()).unwrap_or(u64::MAX);
        let expires = SystemClock::default().wall_ms().saturating_add(lasts_ms);
        Ok(Invitation { token: token.reveal(), expires })
    }

    fn add(&self, peer: &PeerAddress) -> Outcome<Peer> {
        self.check_decides()?;
        self.inside(|replica| replica.add(peer.node, peer.address))?;
        self.find(peer.node)?.ok_or_else(no_such_peer)
    }

    fn change(&self, node: NodeId, change: PeerChange) -> Outcome<Option<Peer>> {
        let decides = self.check_decides();
        let to = |role| replica::PeerChange::Become(role);
        let changes = match change {
            PeerChange::Enable => vec![replica::PeerChange::Enable],
            PeerChange::Disable => vec![replica::PeerChange::Disable],
            PeerChange::Track => vec![to(AUTHOR)],
            PeerChange::Untrack => vec![to(roster::Role::Observer)],
            PeerChange::Deprecate => vec![to(roster::Role::Deprecated)],
            // A replica may only shut its own door.
            PeerChange::Remove if decides.is_err() => vec![replica::PeerChange::Forget],
            PeerChange::Remove => vec![to(roster::Role::Deprecated), replica::PeerChange::Forget],
        };
        if changes.iter().any(|change| matches!(change, replica::PeerChange::Become(_))) {
            decides?;
        }
        for change in changes {
            if !self.inside(|replica| replica.change(node, change))? {
                return Err(no_such_peer());
            }
        }
        self.find(node)
    }

    fn configure(&self, config: &Config) {
        if let Ok(replica) = self.replica() {
            replica.configure_breakers(config.peer_breakers());
        }
    }

    fn breakers(&self) -> BTreeMap<NodeId, BreakerReport> {
        let Ok(replica) = self.replica() else { return BTreeMap::new() };
        let report = |(node, (state, counts)): (NodeId, (BreakerState, DialCounts))| {
            let DialCounts { successes, failures, rejected } = counts;
            (node, BreakerReport { state, successes, failures, rejected })
        };
        replica.breakers().into_iter().map(report).collect()
    }

    fn reset_breaker(&self, node: NodeId) -> bool {
        self.inside(|replica| Ok(replica.reset_breaker(node))).unwrap_or(false)
    }

    fn shutdown(&self) {
        let replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(replica) = replica {
            self.handle.block_on(replica.shutdown());
        }
        // What is left of it must not be dropped by a thread that may not wait.
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(END_MAX);
        }
    }
}

impl Linked {
    /// Calls what may start tasks.
    fn inside<T>(&self, call: impl FnOnce(&Replica) -> base::Result<T>) -> Outcome<T> {
        let replica = self.replica()?;
        let _inside = self.handle.enter();
        Ok(call(&replica)?)
    }

    /// Refuses what changes the roster where it can not be changed.
    fn check_decides(&self) -> Outcome {
        let replica = self.replica()?;
        match replica.role() {
            AUTHOR => Ok(()),
            roster::Role::Observer | roster::Role::Deprecated => Err(reads_only(&replica)),
        }
    }

    fn find(&self, node: NodeId) -> Outcome<Option<Peer>> {
        let found = self.replica()?.peers().into_iter().find(|report| report.peer.node == node);
        Ok(found.map(peer))
    }
}

/// The numbers of links; how long their first steps may take is as `timeouts` say whenever one begins.
fn link_settings(timeouts: &Timeouts) -> LinkSettings {
    let limit = |of| {
        let timeouts = timeouts.clone();
        Limit::asked_of(move || timeouts.get(of))
    };
    LinkSettings {
        handshake: limit(Timeout::PeerDial),
        hello: limit(Timeout::PeerHello),
        ..LinkSettings::default()
    }
}

/// Why a replica does not write, and who does.
fn reads_only(replica: &Replica) -> Failure {
    let (message, action) = match replica.role() {
        roster::Role::Deprecated => {
            ("this node was deprecated: it only reads", "track it again on a writer")
        }
        _ => ("this node is a replica: it only reads", "promote it, or write to a writer"),
    };
    let writer = |(node, address): (NodeId, Option<SocketAddr>)| match address {
        Some(address) => format!("{node}@{address}"),
        None => node.to_string(),
    };
    let writers: Vec<String> = replica.authors().into_iter().map(writer).collect();
    let writers = if writers.is_empty() { "none known".to_owned() } else { writers.join(", ") };
    let action = format!("{action}; writers: {writers}");
    Failure::new(Exit::Denied, "ReadOnly", message).action(action)
}

fn peer(report: PeerReport) -> Peer {
    let last_sync = report.last_sync_ms();
    let PeerReport { peer, role, status, breaker, found, totals: exchanged, trouble: last } =
        report;
    Peer {
        node: peer.node.to_string(),
        address: peer.address.map(|address| address.to_string()),
        found: found.into_iter().map(Into::into).collect(),
        class: match role {
            Some(roster::Role::Author) => PeerClass::Tracked,
            Some(roster::Role::Observer) | None => PeerClass::Untracked,
            Some(roster::Role::Deprecated) => PeerClass::Deprecated,
        },
        enabled: peer.is_enabled,
        online: status.is_connected,
        breaker: breaker as u8,
        lag_ms: status.lag_ms,
        pending: status.pending,
        last_sync,
        last_confirmation: status.confirmed_at_ms,
        clock_offset_ms: status.clock_offset_ms,
        parked: status.is_parked,
        under_way: status.under_way,
        under_way_bytes: status.under_way_bytes,
        diverged: status.diverged,
        totals: totals(&exchanged),
        last_error: last.map(trouble),
    }
}

fn totals(of: &replica::Totals) -> Totals {
    Totals {
        frames_sent: of.frames_sent,
        frames_received: of.frames_received,
        bytes_sent: of.bytes_sent,
        bytes_received: of.bytes_received,
        sessions: of.sessions,
        deltas: of.deltas,
        rejoins: of.rejoins,
        bootstraps: of.bootstraps,
        failures: of.failures,
    }
}

fn trouble(of: Trouble) -> PeerError {
    PeerError {
        at: of.at_ms,
        node: of.node.map(|node| node.to_string()),
        code: of.code.to_owned(),
        message: of.message,
    }
}

fn not_bound(listen: SocketAddr, error: LinkError) -> Failure {
    match error {
        LinkError::Socket { source, .. } => listen_failed(listen, &source),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_node::resilience::Profile;

    #[test]
    fn the_first_steps_of_links_may_take_what_timeouts_say_now() {
        let timeouts = Timeouts::of(Profile::Standard);
        let link = link_settings(&timeouts);
        link.check().unwrap();
        let found = || (link.handshake.get(), link.hello.get());
        assert_eq!(found(), (Duration::from_secs(5), Duration::from_secs(5)));
        timeouts.set("peer_dial", Duration::from_millis(7)).unwrap();
        timeouts.set("peer_hello", Duration::from_millis(8)).unwrap();
        assert_eq!(found(), (Duration::from_millis(7), Duration::from_millis(8)));
        link.clone().check().unwrap();
    }

    #[test]
    fn what_is_known_of_a_peer_is_told() {
        let node = NodeId([7; 16]);
        let report = PeerReport {
            peer: replica::Peer { node, address: None, is_enabled: true },
            role: Some(AUTHOR),
            status: replication::health::PeerStatus {
                under_way: 2,
                under_way_bytes: 300,
                clock_offset_ms: -4,
                is_parked: true,
                diverged: 5,
                ..Default::default()
            },
            breaker: BreakerState::Closed,
            totals: replica::Totals { failures: 6, ..Default::default() },
            trouble: None,
            found: Vec::new(),
        };
        let told = peer(report);
        assert_eq!((told.under_way, told.under_way_bytes, told.clock_offset_ms), (2, 300, -4));
        assert_eq!((told.parked, told.diverged, told.totals.failures), (true, 5, 6));
    }
}
