//! Three nodes, their machines, their replicas, and the network between them.

use crate::story::counts::Counts;
use crate::story::dice::Dice;
use crate::story::ledger::Ledger;
use crate::story::machine::{Loss, Machine, Now};
use crate::story::plan::{Limits, Plan};
use crate::story::watch::Heights;
use base::rng::SeededRng;
use base::{Identity, Incarnation, NodeId, Vector};
use replication::link::sim::{SimNet, Weather};
use replication::link::{Bell, Calls, LinkKey};
use replication::replica::{Dialing, Replica, ReplicaOptions, ReplicaParts};
use replication::roster::Role;
use replication::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What goes wrong in a story.
pub(crate) type Found = String;
/// Nodes of every story.
pub(crate) const NODES: usize = 3;
/// When every story begins.
const START_MS: u64 = 1_700_000_000_000;
/// How finely wall clocks move.
const SLICE: Duration = Duration::from_millis(50);
/// How long a replica may take to end.
const ENDING: Duration = Duration::from_secs(60);

/// One node.
pub(crate) struct Node<M: Machine> {
    pub(crate) machine: M,
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
    pub(crate) bell: Bell,
    pub(crate) replica: Option<Replica>,
    pub(crate) store: Option<Weak<dyn Store>>,
    pub(crate) dialing: Dialing,
    /// What it was configured as.
    pub(crate) configured: Role,
    /// What the operators want it to be.
    pub(crate) role: Role,
    /// Whether it must be told: perhaps only it knows that it was something else.
    pub(crate) waits_for_word: bool,
    /// By how much its wall clock is wrong.
    pub(crate) skew_ms: i64,
    /// By how much it was wrong when the node was started last.
    pub(crate) started_skew_ms: i64,
    /// After how long what was written is synced; 0: before it is acknowledged.
    pub(crate) sync_after_ms: u64,
    pub(crate) synced_at: Instant,
    pub(crate) backups: Vec<(M::Backup, Vector)>,
    pub(crate) heights: Heights,
    /// When the last audit that was looked at ended here, by peer.
    pub(crate) audited_at: BTreeMap<NodeId, u64>,
    /// What was ever durable here.
    pub(crate) secured: Vector,
    /// Lives that others did not wait for: in which it was shut out, only read, or wrote on a new disk,
    /// perhaps before anybody had heard of it.
    pub(crate) unheard: BTreeSet<Incarnation>,
}

impl<M: Machine> Node<M> {
    pub(crate) fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// Others do not wait for what it writes in its present life.
    pub(crate) fn excuse(&mut self) {
        self.unheard.insert(self.machine.identity().incarnation);
    }

    /// Notes what is durable.
    pub(crate) fn secure(&mut self) {
        self.secured.raise_all(&self.machine.durable());
    }

    /// The database, while it is open.
    pub(crate) fn store(&self) -> Option<Arc<dyn Store>> {
        self.store.as_ref().and_then(Weak::upgrade)
    }
}

/// All of it.
pub(crate) struct World<M: Machine> {
    pub(crate) net: SimNet,
    pub(crate) nodes: Vec<Node<M>>,
    pub(crate) dice: Dice,
    pub(crate) ledger: Ledger,
    pub(crate) counts: Counts,
    pub(crate) began: Instant,
    /// What was done, in words.
    pub(crate) log: Vec<String>,
    /// Ways that can never be gone.
    pub(crate) walls: BTreeSet<(usize, usize)>,
    /// Ways that can not be gone now.
    pub(crate) cuts: BTreeSet<(usize, usize)>,
    pub(crate) weather: Weather,
    pub(crate) slow: Option<(usize, Weather)>,
    audit_every: Option<Duration>,
    pub(crate) limits: Limits,
    /// Bytes of the longest write.
    pub(crate) longest: usize,
    watched_at: Instant,
}

