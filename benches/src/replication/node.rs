//! A whole node in a process of its own, as `esker serve` is one, but for HTTP.
//!
//! It reads commands from its input, a line each, and answers each with a line of JSON:
//!
//! ```text
//! peers NODE@ADDRESS ...      starts the replica
//! linked                      waits until every peer is connected and users may write
//! put FIRST COUNT BATCH RATE  writes records, RATE a second; 0 = as fast as it goes
//! trickle COUNT MICROS        writes single records, one every so often, and says when
//! watch, watched              notes when what of the first peer became visible; tells
//! has ORIGIN TICK             waits until that is visible
//! confirmed                   waits until all peers have all of it, durably
//! reaches ORIGIN TICK         whether the log still reaches back to that
//! claim ORIGIN TICK           takes for received what never came, as if a disk had lost it
//! audit, audited              compares all with the first peer; tells what came of it
//! read RECORDS GETS           gets some of so many records, and scans them
//! usage, forget               processor time, memory, bytes; makes the present memory the peak
//! sync, settle, content       as they say; the number of records and a digest of them
//! ```
//!
//! At the end of its input it closes the database and ends.

use super::VALUE_LEN;
use super::args::Args;
use crate::keys::{Key, KeyShape, Keys, mix};
use crate::meter::{forget_peak, peak_rss_bytes, process_cpu_ns, rss_bytes, thread_cpu_ns};
use crate::{Failure, Result};
use engine::replicate::{
    DeltaHead, Incarnation, NodeId, Origin, Progress, Purpose, ScopeId, Vector,
};
use engine::{Batch, Db, Error, Keyspace, KeyspaceOptions, Options, SyncMode, Tick};
use replication::engine_store::EngineStore;
use replication::group::Writes;
use replication::link::{Bell, LinkSettings, Wire};
use replication::replica::{Replica, ReplicaOptions, ReplicaParts};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Threads that drive QUIC, as in a node.
const THREADS: usize = 2;
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(1);
/// How long anything is waited for.
const WAIT_NS: u64 = 100_000_000_000;
/// Commits written so far ahead of their time are waited for.
const AHEAD_NS: u64 = 1_000_000;
/// Of so many records, the time of one is told.
const SAMPLED: u64 = 100;
/// The keyspace that is written.
const KEYSPACE: &str = "bench";

/// Serves until its input ends.
pub(super) fn run(dir: &Path, args: &Args) -> Result<()> {
    let mut node = Node::open(dir, args)?;
    println!("{}", node.describe()?);
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        println!("{}", node.obey(&words)?);
    }
    node.close()
}

/// Moments at which something became visible: nanoseconds, and the tick up to which it did.
type Seen = Vec<(u64, u64)>;

struct Node {
    db: Db,
    runtime: Runtime,
    bell: Bell,
    wire: Option<Wire>,
    replica: Option<Replica>,
    /// The node whose writes are watched.
    watched: Option<NodeId>,
    watching: Option<(Arc<AtomicBool>, JoinHandle<Seen>)>,
    watcher: Arc<Mutex<Option<std::thread::Thread>>>,
    keys: Keys,
}

