//! What all handlers share, and how they call the engine.

mod reload;

use super::backups::BackupKeeper;
use super::callers::{Callers, Strangers};
use super::checks;
use super::datasets::Datasets;
use super::ending::{Ending, ended};
use super::glimpse::{Glimpse, Looking, Seen};
use super::health::{LagThresholds, PeersLook};
use super::limits::Limits;
use super::mode::{CurrentMode, Mode};
use super::refusal::Refusal;
use super::remedies::{self, SelfHealing};
use super::settings::Settings;
use super::shares::Shares;
use crate::args::Durability;
use crate::config::Config;
use crate::error::{Exit, Failure, Outcome};
use crate::logs;
use crate::metrics::{self, Requests, Scrape};
use crate::place::Directory;
use crate::replicas::{Behind, Replicas};
use crate::writes::Writes;
use base::{Clock, SystemClock};
use engine::Scope;
use esker_node::health::Checks;
use esker_node::resilience::{Breakers, Timeout, Timeouts};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tracing::Span;

/// How long a write waits for a node to meet its first peer and to take over what that holds.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_secs(5);
const CATCH_UP_STEP: Duration = Duration::from_millis(20);

/// Reads the configuration again, from where it came.
pub(crate) type Reread = Arc<dyn Fn() -> Outcome<Config> + Send + Sync>;

/// A node while it serves.
pub(super) struct Node {
    directory: Directory,
    replicas: Box<dyn Replicas>,
    thresholds: Mutex<LagThresholds>,
    timeouts: Timeouts,
    config: Mutex<Config>,
    reread: Reread,
    shares: Arc<Shares>,
    datasets: Datasets,
    /// Its name, if it is a dataset.
    dataset: Option<String>,
    /// Everything about it happens in this.
    span: Span,
    /// When commits are acknowledged that say nothing else.
    durability: Durability,
    is_ending: Arc<AtomicBool>,
    requests: Requests,
    checks: OnceLock<Checks>,
    peers: Arc<Glimpse<PeersLook>>,
    is_draining: AtomicBool,
    clock: SystemClock,
    callers: RwLock<Arc<Callers>>,
    strangers: Strangers,
    /// Whether only this machine reaches it.
    is_on_loopback: bool,
    mode: CurrentMode,
    breakers: Breakers,
    healing: Arc<SelfHealing>,
    limits: Limits,
}

/// What a node has from its process, and what outlives it when its database is opened again.
#[derive(Clone)]
pub(super) struct Around {
    pub(super) timeouts: Timeouts,
    pub(super) callers: Arc<Callers>,
    pub(super) reread: Reread,
    pub(super) healing: Arc<SelfHealing>,
    pub(super) shares: Arc<Shares>,
    /// Those beside the main one; a dataset knows of no others.
    pub(super) datasets: Datasets,
}

impl Node {
    /// A node on an open database.
    pub(super) fn new(
        directory: Directory,
        replicas: Box<dyn Replicas>,
        settings: &Settings,
        around: Around,
    ) -> Node {
        let Around { timeouts, callers, reread, healing, shares, datasets } = around;
        Node {
            directory,
            replicas,
            thresholds: Mutex::new(settings.thresholds),
            timeouts,
            config: Mutex::new(settings.config.clone()),
            reread,
            shares,
            datasets,
            dataset: settings.dataset.clone(),
            span: Span::current(),
            durability: settings.config.durability(),
            is_ending: Arc::default(),
            requests: Requests::default(),
            checks: OnceLock::new(),
            peers: Arc::new(Glimpse::new()),
            is_draining: AtomicBool::new(false),
            clock: SystemClock::default(),
            callers: RwLock::new(callers),
            strangers: Strangers::default(),
            is_on_loopback: settings.http.ip().is_loopback(),
            mode: CurrentMode::default(),
            breakers: breakers(&settings.config),
            healing,
            limits: Limits::of(&settings.config),
        }
    }