impl<M: Machine> World<M> {
    pub(crate) fn new(net: SimNet, seed: u64, plan: &Plan) -> World<M> {
        let now = Instant::now();
        let mut world = World {
            net,
            nodes: Vec::new(),
            dice: Dice::new(seed),
            ledger: Ledger::default(),
            counts: Counts::default(),
            began: now,
            log: Vec::new(),
            walls: BTreeSet::new(),
            cuts: BTreeSet::new(),
            weather: Weather::default(),
            slow: None,
            audit_every: plan.audit_every,
            limits: plan.limits,
            longest: 0,
            watched_at: now,
        };
        for number in 1..=NODES as u8 {
            let identity = world.identity(number);
            let address = SocketAddr::from(([10, 0, 0, number], 7000));
            world.nodes.push(Node {
                machine: M::new(identity, Now { wall_ms: START_MS, elapsed_ms: 0 }),
                id: identity.node,
                address,
                bell: Bell::default(),
                replica: None,
                store: None,
                dialing: Dialing::Active,
                configured: Role::Author,
                role: Role::Author,
                waits_for_word: false,
                skew_ms: 0,
                started_skew_ms: 0,
                sync_after_ms: 0,
                synced_at: now,
                backups: Vec::new(),
                heights: Heights::default(),
                audited_at: BTreeMap::new(),
                secured: Vector::default(),
                unheard: BTreeSet::new(),
            });
        }
        world
    }

    fn identity(&mut self, number: u8) -> Identity {
        let secret = [number; 32];
        let key = LinkKey::from_seed(secret).unwrap();
        let incarnation = self.incarnation();
        Identity { database: [number; 16], node: key.fingerprint().node(), incarnation, secret }
    }

    pub(crate) fn incarnation(&mut self) -> Incarnation {
        Incarnation(self.dice.roll() | 1)
    }