impl Node {
    fn open(dir: &Path, args: &Args) -> Result<Node> {
        let options = Options {
            sync: SyncMode::Async,
            memtable_bytes: args.memtable_mb << 20,
            log_retention_bytes: args.retention_mb << 20,
            ..Options::default()
        };
        let db = Db::open(dir, options)?;
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        let wire = {
            let _inside = runtime.enter();
            Wire::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &LinkSettings::default())?
        };
        Ok(Node {
            db,
            runtime,
            bell: Bell::default(),
            wire: Some(wire),
            replica: None,
            watched: None,
            watching: None,
            watcher: Arc::default(),
            keys: Keys::new(KeyShape::Hashed, 1 << 24),
        })
    }

    fn describe(&self) -> Result<Value> {
        let address = self.wire.as_ref().map(Wire::address).transpose()?;
        let address = address.map(|address| address.to_string());
        Ok(json!({ "node": self.db.identity().node.to_string(), "address": address }))
    }

    fn obey(&mut self, words: &[&str]) -> Result<Value> {
        match words {
            ["peers", peers @ ..] => self.start(peers),
            ["linked"] => self.linked(),
            ["put", first, count, batch, rate] => {
                self.put(first.parse()?, count.parse()?, batch.parse()?, rate.parse()?)
            }
            ["trickle", count, micros] => self.trickle(count.parse()?, micros.parse()?),
            ["watch"] => self.watch(),
            ["watched"] => self.tell_watched(),
            ["has", origin, tick] => {
                let (origin, tick) = (origin_of(origin)?, tick.parse()?);
                let replication = self.db.replication();
                let applied = || replication.applied(ScopeId::MAIN).get(origin).raw();
                self.wait_until("received", || applied() >= tick)
            }
            ["confirmed"] => self.confirmed(),
            ["reaches", origin, tick] => self.reaches(origin_of(origin)?, tick.parse()?),
            ["claim", origin, tick] => self.claim(origin_of(origin)?, tick.parse()?),
            ["audit"] => self.audit(),
            ["audited"] => self.audited(),
            ["read", records, gets] => self.read(records.parse()?, gets.parse()?),
            ["usage"] => Ok(self.usage()),
            ["forget"] => {
                forget_peak();
                Ok(self.usage())
            }
            ["sync"] => {
                self.db.sync()?;
                Ok(json!({ "at": now_ns(), "cpu": process_cpu_ns() }))
            }
            ["settle"] => {
                self.db.settle()?;
                Ok(json!({ "at": now_ns(), "cpu": process_cpu_ns() }))
            }
            ["content"] => self.content(),
            other => Err(format!("no such command: {other:?}").into()),
        }
    }

    /// Everything runs from here on.
    fn start(&mut self, peers: &[&str]) -> Result<Value> {
        let mut known = Vec::new();
        for peer in peers {
            let (node, address) = peer.split_once('@').ok_or("a peer is NODE@ADDRESS")?;
            known.push((node_of(node)?, address.parse()?));
        }
        self.watched = known.first().map(|(node, _)| *node);
        let wire = self.wire.take().ok_or("the replica runs")?;
        let store = EngineStore::new(self.db.clone(), &self.bell);
        let (bell, watcher) = (self.bell.clone(), self.watcher.clone());
        self.db.replication().on_commit(move |progress| {
            if progress != Progress::Visible {
                bell.ring();
            }
            if let Some(thread) = &*watcher.lock().unwrap_or_else(PoisonError::into_inner) {
                thread.unpark();
            }
        });
        let parts = ReplicaParts {
            store: Arc::new(store),
            identity: self.db.identity(),
            bell: self.bell.clone(),
            wire,
            rng: Arc::new(base::OsRng),
        };
        let options = ReplicaOptions { peers: known, ..ReplicaOptions::default() };
        let _inside = self.runtime.enter();
        self.replica = Some(Replica::start(parts, options)?);
        Ok(json!({ "at": now_ns(), "cpu": process_cpu_ns() }))
    }

    fn replica(&self) -> Result<&Replica> {
        self.replica.as_ref().ok_or_else(|| "the replica does not run".into())
    }

    fn linked(&self) -> Result<Value> {
        let replica = self.replica()?;
        let are_up = || replica.peers().iter().all(|peer| peer.status.is_connected);
        self.wait_until("linked", || are_up() && replica.writes() == Writes::Open)
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) -> Result<Value> {
        let end = now_ns() + WAIT_NS;
        while !is_so() {
            if now_ns() > end {
                let troubles = self.replica.as_ref().map(Replica::troubles).unwrap_or_default();
                let links = self.replica.as_ref().map(Replica::links).unwrap_or_default();
                return Err(format!("not yet {what}: {links:?}, {troubles:?}").into());
            }
            sleep(LOOK);
        }
        Ok(json!({ "at": now_ns(), "cpu": process_cpu_ns() }))
    }

    fn keyspace(&self) -> Result<Keyspace> {
        Ok(self.db.keyspace(KEYSPACE, KeyspaceOptions::default())?)
    }

    fn put(&self, first: u64, count: u64, batch: u64, rate: u64) -> Result<Value> {
        let keyspace = self.keyspace()?;
        let mut value = Vec::with_capacity(VALUE_LEN);
        let (from, cpu) = (now_ns(), process_cpu_ns());
        let (mut last, mut puts) = (Tick::ZERO, Vec::new());
        for start in (first..first + count).step_by(batch.max(1) as usize) {
            let (mut collected, before) = (Batch::new(), now_ns());
            for index in start..(start + batch).min(first + count) {
                fill(&mut value, index);
                let key: Key = self.keys.scattered(index);
                match batch {
                    1 => last = keyspace.put(key, &value)?,
                    _ => collected.put(&keyspace, key, &value),
                }
            }
            if batch > 1 {
                last = self.db.write(collected)?;
            }
            if start % SAMPLED == 0 {
                puts.push((before, last.raw()));
            }
            let due = from + ((start - first) * 1_000_000_000).checked_div(rate).unwrap_or(0);
            if due > now_ns() + AHEAD_NS {
                sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
            }
        }
        let (origin, last) = (name_of(self.db.replication().origin()), last.raw());
        let (wall, used) = (now_ns() - from, process_cpu_ns() - cpu);
        Ok(json!({
            "at": from, "cpu": cpu, "wall": wall, "used": used, "origin": origin, "last": last,
            "puts": puts,
        }))
    }

    fn trickle(&self, count: u64, micros: u64) -> Result<Value> {
        let keyspace = self.keyspace()?;
        let mut value = Vec::with_capacity(VALUE_LEN);
        let mut puts = Vec::new();
        let from = now_ns();
        for index in 0..count {
            fill(&mut value, index);
            let before = now_ns();
            let tick = keyspace.put(self.keys.scattered(index), &value)?;
            puts.push((before, tick.raw()));
            let due = from + (index + 1) * micros * 1000;
            sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
        }
        let origin = name_of(self.db.replication().origin());
        let last = puts.last().map_or(0, |(_, tick)| *tick);
        Ok(json!({ "puts": puts, "origin": origin, "last": last }))
    }

    /// Lets a thread note whatever it sees whenever it is told that something changed.
    fn watch(&mut self) -> Result<Value> {
        let node = self.watched.ok_or("there is no peer to watch")?;
        let (replication, should_end) = (self.db.replication(), Arc::new(AtomicBool::new(false)));
        let ends = should_end.clone();
        let thread = std::thread::spawn(move || {
            let (mut seen, mut last) = (Seen::new(), 0);
            while !ends.load(Ordering::Acquire) {
                let applied = replication.applied(ScopeId::MAIN);
                let at = now_ns();
                let ticks = applied.iter().filter(|(origin, _)| origin.node == node);
                let tick = ticks.map(|(_, tick)| tick.raw()).max().unwrap_or(0);
                if tick > last {
                    last = tick;
                    seen.push((at, tick));
                }
                std::thread::park_timeout(Duration::from_millis(100));
            }
            seen
        });
        let handle = Some(thread.thread().clone());
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = handle;
        self.watching = Some((should_end, thread));
        Ok(json!({}))
    }

    fn tell_watched(&mut self) -> Result<Value> {
        let (should_end, thread) = self.watching.take().ok_or("nothing is watched")?;
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = None;
        should_end.store(true, Ordering::Release);
        thread.thread().unpark();
        let seen = thread.join().map_err(|_| "the watcher panicked")?;
        Ok(json!({ "seen": seen }))
    }

    fn confirmed(&self) -> Result<Value> {
        let (replica, replication) = (self.replica()?, self.db.replication());
        let own = replication.origin();
        let last = replication.applied(ScopeId::MAIN).get(own);
        let confirmed = || replica.peers().iter().all(|it| it.status.confirmed.covers(own, last));
        self.wait_until("confirmed", confirmed)
    }

    fn reaches(&self, origin: Origin, tick: u64) -> Result<Value> {
        let tick = Tick::from_raw(tick).ok_or("no tick")?;
        let mut known = self.db.replication().applied(ScopeId::MAIN);
        known = known.iter().filter(|(it, _)| *it != origin).chain([(origin, tick)]).collect();
        let known: Vector = known;
        match self.db.replication().tail(ScopeId::MAIN, &known) {
            Ok(_) => Ok(json!({ "reaches": true })),
            Err(Error::HistoryGone { .. }) => Ok(json!({ "reaches": false })),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, records: u64, gets: u64) -> Result<Value> {
        let keyspace = self.db.existing_keyspace(KEYSPACE)?;
        let get_all = |from: u64, count: u64| -> Result<f64> {
            let before = thread_cpu_ns();
            for index in from..from + count {
                let key: Key = self.keys.scattered(mix(index) % records);
                if keyspace.get(key)?.is_none() {
                    return Err(format!("record {index} is missing").into());
                }
            }
            Ok((thread_cpu_ns() - before) as f64 / count as f64)
        };
        // Once for the cache.
        get_all(gets, gets)?;
        let get_ns = get_all(0, gets)?;
        let (before, mut entries, mut bytes) = (thread_cpu_ns(), 0u64, 0);
        for entry in keyspace.iter() {
            let (key, value) = entry?;
            entries += 1;
            bytes += key.len() + value.len();
        }
        let scan_ns = (thread_cpu_ns() - before) as f64 / entries.max(1) as f64;
        Ok(json!({ "get_ns": get_ns, "scan_ns": scan_ns, "entries": entries, "bytes": bytes }))
    }

    /// A delta that has nothing but a vector.
    fn claim(&self, origin: Origin, tick: u64) -> Result<Value> {
        let tick = Tick::from_raw(tick).ok_or("no tick")?;
        let head =
            DeltaHead { vector: [(origin, tick)].into_iter().collect(), ..DeltaHead::default() };
        let stage = self.db.replication().stage(ScopeId::MAIN, &head, Purpose::CatchUp)?;
        stage.install()?;
        Ok(json!({}))
    }

    fn audit(&self) -> Result<Value> {
        let node = self.watched.ok_or("there is no peer to compare with")?;
        if !self.replica()?.audit(node) {
            return Err("the first peer is no peer".into());
        }
        self.audited()
    }

    /// Waits until there was an audit.
    fn audited(&self) -> Result<Value> {
        let replica = self.replica()?;
        let report = || replica.peers().into_iter().find_map(|peer| peer.status.audit);
        self.wait_until("compared", || report().is_some())?;
        let report = report().ok_or("there was no audit")?;
        Ok(json!({
            "at": now_ns(), "elements": report.elements, "differences": report.differences,
            "bytes": report.bytes, "half_rounds": report.half_rounds,
            "taken": report.taken, "given": report.given,
        }))
    }

    fn usage(&self) -> Value {
        let totals = self.replica.as_ref().map(Replica::totals).unwrap_or_default();
        let links = self.replica.as_ref().map(Replica::links).unwrap_or_default();
        let (sent, received) = links.iter().fold((0, 0), |(sent, received), link| {
            (sent + link.traffic.sent, received + link.traffic.received)
        });
        json!({
            "at": now_ns(), "cpu": process_cpu_ns(), "rss": rss_bytes(), "peak": peak_rss_bytes(),
            "frames_sent": totals.frames_sent, "bytes_sent": totals.bytes_sent,
            "bytes_saved": totals.bytes_saved,
            "frames_received": totals.frames_received, "bytes_received": totals.bytes_received,
            "udp_sent": sent, "udp_received": received,
        })
    }

    fn content(&self) -> Result<Value> {
        let (mut count, mut digest) = (0u64, 0u64);
        for entry in self.db.existing_keyspace(KEYSPACE)?.iter() {
            let (key, value) = entry?;
            let hash = |bytes: &[u8]| bytes.iter().fold(0, |sum, b| mix(sum ^ u64::from(*b)));
            digest = digest.wrapping_add(hash(&key) ^ mix(hash(&value)));
            count += 1;
        }
        Ok(json!({ "count": count, "digest": digest }))
    }

    fn close(self) -> Result<()> {
        if let Some(replica) = &self.replica {
            self.runtime.block_on(replica.shutdown());
        }
        drop(self.replica);
        drop(self.runtime);
        Ok(self.db.close()?)
    }
}

/// Random bytes, which no compression makes smaller.
fn fill(value: &mut Vec<u8>, index: u64) {
    value.clear();
    let mut state = mix(index) | 1;
    while value.len() < VALUE_LEN {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(VALUE_LEN);
}

/// The machine's monotonic clock: the same in all processes.
pub(super) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn name_of(origin: Origin) -> String {
    format!("{}.{}", origin.node, origin.incarnation.0)
}

fn origin_of(name: &str) -> Result<Origin> {
    let (node, incarnation) = name.split_once('.').ok_or("an origin is NODE.INCARNATION")?;
    Ok(Origin { node: node_of(node)?, incarnation: Incarnation(incarnation.parse()?) })
}

fn node_of(name: &str) -> Result<NodeId> {
    let number = u128::from_str_radix(name, 16);
    let number = number.map_err(|_| Failure::from(format!("{name} is no node")))?;
    Ok(NodeId(number.to_be_bytes()))
}