    /// The database.
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Its peers.
    pub(super) fn replicas(&self) -> &dyn Replicas {
        &*self.replicas
    }

    /// How its peers are. May wait for the disk.
    pub(super) fn look_at_peers(&self) -> Arc<Seen<PeersLook>> {
        self.peers.look(|| PeersLook::at(self.replicas()))
    }

    /// Begins to look how its peers are, for who must not wait for the disk.
    pub(super) fn begin_look_at_peers(self: &Arc<Node>) -> Looking<PeersLook> {
        let node = self.clone();
        self.peers.begin(move || PeersLook::at(node.replicas()))
    }

    /// When a peer lags.
    pub(super) fn thresholds(&self) -> LagThresholds {
        *lock(&self.thresholds)
    }

    /// Those who may ask.
    pub(super) fn callers(&self) -> Arc<Callers> {
        self.callers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A stranger was refused.
    pub(super) fn note_stranger(&self) {
        if let Some(count) = self.strangers.refused(self.uptime()) {
            tracing::warn!(count, "strangers were refused");
        }
    }

    /// What users may ask for.
    pub(super) fn mode(&self) -> &CurrentMode {
        &self.mode
    }

    /// What leaves alone for a while what fails again and again.
    pub(super) fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// What it does by itself against trouble.
    pub(super) fn healing(&self) -> &SelfHealing {
        &self.healing
    }

    /// How much users may ask for.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The settings that are in effect.
    pub(super) fn config(&self) -> Config {
        lock(&self.config).clone()
    }

    /// A path of the configuration, if it is set.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        lock(&self.config).text(key).map(PathBuf::from)
    }

    /// A number of the configuration.
    pub(super) fn number(&self, key: &str) -> u64 {
        lock(&self.config).number(key)
    }

    /// All timeouts.
    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// How it makes backups that operators ask for.
    pub(super) fn backups(&self) -> BackupKeeper {
        BackupKeeper::new(self.breakers.clone(), self.timeouts.clone(), self.ending())
    }

    /// Begins to make backups by itself, as its configuration says.
    pub(super) fn begin_backups(&self) {
        self.directory.db().guard_backups(self.backups());
        self.schedule_backups(&self.config());
    }

    /// How long something may take now.
    pub(super) fn timeout(&self, of: Timeout) -> Duration {
        self.timeouts.get(of)
    }

    /// Refuses reads that ask for more than a replica has: everything that was written up to `max_ms`
    /// ago. A node that writes has its own writes at once, and is not asked for those of others.
    pub(super) fn check_shows(&self, max_ms: u64) -> Outcome {
        match self.replicas.behind() {
            Some(behind) if !behind.is_within(max_ms) => {
                let message = self.too_far_behind(&behind, max_ms);
                Err(Failure::new(Exit::Other, "ReplicaLag", message)
                    .action("read from a writer, or allow more lag"))
            }
            _ => Ok(()),
        }
    }

    /// Why a replica does not promise what `max_ms` asks for.
    pub(super) fn too_far_behind(&self, behind: &Behind, max_ms: u64) -> String {
        let by = match (behind.lag_ms, behind.unheard_writers.as_slice()) {
            (Some(lag_ms), _) => format!("is {lag_ms} ms behind the writers"),
            (None, []) => "has not met a writer yet".to_owned(),
            (None, unheard) => {
                format!("has not caught up with every writer yet ({})", unheard.join(", "))
            }
        };
        format!("the replica {by}; {max_ms} ms are allowed")
    }

    /// The requests that it was asked.
    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Begins to check itself in the background.
    pub(super) fn watch(self: &Arc<Node>, config: &Config) -> Outcome {
        let mut all = Checks::new(Arc::new(self.clock));
        checks::add(&mut all, self, config)
            .map_err(|error| Failure::new(Exit::Other, "CheckFailed", error.to_string()))?;
        let _ = self.checks.set(all);
        remedies::watch(self)
    }