    /// Simulated time so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn say(&mut self, what: impl Display) {
        let at = self.elapsed().as_secs_f64();
        self.log.push(format!("{at:8.3} {what}"));
    }

    /// What the clocks of a node show.
    fn now(&self, node: usize) -> Now {
        let elapsed_ms = self.elapsed().as_millis() as u64;
        let wall_ms = (START_MS + elapsed_ms).saturating_add_signed(self.nodes[node].skew_ms);
        Now { wall_ms, elapsed_ms }
    }

    /// Time passes, and is watched.
    pub(crate) async fn pass(&mut self, time: Duration) -> Result<(), Found> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(SLICE.min(end - Instant::now())).await;
            self.move_clocks()?;
            if self.watched_at.elapsed() >= Duration::from_secs(1) {
                self.watched_at = Instant::now();
                self.watch()?;
            }
        }
        Ok(())
    }

    /// Wall clocks move on, and what waits for a sync long enough is synced.
    fn move_clocks(&mut self) -> Result<(), Found> {
        for at in 0..NODES {
            let now = self.now(at);
            let node = &mut self.nodes[at];
            node.machine.set_clock(now);
            let is_due = node.synced_at.elapsed().as_millis() as u64 >= node.sync_after_ms;
            if node.is_up() && is_due {
                node.synced_at = Instant::now();
                node.machine.sync().map_err(|error| format!("node {at}: no sync: {error}"))?;
            }
        }
        Ok(())
    }

    /// Makes the network what walls, cuts and weather say.
    pub(crate) fn rewire(&self) {
        self.net.heal();
        self.net.weather(self.weather);
        let address = |node: usize| self.nodes[node].address;
        if let Some((slow, weather)) = self.slow {
            for other in (0..NODES).filter(|other| *other != slow) {
                self.net.weather_on(address(other), address(slow), weather);
                self.net.weather_on(address(slow), address(other), weather);
            }
        }
        for (from, to) in self.walls.iter().chain(&self.cuts) {
            self.net.cut(address(*from), address(*to));
        }
    }

    pub(crate) fn start(&mut self, at: usize) -> Result<(), Found> {
        let failed = |error| format!("node {at} does not start: {error}");
        let now = self.now(at);
        let others = self.nodes.iter().filter(|other| other.id != self.nodes[at].id);
        let peers = others.map(|other| (other.id, other.address)).collect();
        let rng = Arc::new(SeededRng::new(self.dice.roll()));
        let node = &mut self.nodes[at];
        node.machine.set_clock(now);
        node.started_skew_ms = node.skew_ms;
        node.bell = Bell::default();
        let store = node.machine.start(&node.bell).map_err(failed)?;
        node.store = Some(Arc::downgrade(&store));
        let parts = ReplicaParts {
            store,
            identity: node.machine.identity(),
            bell: node.bell.clone(),
            wire: self.net.wire(node.address),
            rng,
        };
        let options = ReplicaOptions {
            role: node.configured,
            dialing: node.dialing,
            peers,
            calls: Calls::Inline,
            audit_every: self.audit_every,
            window_bytes: self.limits.window_bytes,
            window_shipments: self.limits.window_shipments,
            shipment_len: self.limits.shipment_len,
            ..ReplicaOptions::default()
        };
        let started = Replica::start(parts, options);
        node.replica = Some(started.map_err(|error| format!("node {at} does not start: {error}"))?);
        Ok(())
    }

    /// The node leaves in order.
    pub(crate) async fn stop(&mut self, at: usize) -> Result<(), Found> {
        let Some(replica) = self.nodes[at].replica.take() else { return Ok(()) };
        self.counts.note(replica.totals());
        let late = || format!("node {at} does not shut down");
        timeout(ENDING, replica.shutdown()).await.map_err(|_| late())?;
        drop(replica);
        self.let_go(at).await?;
        let stopped = self.nodes[at].machine.stop();
        stopped.map_err(|error| format!("node {at}: no close: {error}"))?;
        // It may have said so while it left.
        self.nodes[at].secure();
        Ok(())
    }

    /// The process dies, and with it perhaps what was not synced.
    pub(crate) async fn crash(&mut self, at: usize, loss: Loss) -> Result<(), Found> {
        let Some(replica) = self.nodes[at].replica.take() else { return Ok(()) };
        self.counts.note(replica.totals());
        self.net.unplug(self.nodes[at].address);
        drop(replica);
        self.let_go(at).await?;
        self.nodes[at].secure();
        let origin = self.nodes[at].machine.identity();
        let died = self.nodes[at].machine.crash(loss);
        died.map_err(|error| format!("node {at} does not survive a crash: {error}"))?;
        if loss == Loss::Tail {
            self.counts.power_losses += 1;
            let durable = self.nodes[at].machine.durable();
            let others = self.held_but(at);
            let own = base::Origin { node: origin.node, incarnation: origin.incarnation };
            if let Some(tick) = self.ledger.cut(own, durable.get(own), &others) {
                return Err(format!("node {at} sent {tick} before it was durable"));
            }
            self.lose(at);
            self.nodes[at].heights.fall_to(&durable);
        }
        self.counts.crashes += 1;
        Ok(())
    }

    /// Waits until nothing of the replica that ran at `at` is left.
    async fn let_go(&mut self, at: usize) -> Result<(), Found> {
        let end = Instant::now() + ENDING;
        let store = self.nodes[at].store.take();
        while store.as_ref().is_some_and(|store| store.strong_count() > 0) {
            if Instant::now() > end {
                return Err(format!("something of node {at} lives on after its replica"));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// What all others have.
    fn held_but(&self, at: usize) -> Vec<Vector> {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != at);
        others.map(|(_, node)| node.machine.applied()).collect()
    }

    /// What `at` had is gone where its disk no longer has it.
    fn lose(&mut self, at: usize) {
        let mut held = self.held_but(at);
        held.push(self.nodes[at].machine.durable());
        self.ledger.forget_unless(&held);
    }

    pub(crate) fn restore(&mut self, at: usize, backup: usize) -> Result<(), Found> {
        let (incarnation, now) = (self.incarnation(), self.now(at));
        let node = &mut self.nodes[at];
        let (backup, _) = &node.backups[backup];
        node.machine.set_clock(now);
        let restored = node.machine.restore(backup, incarnation);
        restored.map_err(|error| format!("node {at} is not restored: {error}"))?;
        node.heights.begin_anew();
        self.lose(at);
        self.counts.restores += 1;
        Ok(())
    }

    pub(crate) fn wipe(&mut self, at: usize) {
        let (incarnation, now) = (self.incarnation(), self.now(at));
        let node = &mut self.nodes[at];
        node.machine.set_clock(now);
        node.machine.wipe(incarnation);
        node.unheard.insert(incarnation);
        node.heights.begin_anew();
        self.lose(at);
        self.counts.wipes += 1;
    }
}
