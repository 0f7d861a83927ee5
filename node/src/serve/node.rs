//! What all handlers share, and how they call the engine.

use super::callers::{Callers, Strangers};
use super::checks;
use super::ending::{Ending, ended};
use super::guarded::guarded;
use super::health::LagThresholds;
use super::life::QUICK_MAX;
use super::limits::Limits;
use super::mode::{CurrentMode, Mode};
use super::refusal::Refusal;
use super::remedies::{self, SelfHealing};
use super::settings::Settings;
use crate::args::Durability;
use crate::config::Config;
use crate::error::{Exit, Failure, Outcome};
use crate::logs;
use crate::metrics::{Requests, Scrape};
use crate::place::Directory;
use crate::replicas::{Behind, Replicas};
use crate::writes::Writes;
use base::{Clock, Error, SystemClock};
use engine::Scope;
use esker_node::health::Checks;
use esker_node::resilience::{Breakers, Retry, Timeout, Timeouts};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory that bodies of requests and whole values may take, in KiB.
const BODY_MEMORY_KIB: u32 = 256 << 10;
/// Bytes of a body that are not counted.
const BODY_UNCOUNTED: usize = 64 << 10;
/// Scans and exports at a time.
const STREAMS_MAX: usize = 64;
/// Loads at a time.
const LOADS_MAX: usize = 4;

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
    memory: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    loads: Arc<Semaphore>,
    quick: Semaphore,
    /// Whether commits that say nothing else return before they are synced.
    commits_quickly: bool,
    is_ending: Arc<AtomicBool>,
    requests: Requests,
    checks: OnceLock<Checks>,
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

