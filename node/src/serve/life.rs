//! From a listener to closed databases: the threads of a process, and the order in which they begin and end.
//!
//! ```text
//! household   the listener, and a life for the main database and for each dataset
//! life        opening -> node -> told to stop; or poisoned -> opening -> ..
//! ```
//!
//! Lives know nothing of each other. None answers users before all are open, and one that can not be led any further
//! ends the process: no data are served while others that belong there are not.

use super::callers::Callers;
use super::closing::{at_once, close_within};
use super::datasets::{Datasets, House};
use super::door::Door;
use super::ending::ended;
use super::mode::Mode;
use super::node::{Around, Node, Reread};
use super::opening::Opening;
use super::remedies::SelfHealing;
use super::server::Server;
use super::settings::Settings;
use super::shares::Shares;
use super::signals::EndOfInput;
use crate::error::{Exit, Failure, Outcome};
use crate::logs;
use crate::place::{Directory, Place};
use crate::replicas::Replicas;
use base::Error;
use esker_node::resilience::{Timeout, Timeouts};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{Instrument, Span};

/// Threads that answer connections. All but two of them may do quick work of the engine themselves; the
/// rest is done by those that may block.
const WORKER_THREADS: usize = 8;
/// Quick work at a time on threads that answer.
pub(super) const QUICK_MAX: usize = WORKER_THREADS - 2;
/// Threads that may block in the engine at a time.
const BLOCKING_THREADS_MAX: usize = 64;

/// The node serves.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Ready {
    /// Its name.
    pub(crate) node: String,
    /// Where peers connect.
    pub(crate) listen: String,
    /// Where users connect.
    pub(crate) http: String,
    /// Further databases in the same process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) datasets: Vec<Begun>,
}

/// A database that was opened, and its peers.
pub(crate) struct Opened {
    /// The database.
    pub(crate) directory: Directory,
    /// Its peers.
    pub(crate) replicas: Box<dyn Replicas>,
}

impl Opened {
    /// Ends both again. Blocks, so not in a task.
    fn close(self) -> Outcome {
        self.replicas.shutdown();
        Box::new(self.directory).close().map_err(|failure| failure.during("close"))
    }
}

/// Where the thread that opens leaves what it has opened. What nobody takes out is closed after the last task:
/// to end the peers is to wait for threads of theirs, which no task may do.
type Slot = Arc<Mutex<Option<Opened>>>;

fn take(slot: &Slot) -> Option<Opened> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What may take as long as work that goes on after requests were cut off, one after the other: peers, threads, and
/// the databases.
const PARTS_OF_CLOSE: u32 = 3;

/// Listens, opens the database of `settings` and its datasets by `open`, and serves them until a signal; then closes
/// them. Meanwhile whoever asks is told how far they are. Tells `ready` once all are served. Asks `reread` for the
/// configuration when SIGHUP comes. A poisoned database is closed and opened again, as far as remedies allow.
pub(crate) fn serve(
    settings: &Settings,
    reread: Reread,
    open: impl Fn(&Settings, &Opening) -> Outcome<Opened> + Send + Sync + 'static,
    ready: impl FnOnce(&Ready) -> Outcome,
) -> Outcome {
    let runtime = runtime()?;
    let timeouts = &settings.timeouts;
    let household = Household::new(settings, timeouts, reread, Arc::new(open))?;
    let slots: Vec<Slot> = household.lives.iter().map(|life| life.slot.clone()).collect();
    let (nodes, served) = runtime.block_on(household.lead(ready));
    let patience = timeouts.get(Timeout::Close);
    let closed = close_within(patience.saturating_mul(PARTS_OF_CLOSE), move || {
        let shut_down = |node: &Arc<Node>| {
            node.replicas().shutdown();
            Ok(())
        };
        let shut_down = at_once(nodes.iter(), shut_down);
        // A recovery that does not end is cut off as a crash would.
        runtime.shutdown_timeout(patience);
        let close = |node: &Arc<Node>| {
            let closed = Box::new(node.directory().clone()).close();
            closed.map_err(|failure| failure.during("close"))
        };
        let closed = Failure::both(shut_down, at_once(nodes.iter(), close));
        Failure::both(closed, at_once(slots.iter().filter_map(take), Opened::close))
    });
    Failure::both(served, closed)
}

