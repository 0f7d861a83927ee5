//! The listener, its connections, and how they end.
//!
//! At the first signal nothing new is accepted, idle connections are closed, and requests may finish; at a
//! second one, or when their time is up, they are cut off.

use super::node::Node;
use super::patience::Patient;
use super::routes::routes;
use crate::error::Outcome;
use crate::files;
use axum::Router;
use base::Error;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take, or a connection be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the head of a request: the longest URL and the longest key in a header.
const HEAD_LEN_MAX: usize = 256 << 10;
/// After a failed accept, such as for want of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests may go on after the first signal, and after that to notice that they are cut off.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
const CUT_PATIENCE: Duration = Duration::from_secs(5);

/// Where users connect, and what tells the node to stop.
pub(super) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    signals: Signals,
}

/// The signals that tell a node to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Tells once if standard input has ended.
    input: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// From here on they are caught.
    fn catch(end: EndOfInput) -> Outcome<Signals> {
        let catch = |kind| signal(kind).map_err(|e| Error::io("catch", "signals", e));
        Ok(Signals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            input: match end {
                EndOfInput::Ignored => None,
                EndOfInput::Stops => Some(listen_to_input()),
            },
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = end_of(&mut self.input) => {}
        }
    }
}

/// What the end of standard input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndOfInput {
    /// Nothing.
    Ignored,
    /// That the node is to stop.
    Stops,
}

/// Tells when standard input ends. The thread that waits for it is not waited for.
fn listen_to_input() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        files::wait_for_the_end_of_input();
        // Nobody listens once the node has stopped.
        let _ = sender.send(());
    });
    receiver
}

/// Waits for `input` to tell, which it does once.
async fn end_of(input: &mut Option<oneshot::Receiver<()>>) {
    match input {
        Some(told) => {
            let _ = told.await;
            *input = None;
        }
        None => std::future::pending().await,
    }
}

impl Listener {
    /// Listens at `http`. From here on signals are caught.
    pub(super) async fn bind(http: SocketAddr, end: EndOfInput) -> Outcome<Listener> {
        let failed = |e| Error::io("listen at", http.to_string(), e);
        let listener = TcpListener::bind(http).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Listener { listener, address, signals: Signals::catch(end)? })
    }

    /// Where it listens, with the port that the system chose.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until a signal, then ends all connections.
pub(super) async fn run(listener: Listener, node: Arc<Node>) {
    let Listener { listener, mut signals, .. } = listener;
    let (drain, draining) = watch::channel(());
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let router = routes(node.clone());
    loop {
        let accepted = async {
            let place = room.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = signals.next() => break,
        };
        let (Ok((stream, _)), Ok(place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = converse(stream, router.clone(), draining.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    node.begin_drain();
    // Whoever comes now is refused instead of waiting for nobody.
    drop(listener);
    drop(drain);
    tokio::select! {
        () = all_done(&mut connections) => return,
        () = tokio::time::sleep(DRAIN_PATIENCE) => {}
        () = signals.next() => {}
    }
    node.end_work();
    if tokio::time::timeout(CUT_PATIENCE, all_done(&mut connections)).await.is_err() {
        connections.shutdown().await;
    }
}

async fn all_done(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Answers the requests of one connection, one after the other, until it or the node ends.
async fn converse(stream: TcpStream, router: Router, mut draining: watch::Receiver<()>) {
    // Answers are small or already in large pieces.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    let builder = builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_LEN_MAX);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(Patient::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on a connection is between it and its client.
    tokio::select! {
        _ = connection.as_mut() => return,
        // The sender says nothing: it goes.
        _ = draining.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