impl Node {
    /// A node on an open database.
    pub(super) fn new(
        directory: Directory,
        replicas: Box<dyn Replicas>,
        settings: &Settings,
        timeouts: Timeouts,
        callers: Arc<Callers>,
        reread: Reread,
        healing: Arc<SelfHealing>,
    ) -> Node {
        Node {
            directory,
            replicas,
            thresholds: Mutex::new(settings.thresholds),
            timeouts,
            config: Mutex::new(settings.config.clone()),
            reread,
            memory: Arc::new(Semaphore::new(BODY_MEMORY_KIB as usize)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            quick: Semaphore::new(QUICK_MAX),
            commits_quickly: settings.config.text("engine.sync").is_some_and(|sync| sync != "sync"),
            is_ending: Arc::default(),
            requests: Requests::default(),
            checks: OnceLock::new(),
            is_draining: AtomicBool::new(false),
            clock: SystemClock::default(),
            callers: RwLock::new(callers),
            strangers: Strangers::default(),
            is_on_loopback: settings.http.ip().is_loopback(),
            mode: CurrentMode::default(),
            breakers: breakers(),
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

    /// When a peer lags.
    pub(super) fn thresholds(&self) -> LagThresholds {
        *lock(&self.thresholds)
    }

    /// Reads the configuration again on another thread, and takes over what can change.
    pub(super) fn reload_soon(self: Arc<Node>) {
        tokio::task::spawn_blocking(move || {
            if let Err(failure) = self.reload() {
                tracing::error!(failure = failure.to_text(), "the configuration stays as it is");
            }
        });
    }

    /// Reads the configuration again, and takes over what can change. Returns the names of settings that
    /// have changed and wait for the next start.
    pub(super) fn reload(&self) -> Outcome<Vec<&'static str>> {
        let config = (self.reread)()?;
        let callers = Callers::of(&config)?;
        if callers.need_no_token() && !self.is_on_loopback {
            let message = "without tokens everybody could ask what others than this machine reach";
            return Err(Failure::new(Exit::Input, "ConfigInvalid", message)
                .action("keep a token until the node listens on loopback"));
        }
        logs::change(&config)?;
        *self.callers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(callers);
        *lock(&self.thresholds) = LagThresholds::of(&config);
        self.healing.configure(&config);
        self.limits.configure(&config);
        for (name, millis) in config.timeouts().all() {
            // What a configuration allows can be set.
            let _ = self.timeouts.set(name, Duration::from_millis(millis));
        }
        let mut before = lock(&self.config);
        let waiting = config.waits_for_start(&before);
        tracing::info!(target: logs::AUDIT, operation = "reload", "read the configuration again");
        for key in &waiting {
            tracing::warn!(key, "this setting changes when the node starts again");
        }
        // What waits is compared with what is in effect, the next time as well.
        before.take_live(&config);
        Ok(waiting)
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

    /// Makes `call` through the breaker `name`, and again as `retry` says. May block.
    pub(super) fn guarded<T>(
        &self,
        name: &str,
        retry: Retry,
        call: impl Fn() -> Result<T, Error>,
    ) -> Outcome<T> {
        guarded(&self.breakers, &self.ending(), name, retry, call)
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

    /// What its checks found last.
    pub(super) fn findings(&self) -> Option<esker_node::health::HealthReport> {
        self.checks.get().map(Checks::report)
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

    /// Its numbers, for Prometheus.
    pub(super) fn metrics(&self) -> Outcome<String> {
        let (breakers, remedies) = (self.breakers.reports(), self.healing.reports());
        let (db, peers) = (self.directory.db(), self.replicas.peers());
        let shed = self.healing.shed();
        let scrape = Scrape::take(db, self.writes(), peers, breakers, remedies, shed);
        let rendered = scrape.render(&self.requests);
        rendered.map_err(|_| Failure::new(Exit::Bug, "Bug", "the metrics can not be written"))
    }

    /// Whether writes of users are taken now, and if not why.
    pub(super) fn writes(&self) -> Writes {
        match self.mode.get() {
            Mode::Normal => self.replicas.writes(),
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

    /// Memory for `bytes`, waiting until others give some back. Small bodies are not counted: there are
    /// no more of them than connections, and they should not wait for large ones.
    pub(super) async fn memory(
        &self,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        if bytes <= BODY_UNCOUNTED {
            return Ok(None);
        }
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, BODY_MEMORY_KIB);
        self.share(&self.memory, kib, "memory for bodies of requests").await.map(Some)
    }

    /// The right to stream records.
    pub(super) async fn stream(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.share(&self.streams, 1, "scans at a time").await
    }

    /// The right to load records.
    pub(super) async fn load(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.share(&self.loads, 1, "loads at a time").await
    }

    async fn share(
        &self,
        of: &Arc<Semaphore>,
        count: u32,
        what: &str,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let patience = self.timeout(Timeout::Share);
        match tokio::time::timeout(patience, of.clone().acquire_many_owned(count)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refusal::overloaded(what)),
        }
    }

    /// Runs `job`, which is nearly always quick, such as a read of what is in memory: on this thread, so that
    /// no other has to be woken. It may block now and then, so only some threads do it at a time; if they
    /// are busy it is run as [`Node::blocking`] does.
    pub(super) async fn quick<T: Send + 'static>(
        self: &Arc<Node>,
        job: impl FnOnce(&Node) -> Outcome<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Ok(_turn) = self.quick.try_acquire() else { return self.blocking(job).await };
        Ok(job(self)?)
    }

    /// Whether a commit returns before the disk has synced it.
    pub(super) fn is_quick(&self, durability: Option<Durability>) -> bool {
        match durability {
            None => self.commits_quickly,
            Some(durability) => durability != Durability::Sync,
        }
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
        let node = self.clone();
        let done = tokio::task::spawn_blocking(move || job(&node)).await;
        match done {
            Ok(result) => Ok(result?),
            Err(_) => Err(ended().into()),
        }
    }
}

/// Breakers that say when they open and close.
fn breakers() -> Breakers {
    let clock = Arc::new(SystemClock::default());
    Breakers::with_listener(clock, |name, before, after| {
        tracing::warn!(breaker = name, %before, %after, "a breaker has changed");
    })
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is whole at any time.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
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
        let callers = Arc::new(Callers::of(&of.config).unwrap());
        let reread = Arc::new(|| Err(ended()));
        let (timeouts, healing) = (of.config.timeouts(), Arc::new(SelfHealing::new(&of.config)));
        let node = Node::new(directory, replicas, &of, timeouts, callers, reread, healing);
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
            asked.holding(asked.load().await?, work).await
        });
        begun.recv().unwrap();
        client.abort();
        assert!(runtime.block_on(client).is_err_and(|error| error.is_cancelled()));
        assert_eq!(node.loads.available_permits(), LOADS_MAX - 1);
        end.send(()).unwrap();
        drop(runtime); // waits for the work
        assert_eq!(node.loads.available_permits(), LOADS_MAX);
        node.replicas().shutdown();
    }
}