/// All databases of a process, before they are opened.
struct Household {
    lives: Vec<Life>,
    house: House,
    http: SocketAddr,
    end: EndOfInput,
    timeouts: Timeouts,
}

impl Household {
    fn new(
        settings: &Settings,
        timeouts: &Timeouts,
        reread: Reread,
        open: Open,
    ) -> Outcome<Household> {
        let around = Around {
            timeouts: timeouts.clone(),
            callers: Arc::new(Callers::of(&settings.config)?),
            reread,
            healing: Arc::new(SelfHealing::new(&settings.config)),
            shares: Arc::new(Shares::new(timeouts.clone())),
            datasets: Datasets::default(),
        };
        let of_datasets = settings.datasets.iter().map(|settings| {
            let around = Around {
                reread: reread_of(&around.reread, settings.dataset.clone().unwrap_or_default()),
                healing: Arc::new(SelfHealing::new(&settings.config)),
                ..around.clone()
            };
            Life::new(settings, around, &open)
        });
        let mut lives: Vec<Life> = of_datasets.collect();
        let named = |life: &Life| Some((life.settings.dataset.clone()?, life.door.clone()));
        let datasets = Datasets::new(lives.iter().filter_map(named).collect());
        let main = Life::new(settings, Around { datasets: datasets.clone(), ..around }, &open);
        let house = House::new(main.door.clone(), datasets);
        lives.insert(0, main);
        let end = if settings.end_with_input { EndOfInput::Stops } else { EndOfInput::Ignored };
        Ok(Household { lives, house, http: settings.http, end, timeouts: timeouts.clone() })
    }

    /// From a listener to the end of all requests. The nodes are still to be closed.
    async fn lead(self, ready: impl FnOnce(&Ready) -> Outcome) -> (Vec<Arc<Node>>, Outcome) {
        let bound = Server::bind(self.http, self.end, self.house.clone(), self.timeouts).await;
        let mut server = match bound {
            Ok(server) => server,
            Err(failure) => return (Vec::new(), Err(failure)),
        };
        let (tell, told) = watch::channel(Told::Open);
        let (begun, mut beginnings) = mpsc::channel(self.lives.len());
        let (count, mut open) = (self.lives.len(), Vec::new());
        let mut lives = JoinSet::new();
        for life in self.lives {
            let span = life.span.clone();
            lives.spawn(life.lead(begun.clone(), told.clone()).instrument(span));
        }
        drop((begun, told));
        let mut ready = Some(ready);
        let (first, mut outcome) = loop {
            let event = async {
                tokio::select! {
                    Some(begun) = beginnings.recv() => Event::Begun(begun),
                    Some(ended) = lives.join_next() => Event::Ended(ended),
                    else => Event::Ended(Ok((None, Ok(())))),
                }
            };
            match server.answer_until(event).await {
                Some(Event::Begun(begun)) => open.push(begun),
                Some(Event::Ended(ended)) => break of(ended),
                None => break (None, Ok(())),
            }
            if open.len() == count
                && let Some(ready) = ready.take()
            {
                let begun = begin(&mut server, std::mem::take(&mut open), ready);
                tell.send_replace(Told::Serve);
                if let Err(failure) = begun {
                    break (None, Err(failure));
                }
            }
        };
        // All of them hear it.
        drop(tell);
        let mut nodes: Vec<Arc<Node>> = first.into_iter().collect();
        while let Some(Some(ended)) = until_stopped(&mut server, lives.join_next()).await {
            let (node, ended) = of(ended);
            nodes.extend(node);
            outcome = Failure::both(outcome, ended);
        }
        if ready.is_none() {
            // Those that are well answer what they have begun, whatever has become of another.
            server.end(&nodes).await;
            tracing::info!("no requests any more");
        } else if outcome.is_ok() {
            tracing::info!("told to stop while a database was being opened");
        }
        (nodes, outcome)
    }
}

