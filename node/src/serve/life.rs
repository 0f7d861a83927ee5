//! From a listener to a closed database: the threads of a node, and the order in which they begin and end.

use super::callers::Callers;
use super::door::Door;
use super::ending::ended;
use super::node::{Node, Reread};
use super::opening::Opening;
use super::server::Server;
use super::settings::Settings;
use super::signals::EndOfInput;
use crate::error::{Failure, Outcome};
use crate::place::{Directory, Place};
use crate::replicas::Replicas;
use base::Error;
use esker_node::resilience::Timeout;
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
pub(crate) fn serve(
    settings: &Settings,
    reread: Reread,
    open: impl FnOnce(&Opening) -> Outcome<Opened> + Send + 'static,
    ready: impl FnOnce(&Ready) -> Outcome,
) -> Outcome {
    let runtime = runtime()?;
    let timeouts = settings.config.timeouts();
    let callers = Arc::new(Callers::of(&settings.config)?);
    let slot = Slot::default();
    let (node, served) = runtime.block_on(async {
        let opening = Arc::new(Opening::default());
        let door = Door::new(opening.clone(), timeouts.clone(), callers.clone());
        let end = if settings.end_with_input { EndOfInput::Stops } else { EndOfInput::Ignored };
        let mut server = match Server::bind(settings.http, end, door.clone()).await {
            Ok(server) => server,
            Err(failure) => return (None, Err(failure)),
        };
        let opened = open_meanwhile(&mut server, opening, open, slot.clone()).await;
        let Opened { directory, replicas } = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return (None, Ok(())),
            Err(failure) => return (None, Err(failure)),
        };
        let (timeouts, callers) = (timeouts.clone(), callers.clone());
        let node = Node::new(directory, replicas, settings, timeouts, callers, reread);
        let node = Arc::new(node);
        let served = answer(server, &door, &node, settings, ready).await;
        (Some(node), served)
    });
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