    /// What its checks found last, held against how long a look may take now.
    pub(super) fn findings(&self) -> Option<esker_node::health::HealthReport> {
        let checks = self.checks.get()?;
        // A timeout that is set is none of zero.
        let _ = checks.set_timeout(self.timeout(Timeout::HealthCheck));
        Some(checks.report())
    }

    /// No more users should be sent here.
    pub(super) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Whether no more users should be sent here.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// How long it runs.
    pub(super) fn uptime(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The wall clock, in milliseconds since the Unix epoch.
    pub(super) fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Its numbers, for Prometheus, and those of the datasets beside it.
    pub(super) fn metrics(&self) -> Outcome<String> {
        let nodes = self.datasets.all().filter_map(|(_, door)| door.node());
        let of_datasets = nodes.map(|node| node.own_metrics()).collect::<Outcome<Vec<String>>>()?;
        Ok(metrics::merged(self.own_metrics()?, &of_datasets))
    }

    fn own_metrics(&self) -> Outcome<String> {
        let (breakers, remedies) = (self.breakers.reports(), self.healing.reports());
        let db = self.directory.db();
        let peers = (self.replicas.peers(), self.replicas.behind());
        let (discovery, shed) = (self.replicas.discovery(), self.healing.shed());
        let scrape = Scrape::take(db, self.writes(), peers, discovery, breakers, remedies, shed);
        let rendered = scrape.render(&self.requests, self.dataset.as_deref());
        rendered.map_err(|_| Failure::new(Exit::Bug, "Bug", "the metrics can not be written"))
    }

    /// Its name, if it is a dataset.
    pub(super) fn dataset(&self) -> Option<&str> {
        self.dataset.as_deref()
    }

    /// Whether writes of users are taken now, and if not why.
    pub(super) fn writes(&self) -> Writes {
        self.writes_if(|| self.replicas.writes())
    }

    /// The same, if its peers let it take those that `peers` says.
    pub(super) fn writes_if(&self, peers: impl FnOnce() -> Writes) -> Writes {
        match self.mode.get() {
            Mode::Normal => peers(),
            Mode::ReadOnly => Writes::ReadOnlyMode,
            Mode::Maintenance => Writes::Maintenance,
        }
    }

    /// Refuses writes of users to `scope` where they are not taken now. No peer has a say in what never
    /// leaves this node.
    pub(super) fn check_writes(&self, scope: Scope) -> Outcome {
        self.mode.check_writes()?;
        match scope {
            Scope::Local => Ok(()),
            Scope::Main => self.replicas.check_writes(),
        }
    }

    /// The same of all of `keyspaces`. A node that is about to take them is waited for.
    pub(super) async fn check_takes_writes_to(
        &self,
        keyspaces: impl IntoIterator<Item = &str>,
    ) -> Outcome {
        self.check_writes(Scope::Local)?;
        self.healing.check_load()?;
        let is_shared = |name| self.directory.scope_of(name) != Scope::Local;
        if !keyspaces.into_iter().any(is_shared) {
            return Ok(());
        }
        let patience = tokio::time::Instant::now() + CATCH_UP_WAIT_MAX;
        while self.replicas.is_catching_up() && tokio::time::Instant::now() < patience {
            tokio::time::sleep(CATCH_UP_STEP).await;
        }
        self.check_writes(Scope::Main)
    }

    /// Ends long work that still runs: the node is about to close the database.
    pub(super) fn end_work(&self) {
        self.is_ending.store(true, Ordering::Release);
    }

    /// A flag for long work: it fails once the node ends.
    pub(super) fn ending(&self) -> Ending {
        Ending::of(&self.is_ending)
    }

    /// What it shares with the other databases of the process.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The datasets beside it, if it is the main one.
    pub(super) fn datasets(&self) -> &Datasets {
        &self.datasets
    }

    /// Runs `job`, which is nearly always quick, such as a read of what is in memory: on this thread, so that
    /// no other has to be woken. It may block now and then, so only some threads do it at a time; if they
    /// are busy it is run as [`Node::blocking`] does.
    pub(super) async fn quick<T: Send + 'static>(
        self: &Arc<Node>,
        job: impl FnOnce(&Node) -> Outcome<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Some(_turn) = self.shares.quick() else { return self.blocking(job).await };
        Ok(job(self)?)
    }