/// What happens to the databases of a household.
enum Event {
    /// One is open.
    Begun(Waiting),
    /// One is not any more.
    Ended(Result<Ended, JoinError>),
}

/// A database that is open, and served once all others are open too.
struct Waiting {
    begun: Begun,
    door: Door,
    node: Arc<Node>,
}

/// What lives are told. They are to end once nobody is there to tell them anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// To open the database, and wait.
    Open,
    /// That its door is open.
    Serve,
}

/// A database that is served from here on.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Begun {
    /// Its name; none if it is the main one.
    pub(crate) dataset: Option<String>,
    /// How peers call it.
    pub(crate) node: String,
    /// Where they connect.
    pub(crate) listen: String,
}

/// How a life ended.
fn of(ended: Result<Ended, JoinError>) -> Ended {
    ended.unwrap_or_else(|_| (None, Err(super::ending::ended())))
}

/// What `end` gives, unless a signal asks again to stop before that.
async fn until_stopped<T>(server: &mut Server, end: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        ended = end => Some(ended),
        () = server.stop() => None,
    }
}

/// Reads the configuration of one dataset again.
fn reread_of(all: &Reread, name: String) -> Reread {
    let all = all.clone();
    Arc::new(move || {
        let gone = || {
            let message = format!("the configuration has no dataset {name} any more");
            Failure::new(Exit::Input, "ConfigInvalid", message)
                .action("it is closed when the process starts again")
        };
        all()?.datasets().get(&name).cloned().ok_or_else(gone)
    })
}

/// Opens the database that settings name.
type Open = Arc<dyn Fn(&Settings, &Opening) -> Outcome<Opened> + Send + Sync>;
/// The node that a life ended with, which is still to be closed.
type Ended = (Option<Arc<Node>>, Outcome);

/// One database, and what stays when it is opened again.
struct Life {
    settings: Settings,
    around: Around,
    opening: Arc<Opening>,
    door: Door,
    open: Open,
    slot: Slot,
    /// Everything about it happens in this.
    span: Span,
}

impl Life {
    fn new(settings: &Settings, around: Around, open: &Open) -> Life {
        let opening = Arc::new(Opening::default());
        let span = logs::span_of(settings.dataset.as_deref());
        let door = Door::new(opening.clone(), around.callers.clone(), span.clone());
        let (settings, open, slot) = (settings.clone(), open.clone(), Slot::default());
        Life { settings, around, opening, door, open, slot, span }
    }

    /// Opens the database, again whenever it is poisoned, until nobody tells it anything any more. Whoever waits for
    /// the first opening hears it by `begun`, and opens the door.
    async fn lead(
        mut self,
        begun: mpsc::Sender<Waiting>,
        mut told: watch::Receiver<Told>,
    ) -> Ended {
        let (mut begun, mut mode) = (Some(begun), None);
        loop {
            let node = match self.open_unless(&mut told).await {
                Ok(Some(opened)) => self.node(opened, mode),
                Ok(None) => return (None, Ok(())),
                Err(failure) => return (None, Err(self.named(failure.during("open")))),
            };
            node.begin_backups();
            if let Err(failure) = node.watch(&node.config()) {
                return (Some(node), Err(self.named(failure)));
            }
            match begun.take() {
                None => {
                    self.door.open(node.clone());
                    // What was asked for while there was no node is not lost.
                    node.clone().reload_soon();
                }
                Some(begun) => {
                    // Who is about to stop waits for nobody.
                    let _ = begun.send(self.waiting(&node)).await;
                    if told.wait_for(|told| *told == Told::Serve).await.is_err() {
                        return (Some(node), Ok(()));
                    }
                }
            }
            tokio::select! {
                () = node.healing().reopening() => {}
                _ = told.changed() => return (Some(node), Ok(())),
            }
            self.opening = Arc::new(Opening::again(node.replicas().listens_at()));
            self.door.shut(self.opening.clone(), node.callers());
            self.keep_of(&node);
            mode = Some(node.mode().get());
            give_up(node).await;
        }
    }

