//! From a listener to a closed database: the threads of a node, and the order in which they begin and end.

use super::callers::Callers;
use super::door::Door;
use super::ending::ended;
use super::mode::Mode;
use super::node::{Node, Reread};
use super::opening::Opening;
use super::remedies::SelfHealing;
use super::server::Server;
use super::settings::Settings;
use super::signals::EndOfInput;
use crate::error::{Failure, Outcome};
use crate::place::{Directory, Place};
use crate::replicas::Replicas;
use base::Error;
use esker_node::resilience::{Timeout, Timeouts};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Builder, Runtime};

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

/// Listens, opens the database by `open`, and serves it until a signal; then closes it. Meanwhile whoever asks
/// is told how far it is. Tells `ready` once it serves. Asks `reread` for the configuration when SIGHUP comes.
/// A poisoned database is closed and opened again, as far as remedies allow.
pub(crate) fn serve(
    settings: &Settings,
    reread: Reread,
    open: impl FnMut(&Opening) -> Outcome<Opened> + Send + 'static,
    ready: impl FnOnce(&Ready) -> Outcome,
) -> Outcome {
    let runtime = runtime()?;
    let timeouts = settings.config.timeouts();
    let life = Life {
        settings: settings.clone(),
        callers: Arc::new(Callers::of(&settings.config)?),
        timeouts: timeouts.clone(),
        healing: Arc::new(SelfHealing::new(&settings.config)),
        reread,
        open: Arc::new(Mutex::new(open)),
        slot: Slot::default(),
    };
    let slot = life.slot.clone();
    let (node, served) = runtime.block_on(life.lead(ready));
    let Some(node) = node else {
        // A recovery that does not end is cut off as a crash would.
        runtime.shutdown_timeout(timeouts.get(Timeout::Close));
        return Failure::both(served, take(&slot).map_or(Ok(()), Opened::close));
    };
    node.replicas().shutdown();
    runtime.shutdown_timeout(node.timeout(Timeout::Close));
    let closed = Box::new(node.directory().clone()).close();
    Failure::both(served, closed.map_err(|failure| failure.during("close")))
}

/// What stays when a database is opened again.
struct Life<O> {
    settings: Settings,
    callers: Arc<Callers>,
    timeouts: Timeouts,
    healing: Arc<SelfHealing>,
    reread: Reread,
    open: Arc<Mutex<O>>,
    slot: Slot,
}

impl<O: FnMut(&Opening) -> Outcome<Opened> + Send + 'static> Life<O> {
    /// From a listener to the end of all requests. The node is still to be closed, if there is one.
    async fn lead(mut self, ready: impl FnOnce(&Ready) -> Outcome) -> (Option<Arc<Node>>, Outcome) {
        let settings = &self.settings;
        let mut opening = Arc::new(Opening::default());
        let door = Door::new(opening.clone(), self.timeouts.clone(), self.callers.clone());
        let end = if settings.end_with_input { EndOfInput::Stops } else { EndOfInput::Ignored };
        let mut server = match Server::bind(settings.http, end, door.clone()).await {
            Ok(server) => server,
            Err(failure) => return (None, Err(failure)),
        };
        let (mut ready, mut mode) = (Some(ready), None);
        loop {
            let opened = self.open_meanwhile(&mut server, opening).await;
            let node = match opened {
                Ok(Some(opened)) => self.node(opened, mode),
                Ok(None) => return (None, Ok(())),
                Err(failure) => return (None, Err(failure)),
            };
            let begun = begin(&node, &door, &mut server, ready.take());
            if begun.is_err() {
                return (Some(node), begun);
            }
            if server.answer_until(node.healing().reopening()).await.is_none() {
                server.end(&node).await;
                tracing::info!("no requests any more");
                return (Some(node), Ok(()));
            }
            opening = Arc::new(Opening::again(node.replicas().listens_at()));
            door.shut(opening.clone(), node.callers());
            self.keep_of(&node);
            mode = Some(node.mode().get());
            give_up(node).await;
        }
    }

    /// Opens the database while `server` answers. None if it was called off; if that was too late, what was
    /// opened is in the slot.
    async fn open_meanwhile(
        &self,
        server: &mut Server,
        opening: Arc<Opening>,
    ) -> Outcome<Option<Opened>> {
        let (told, left, open) = (opening.clone(), self.slot.clone(), self.open.clone());
        let mut job = tokio::task::spawn_blocking(move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let opened = (*open)(&told)?;
            *left.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
            Ok(())
        });
        if let Some(opened) = server.answer_until(&mut job).await {
            let opened = opened.unwrap_or_else(|_| Err(ended()));
            return opened.map(|()| take(&self.slot)).map_err(|failure| failure.during("open"));
        }
        tracing::info!("told to stop while the database is being opened");
        opening.progress().cancel();
        let opened = tokio::select! {
            opened = job => opened.unwrap_or_else(|_| Err(ended())),
            () = server.stop() => return Ok(None),
        };
        match opened {
            Err(failure) if failure.code() == Error::Cancelled.code() => Ok(None),
            opened => opened.map(|()| None),
        }
    }

    /// A node of what was opened, in `mode`, or else in the one that is kept.
    fn node(&self, opened: Opened, mode: Option<Mode>) -> Arc<Node> {
        let Opened { directory, replicas } = opened;
        let (timeouts, callers) = (self.timeouts.clone(), self.callers.clone());
        let (reread, healing) = (self.reread.clone(), self.healing.clone());
        let settings = &self.settings;
        let node = Node::new(directory, replicas, settings, timeouts, callers, reread, healing);
        node.mode().set(mode.unwrap_or_else(|| Mode::kept(node.directory().db())));
        Arc::new(node)
    }

    /// What has changed while `node` ran is kept.
    fn keep_of(&mut self, node: &Node) {
        self.callers = node.callers();
        self.settings.thresholds = node.thresholds();
        self.settings.config = node.config();
    }
}

/// Ends a node whose database is to be opened again. What users wait for fails.
async fn give_up(node: Arc<Node>) {
    let ended = tokio::task::spawn_blocking(move || {
        node.end_work();
        node.replicas().shutdown();
        // It is poisoned, so it can not be closed well.
        if let Err(failure) = Box::new(node.directory().clone()).close() {
            tracing::info!(failure = failure.to_text(), "the database was closed");
        }
    });
    // A panic in there is noticed by the next opening.
    let _ = ended.await;
}

/// Lets `node` answer from here on. Whoever started the process is told once.
fn begin(
    node: &Arc<Node>,
    door: &Door,
    server: &mut Server,
    ready: Option<impl FnOnce(&Ready) -> Outcome>,
) -> Outcome {
    node.watch(&node.config())?;
    door.open(node.clone());
    server.reload_if_asked(node);
    if let Some(ready) = ready {
        ready(&Ready {
            node: node.directory().db().identity().node.to_string(),
            listen: node.replicas().listens_at().to_string(),
            http: server.address().to_string(),
        })?;
    }
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