/// Opens the database while `server` answers. None if it was called off; if that was too late, what was opened
/// is in `slot`.
async fn open_meanwhile(
    server: &mut Server,
    opening: Arc<Opening>,
    open: impl FnOnce(&Opening) -> Outcome<Opened> + Send + 'static,
    slot: Slot,
) -> Outcome<Option<Opened>> {
    let (told, left) = (opening.clone(), slot.clone());
    let mut job = tokio::task::spawn_blocking(move || {
        let opened = open(&told)?;
        *left.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        Ok(())
    });
    if let Some(opened) = server.answer_until(&mut job).await {
        let opened = opened.unwrap_or_else(|_| Err(ended()));
        return opened.map(|()| take(&slot)).map_err(|failure| failure.during("open"));
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

/// Answers with `node` until a signal, and then no more.
async fn answer(
    mut server: Server,
    door: &Door,
    node: &Arc<Node>,
    settings: &Settings,
    ready: impl FnOnce(&Ready) -> Outcome,
) -> Outcome {
    node.watch(&settings.config)?;
    door.open(node.clone());
    server.reload_if_asked(node);
    ready(&Ready {
        node: node.directory().db().identity().node.to_string(),
        listen: node.replicas().listens_at().to_string(),
        http: server.address().to_string(),
    })?;
    tracing::info!(http = %server.address(), "serving");
    while server.answer_until(std::future::pending::<()>()).await.is_some() {}
    server.end(node).await;
    tracing::info!("no requests any more");
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
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::replicas;
    use rustix::process::{Signal, getpid, kill_process};
    use serde_json::Value;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::Duration;

    /// A signal is for the whole process: one story at a time.
    static SIGNALS: Mutex<()> = Mutex::new(());

    /// A node whose database is opened when the story says so.
    struct Slow {
        dir: tempfile::TempDir,
        settings: Settings,
        go: Sender<()>,
        wait: Option<Receiver<()>>,
        /// Whether the opening hears that it is called off.
        ears: Ears,
        /// How often the configuration was read again.
        reloads: Arc<AtomicU32>,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Ears {
        Open,
        Closed,
    }

    impl Slow {
        fn new() -> Slow {
            let dir = tempfile::tempdir().unwrap();
            // A port that was free a moment ago.
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let path = dir.path().join("data");
            let text = format!("path = '{}'\nhttp = '{free}'\n", path.display());
            let mut layers = Layers::default();
            layers.read_file(&text, Path::new("node.toml"));
            let settings = Settings::of(layers.settle().unwrap()).unwrap();
            let (go, wait) = channel();
            let (ears, reloads) = (Ears::Open, Arc::default());
            Slow { dir, settings, go, wait: Some(wait), ears, reloads }
        }

        /// Serves until it ends; what is told when it is ready goes to `ready`.
        fn serve(&mut self, ready: Sender<()>) -> thread::JoinHandle<Outcome> {
            let (settings, wait) = (self.settings.clone(), self.wait.take().unwrap());
            let (ears, reloads) = (self.ears, self.reloads.clone());
            thread::spawn(move || {
                let of = settings.clone();
                let open = move |opening: &Opening| {
                    wait.recv().unwrap();
                    let options = of.config.engine_options();
                    let deaf = engine::Progress::default();
                    let progress = if ears == Ears::Open { opening.progress() } else { &deaf };
                    let directory = Directory::open_with(&of.path, options, progress)?;
                    let replicas = replicas::start(directory.db(), &of)?;
                    Ok(Opened { directory, replicas })
                };
                let again = settings.config.clone();
                let reread = Box::new(move || {
                    reloads.fetch_add(1, Ordering::SeqCst);
                    Ok(again.clone())
                });
                serve(&settings, reread, open, |_| {
                    ready.send(()).unwrap();
                    Ok(())
                })
            })
        }

        /// A connection, once it listens.
        fn connect(&self) -> TcpStream {
            for _ in 0..3000 {
                if let Ok(stream) = TcpStream::connect(self.settings.http) {
                    return stream;
                }
                thread::sleep(Duration::from_millis(10));
            }
            unreachable!("it never listened");
        }
    }

    /// Asks on a connection that stays: status, head and body.
    fn ask(stream: &mut TcpStream, path: &str) -> (u16, String, Value) {
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let len = field("content-length: ").unwrap().parse().unwrap();
        let mut body = vec![0; len];
        stream.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn stop() {
        kill_process(getpid(), Signal::TERM).unwrap();
    }

    /// Whether somebody answers on a new connection soon.
    fn is_answered(stream: &mut TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        write!(stream, "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        stream.read(&mut [0]).is_ok_and(|len| len > 0)
    }

    #[test]
    fn an_opening_that_was_called_off_too_late_is_closed_well() {
        let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slow = Slow::new();
        slow.ears = Ears::Closed;
        let (sender, ready) = channel();
        let node = slow.serve(sender);
        assert_eq!(ask(&mut slow.connect(), "/health/live").0, 200);
        stop();
        // Once it has heard, it takes no more connections and waits for the opening.
        while is_answered(&mut slow.connect()) {}
        slow.go.send(()).unwrap();
        node.join().unwrap().unwrap();
        assert!(ready.recv().is_err(), "it was never ready");
        let progress = engine::Progress::default();
        let options = slow.settings.config.engine_options();
        let again = Directory::open_with(&slow.settings.path, options, &progress).unwrap();
        assert!(again.db().recovery_report().was_closed, "it was not closed");
    }

    #[test]
    fn a_hangup_while_it_opens_is_heard_once_it_is_open() {
        let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slow = Slow::new();
        let (sender, ready) = channel();
        let node = slow.serve(sender);
        let mut stream = slow.connect();
        kill_process(getpid(), Signal::HUP).unwrap();
        // Signals are looked at between connections.
        for _ in 0..3 {
            assert_eq!(ask(&mut slow.connect(), "/health/live").0, 200);
        }
        assert_eq!(slow.reloads.load(Ordering::SeqCst), 0);
        slow.go.send(()).unwrap();
        ready.recv().unwrap();
        for _ in 0..3000 {
            if slow.reloads.load(Ordering::SeqCst) > 0 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(slow.reloads.load(Ordering::SeqCst), 1);
        assert_eq!(ask(&mut stream, "/health/ready").0, 200);
        stop();
        node.join().unwrap().unwrap();
    }

    #[test]
    fn it_is_alive_before_it_is_ready_and_answers_on_the_same_connection_then() {
        let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slow = Slow::new();
        let (sender, ready) = channel();
        let node = slow.serve(sender);
        let mut stream = slow.connect();
        assert_eq!(ask(&mut stream, "/health/live").0, 200);
        let (status, _, found) = ask(&mut stream, "/health/ready");
        assert_eq!((status, found["status"].as_str()), (503, Some("not_ready")));
        assert_eq!(found["recovery"]["phase"], "recovery");
        assert_eq!(found["recovery"]["stages"], 12);
        assert_eq!(ask(&mut stream, "/health").0, 503);
        assert_eq!(ask(&mut stream, "/").0, 200);
        assert_eq!(ask(&mut stream, "/v1/overview").0, 503);
        let record = "/v1/keyspaces/default/records/a";
        let (status, head, refused) = ask(&mut stream, record);
        assert_eq!((status, refused["code"].as_str()), (503, Some("Opening")));
        assert_eq!(refused["category"], "retryable");
        assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
        slow.go.send(()).unwrap();
        ready.recv().unwrap();
        assert_eq!(ask(&mut stream, "/health/ready").0, 200);
        assert_eq!(ask(&mut stream, record).0, 404);
        stop();
        node.join().unwrap().unwrap();
        assert!(slow.dir.path().join("data").is_dir());
    }

    #[test]
    fn an_opening_that_fails_ends_the_node_and_one_that_is_called_off_ends_it_well() {
        let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slow = Slow::new();
        std::fs::write(slow.dir.path().join("data"), "no directory").unwrap();
        let (sender, _ready) = channel();
        let node = slow.serve(sender);
        assert_eq!(ask(&mut slow.connect(), "/health/live").0, 200);
        slow.go.send(()).unwrap();
        assert_eq!(node.join().unwrap().unwrap_err().code(), "NotADatabase");
        assert!(TcpStream::connect(slow.settings.http).is_err());

        let mut slow = Slow::new();
        let (sender, ready) = channel();
        let node = slow.serve(sender);
        assert_eq!(ask(&mut slow.connect(), "/health/live").0, 200);
        stop();
        slow.go.send(()).unwrap();
        node.join().unwrap().unwrap();
        assert!(ready.recv().is_err(), "it was never ready");
    }
}