    /// Opens the database. None if it was called off; if that was too late, what was opened is in the slot.
    async fn open_unless(&self, told: &mut watch::Receiver<Told>) -> Outcome<Option<Opened>> {
        let (opening, left) = (self.opening.clone(), self.slot.clone());
        let (open, settings, span) = (self.open.clone(), self.settings.clone(), self.span.clone());
        let mut job = tokio::task::spawn_blocking(move || {
            let opened = span.in_scope(|| open(&settings, &opening))?;
            *left.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
            Ok(())
        });
        let opened = tokio::select! {
            opened = &mut job => {
                let opened = opened.unwrap_or_else(|_| Err(ended()));
                return opened.map(|()| take(&self.slot));
            }
            _ = told.changed() => {
                self.opening.progress().cancel();
                job.await.unwrap_or_else(|_| Err(ended()))
            }
        };
        match opened {
            Err(failure) if failure.code() == Error::Cancelled.code() => Ok(None),
            opened => opened.map(|()| None),
        }
    }

    fn waiting(&self, node: &Arc<Node>) -> Waiting {
        let begun = Begun {
            dataset: self.settings.dataset.clone(),
            node: node.directory().db().identity().node.to_string(),
            listen: node.replicas().listens_at().to_string(),
        };
        Waiting { begun, door: self.door.clone(), node: node.clone() }
    }

    /// A node of what was opened, in `mode`, or else in the one that is kept.
    fn node(&self, opened: Opened, mode: Option<Mode>) -> Arc<Node> {
        let Opened { directory, replicas } = opened;
        let node = Node::new(directory, replicas, &self.settings, self.around.clone());
        node.mode().set(mode.unwrap_or_else(|| Mode::kept(node.directory().db())));
        Arc::new(node)
    }

    /// What has changed while `node` ran is kept.
    fn keep_of(&mut self, node: &Node) {
        self.around.callers = node.callers();
        self.settings.thresholds = node.thresholds();
        self.settings.config = node.config();
    }

    /// `failure`, which says whose it is.
    fn named(&self, failure: Failure) -> Failure {
        match &self.settings.dataset {
            Some(name) => failure.of_dataset(name),
            None => failure,
        }
    }
}

/// Ends a node whose database is to be opened again. What users wait for fails.
async fn give_up(node: Arc<Node>) {
    let span = Span::current();
    let ended = tokio::task::spawn_blocking(move || {
        let _inside = span.enter();
        node.end_work();
        node.replicas().shutdown();
        // It is poisoned, so it can not be closed well.
        if let Err(failure) = Box::new(node.directory().clone()).close() {
            tracing::info!(
                code = failure.code(),
                failure = failure.to_text(),
                "the database was closed"
            );
        }
    });
    // A panic in there is noticed by the next opening.
    let _ = ended.await;
}

/// All of `open` are served from here on: whoever started the process is told.
fn begin(
    server: &mut Server,
    open: Vec<Waiting>,
    ready: impl FnOnce(&Ready) -> Outcome,
) -> Outcome {
    // Not one of them before all are there: no data without those that belong to them.
    open.iter().for_each(|waiting| waiting.door.open(waiting.node.clone()));
    server.reload_if_asked();
    let open = open.into_iter().map(|waiting| waiting.begun);
    let (main, mut datasets): (Vec<Begun>, Vec<Begun>) =
        open.partition(|begun| begun.dataset.is_none());
    datasets.sort_by(|one, other| one.dataset.cmp(&other.dataset));
    let Some(Begun { node, listen, .. }) = main.into_iter().next() else { return Err(ended()) };
    let http = server.address().to_string();
    ready(&Ready { node, listen, http, datasets })?;
    tracing::info!(http = %server.address(), "serving");
    Ok(())
}

fn runtime() -> Outcome<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("esker-serve")
        .enable_all()
        .build();
    Ok(runtime.map_err(|e| Error::io("start", "threads", e))?)
}

#[cfg(test)]
mod tests;