    /// Whether a commit returns before the disk has synced it.
    pub(super) fn is_quick(&self, durability: Option<Durability>) -> bool {
        durability.unwrap_or(self.durability) != Durability::Sync
    }

    /// When commits are acknowledged that say nothing else.
    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// As [`Node::blocking`]. `held`, such as a turn or memory, is given back when the job is done, also
    /// if its client does not wait for that.
    pub(super) async fn holding<H: Send + 'static, T: Send + 'static>(
        self: &Arc<Node>,
        held: H,
        job: impl FnOnce(&Node) -> Outcome<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let work = move |node: &Node| {
            let _held = held;
            job(node)
        };
        self.blocking(work).await
    }

    /// Runs `job`, which may block, and waits for it without blocking.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Node>,
        job: impl FnOnce(&Node) -> Outcome<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        // What is told meanwhile is of whoever has asked.
        let (node, inside) = (self.clone(), logs::Inside::now());
        let done = tokio::task::spawn_blocking(move || inside.run(|| job(&node))).await;
        match done {
            Ok(result) => Ok(result?),
            Err(_) => Err(ended().into()),
        }
    }
}

/// Breakers that say when they open and close.
fn breakers(config: &Config) -> Breakers {
    let clock = Arc::new(SystemClock::default());
    let breakers = Breakers::with_listener(clock, |name, before, after| {
        tracing::warn!(breaker = name, %before, %after, "a breaker has changed");
    });
    breakers.configure(config.breakers());
    breakers
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is whole at any time.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::shares::LOADS_MAX;
    use super::*;
    use crate::config::Layers;
    use crate::replicas;
    use engine::{Options, Progress};
    use std::sync::mpsc::channel;
    use tokio::runtime::Runtime;

    #[test]
    fn a_turn_is_kept_until_the_work_is_done_though_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut layers = Layers::default();
        layers.option("path", "--path", dir.path().join("data").to_str().unwrap());
        let of = Settings::of(layers.settle().unwrap()).unwrap();
        let (options, progress) = (Options::default(), Progress::default());
        let directory = Directory::open_with(&of.path, options, &progress).unwrap();
        let replicas = replicas::start(directory.db(), &of).unwrap();
        let timeouts = of.timeouts.clone();
        let around = Around {
            callers: Arc::new(Callers::of(&of.config).unwrap()),
            reread: Arc::new(|| Err(ended())),
            healing: Arc::new(SelfHealing::new(&of.config)),
            shares: Arc::new(Shares::new(timeouts.clone())),
            datasets: Datasets::default(),
            timeouts,
        };
        let node = Node::new(directory, replicas, &of, around);
        let (node, runtime) = (Arc::new(node), Runtime::new().unwrap());
        let (begin, begun) = channel();
        let (end, ended) = channel::<()>();
        let asked = node.clone();
        let client = runtime.spawn(async move {
            let work = move |_: &Node| {
                begin.send(()).unwrap();
                ended.recv().unwrap();
                Ok(())
            };
            asked.holding(asked.shares().load().await?, work).await
        });
        begun.recv().unwrap();
        client.abort();
        assert!(runtime.block_on(client).is_err_and(|error| error.is_cancelled()));
        assert_eq!(node.shares().free_loads(), LOADS_MAX - 1);
        end.send(()).unwrap();
        drop(runtime); // waits for the work
        assert_eq!(node.shares().free_loads(), LOADS_MAX);
        node.replicas().shutdown();
    }
}
