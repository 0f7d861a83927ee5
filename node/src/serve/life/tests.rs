//! The life of a node, with everything in this process: openings that are slow, called off, or needed again.

mod disk;
mod panics;

use super::*;
use crate::config::Layers;
use crate::replicas;
use base::fs::{Fault, FaultPlan, SimFs, SimOp};
use base::{Clock, OsRng, SystemClock};
use engine::{Db, Platform};
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
        Slow::with("")
    }

    /// With more `settings`.
    fn with(settings: &str) -> Slow {
        let dir = tempfile::tempdir().unwrap();
        // A port that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = dir.path().join("data");
        let text = format!("path = '{}'\nhttp = '{free}'\n{settings}", path.display());
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
            let wait = Mutex::new(wait);
            let open = move |of: &Settings, opening: &Opening| {
                wait.lock().unwrap().recv().unwrap();
                let options = of.config.engine_options();
                let deaf = engine::Progress::default();
                let progress = if ears == Ears::Open { opening.progress() } else { &deaf };
                let directory = Directory::open_with(&of.path, options, progress)?;
                let replicas = replicas::start(directory.db(), of)?;
                Ok(Opened { directory, replicas })
            };
            let again = settings.config.clone();
            let reread = Arc::new(move || {
                reloads.fetch_add(1, Ordering::SeqCst);
                Ok(again.clone())
            });
            serve(&settings, reread, open, |_| {
                ready.send(()).unwrap();
                Ok(())
            })
        })
    }

    /// Waits until it is so.
    fn until(&self, mut is_so: impl FnMut() -> bool) {
        for _ in 0..3000 {
            if is_so() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        unreachable!("it never was so at {}", self.settings.http);
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
    answer(stream)
}

/// The status of a put on a connection that stays, and the code of its failure.
fn put(stream: &mut TcpStream, key: &str) -> (u16, Value) {
    put_at(stream, "", key)
}

/// The same below `url`.
fn put_at(stream: &mut TcpStream, url: &str, key: &str) -> (u16, Value) {
    let path = format!("{url}/v1/keyspaces/default/records/{key}");
    let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n");
    write!(stream, "{head}\r\n1").unwrap();
    let (status, _, said) = answer(stream);
    (status, said["code"].clone())
}

fn answer(stream: &mut TcpStream) -> (u16, String, Value) {
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

/// Serves a database on `disk`; everything is in this process.
fn serve_on(disk: &SimFs, slow: &Slow) -> thread::JoinHandle<Outcome> {
    serve_with(&[disk], Arc::new(SystemClock::default()), slow)
}

/// Serves a main database on the first of `disks` and its datasets on the second.
fn serve_all_on(disks: &[&SimFs], slow: &Slow) -> thread::JoinHandle<Outcome> {
    serve_with(disks, Arc::new(SystemClock::default()), slow)
}

/// As [`serve_all_on`], by another clock.
fn serve_with(disks: &[&SimFs], clock: Arc<dyn Clock>, slow: &Slow) -> thread::JoinHandle<Outcome> {
    let disks: Vec<SimFs> = disks.iter().map(|disk| (*disk).clone()).collect();
    let (settings, reloads) = (slow.settings.clone(), slow.reloads.clone());
    thread::spawn(move || {
        let open = move |of: &Settings, opening: &Opening| {
            let disk = &disks[usize::from(of.dataset.is_some())];
            let (fs, rng) = (Arc::new(disk.clone()), Arc::new(OsRng));
            let platform = Platform { fs, clock: clock.clone(), rng };
            let db = Db::open_on(platform, of.config.engine_options())?;
            let listen = opening.before().unwrap_or(of.listen);
            let replicas = replicas::start(&db, &Settings { listen, ..of.clone() })?;
            Ok(Opened { directory: Directory::of(db, &of.path), replicas })
        };
        let config = settings.config.clone();
        let reread = Arc::new(move || {
            reloads.fetch_add(1, Ordering::SeqCst);
            Ok(config.clone())
        });
        serve(&settings, reread, open, |_| Ok(()))
    })
}

#[test]
fn a_poisoned_database_is_opened_again_so_often_and_stays_where_it_was() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let slow = Slow::with("[remedies]\nreopen_per_hour = 1\n");
    let disk = SimFs::new(7);
    let node = serve_on(&disk, &slow);
    let mut stream = slow.connect();
    slow.until(|| put(&mut stream, "before").0 == 200);
    let listens = ask(&mut stream, "/v1/status").2["listen"].clone();
    disk.inject(FaultPlan::new(SimOp::SyncData, Fault::Io).on("wal"));
    assert_ne!(put(&mut stream, "during").0, 200, "the disk fails");
    slow.until(|| put(&mut stream, "after").0 == 200);
    for key in ["before", "after"] {
        let path = format!("/v1/keyspaces/default/records/{key}");
        assert_eq!(ask(&mut stream, &path).0, 200, "{key}");
    }
    assert_eq!(ask(&mut stream, "/v1/status").2["listen"], listens);
    // A signal may have come while there was no node.
    slow.until(|| slow.reloads.load(Ordering::SeqCst) == 1);
    let remedies = ask(&mut stream, "/v1/remedies").2;
    assert_eq!(
        (&remedies["reopen"]["taken"], &remedies["reopen"]["state"]),
        (&1.into(), &"used-up".into())
    );

    disk.inject(FaultPlan::new(SimOp::SyncData, Fault::Io).on("wal"));
    assert_ne!(put(&mut stream, "again").0, 200);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(put(&mut stream, "late").1, "Poisoned");
    assert_eq!(ask(&mut stream, "/v1/remedies").2["reopen"]["taken"], 1);
    stop();
    assert_eq!(node.join().unwrap().unwrap_err().code(), "Poisoned");
}

#[test]
fn a_poisoned_dataset_is_opened_again_while_the_others_go_on() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let slow = Slow::with("[datasets.orders]\npath = 'orders'\n");
    let (disk, of_orders) = (SimFs::new(7), SimFs::new(8));
    let node = serve_all_on(&[&disk, &of_orders], &slow);
    let mut stream = slow.connect();
    let orders = "/v1/datasets/orders";
    slow.until(|| put_at(&mut stream, orders, "before").0 == 200);
    of_orders.inject(FaultPlan::new(SimOp::SyncData, Fault::Io).on("wal"));
    assert_ne!(put_at(&mut stream, orders, "during").0, 200, "the disk fails");
    slow.until(|| {
        assert_eq!(put(&mut stream, "main").0, 200, "nothing has happened to it");
        put_at(&mut stream, orders, "after").0 == 200
    });
    for key in ["before", "after"] {
        let path = format!("{orders}/v1/keyspaces/default/records/{key}");
        assert_eq!(ask(&mut stream, &path).0, 200, "{key}");
    }
    let taken = |stream: &mut TcpStream, url: &str| {
        ask(stream, &format!("{url}/v1/remedies")).2["reopen"]["taken"].clone()
    };
    assert_eq!((taken(&mut stream, orders), taken(&mut stream, "")), (1.into(), 0.into()));
    stop();
    node.join().unwrap().unwrap();
}

