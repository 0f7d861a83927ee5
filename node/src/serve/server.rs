//! The listener, its connections, and how they end.
//!
//! At the first signal nothing new is accepted, idle connections are closed, and requests may finish; at a
//! second one, or when their time is up, they are cut off.

use super::node::Node;
use super::patience::Patient;
use super::routes::routes;
use super::signals::{Asked, EndOfInput, Signals};
use crate::error::Outcome;
use axum::Router;
use base::Error;
use esker_node::resilience::Timeout;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// Bytes of the head of a request: the longest URL and the longest key in a header.
const HEAD_LEN_MAX: usize = 256 << 10;
/// After a failed accept, such as for want of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where users connect, and what tells the node to stop.
pub(super) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    signals: Signals,
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
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    node.clone().reload_soon();
                    continue;
                }
            },
        };
        let (Ok((stream, _)), Ok(place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = converse(stream, node.clone(), router.clone(), draining.clone());
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
        () = tokio::time::sleep(node.timeout(Timeout::Drain)) => {}
        () = signals.stop() => {}
    }
    node.end_work();
    let patience = node.timeout(Timeout::Close);
    if tokio::time::timeout(patience, all_done(&mut connections)).await.is_err() {
        connections.shutdown().await;
    }
}

async fn all_done(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Answers the requests of one connection, one after the other, until it or the node ends.
async fn converse(
    stream: TcpStream,
    node: Arc<Node>,
    router: Router,
    mut draining: watch::Receiver<()>,
) {
    // Answers are small or already in large pieces.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    let builder = builder
        .timer(TokioTimer::new())
        .header_read_timeout(node.timeout(Timeout::HttpHead))
        .max_buf_size(HEAD_LEN_MAX);
    let stream = Patient::new(stream, node.timeout(Timeout::HttpAnswer));
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
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