/// Serves a main database, and a dataset that is only opened when the story says so.
#[test]
fn no_database_answers_users_before_all_are_open() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let slow = Slow::with("[datasets.orders]\npath = 'orders'\n");
    let (go, wait) = channel::<()>();
    let (settings, wait, main) = (slow.settings.clone(), Mutex::new(wait), SimFs::new(9));
    let node = thread::spawn(move || {
        let open = move |of: &Settings, _: &Opening| {
            let disk = match of.dataset {
                Some(_) => {
                    wait.lock().unwrap().recv().unwrap();
                    SimFs::new(10)
                }
                None => main.clone(),
            };
            let (fs, rng) = (Arc::new(disk), Arc::new(OsRng));
            let platform = Platform { fs, clock: Arc::new(SystemClock::default()), rng };
            let db = Db::open_on(platform, of.config.engine_options())?;
            let replicas = replicas::start(&db, of)?;
            Ok(Opened { directory: Directory::of(db, &of.path), replicas })
        };
        serve(&settings, Arc::new(|| unreachable!("nobody asks")), open, |_| Ok(()))
    });
    let mut stream = slow.connect();
    // Time enough for the main one.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(put(&mut stream, "early").1, "Opening");
    assert_eq!(ask(&mut stream, "/health/ready").0, 503);
    go.send(()).unwrap();
    slow.until(|| put(&mut stream, "late").0 == 200);
    assert_eq!(put_at(&mut stream, "/v1/datasets/orders", "late").0, 200);
    stop();
    node.join().unwrap().unwrap();
}
