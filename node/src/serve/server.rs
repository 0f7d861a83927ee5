//! The listener, its connections, and how they end.
//!
//! Whoever comes when all places are taken waits for one; only probes do not, so that a node under full load
//! is not taken for dead.
//!
//! At the first signal nothing new is accepted, idle connections are closed, and requests may finish; at a
//! second one, or when their time is up, they are cut off.

use super::door::Door;
use super::node::Node;
use super::patience::Patient;
use super::signals::{Asked, EndOfInput, Signals};
use crate::error::Outcome;
use axum::body::Body;
use base::Error;
use esker_node::resilience::Timeout;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Connections that are answered at a time.
const CONNECTIONS_MAX: usize = 256;
/// Further ones that are accepted: probes are answered, other requests wait until there is a place.
const WAITING_MAX: usize = 32;
/// What is answered also to who has no place.
const PROBES: &str = "/health";
/// Bytes of the head of a request: the longest URL and the longest key in a header.
const HEAD_LEN_MAX: usize = 256 << 10;
/// After a failed accept, such as for want of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where users connect, their connections, and what tells the node to stop.
pub(super) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    signals: Signals,
    door: Door,
    connections: JoinSet<()>,
    room: Arc<Semaphore>,
    /// Of those that have a place and those that wait for one.
    entrance: Arc<Semaphore>,
    /// The configuration is to be read again, once there is somebody who does it.
    wants_reload: bool,
    /// Dropped when connections are to end.
    drain: watch::Sender<()>,
    draining: watch::Receiver<()>,
}

impl Server {
    /// Listens at `http` for `door`. From here on signals are caught.
    pub(super) async fn bind(http: SocketAddr, end: EndOfInput, door: Door) -> Outcome<Server> {
        let failed = |e| Error::io("listen at", http.to_string(), e);
        let listener = TcpListener::bind(http).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (drain, draining) = watch::channel(());
        Ok(Server {
            listener,
            address,
            signals: Signals::catch(end)?,
            door,
            connections: JoinSet::new(),
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            entrance: Arc::new(Semaphore::new(CONNECTIONS_MAX + WAITING_MAX)),
            wants_reload: false,
            drain,
            draining,
        })
    }

    /// Where it listens, with the port that the system chose.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `end` is there, which it returns, or until a signal asks to stop.
    pub(super) async fn answer_until<T>(&mut self, end: impl Future<Output = T>) -> Option<T> {
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = async {
                let entered = self.entrance.clone().acquire_owned().await;
                (self.listener.accept().await, entered)
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                ended = end.as_mut() => return Some(ended),
                asked = self.signals.next() => match (asked, self.door.node()) {
                    (Asked::Stop, _) => return None,
                    (Asked::Reload, Some(node)) => {
                        node.reload_soon();
                        continue;
                    }
                    (Asked::Reload, None) => {
                        self.wants_reload = true;
                        continue;
                    }
                },
            };
            let (Ok((stream, _)), Ok(entered)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let visitor = Visitor::new(self.door.clone(), self.room.clone());
            let connection = converse(stream, visitor, self.draining.clone());
            self.connections.spawn(async move {
                connection.await;
                drop(entered);
            });
            while self.connections.try_join_next().is_some() {}
        }
    }

    /// Lets `node` do what it was asked for before it was there.
    pub(super) fn reload_if_asked(&mut self, node: &Arc<Node>) {
        if std::mem::take(&mut self.wants_reload) {
            node.clone().reload_soon();
        }
    }

    /// Waits for a signal that asks to stop.
    pub(super) async fn stop(&mut self) {
        self.signals.stop().await;
    }

    /// Accepts nothing more, and ends all connections with `node`.
    pub(super) async fn end(self, node: &Node) {
        let Server { listener, mut signals, mut connections, drain, .. } = self;
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
}

async fn all_done(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Who is on a connection, with a place or waiting for one.
struct Visitor {
    door: Door,
    room: Arc<Semaphore>,
    place: Arc<OnceLock<OwnedSemaphorePermit>>,
}

impl Visitor {
    /// Somebody who takes a place if there is one.
    fn new(door: Door, room: Arc<Semaphore>) -> Visitor {
        let place = OnceLock::new();
        if let Ok(free) = room.clone().try_acquire_owned() {
            let _ = place.set(free);
        }
        Visitor { door, room, place: Arc::new(place) }
    }
}

impl Service<Request<Incoming>> for Visitor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let is_probe = request.uri().path().starts_with(PROBES);
        if is_probe || self.place.get().is_some() {
            return Box::pin(self.door.call(request));
        }
        let (door, room, place) = (self.door.clone(), self.room.clone(), self.place.clone());
        Box::pin(async move {
            if let Ok(free) = room.acquire_owned().await {
                let _ = place.set(free);
            }
            door.call(request).await
        })
    }
}

/// Answers the requests of one connection, one after the other, until it or the node ends.
async fn converse(stream: TcpStream, visitor: Visitor, mut draining: watch::Receiver<()>) {
    let door = &visitor.door;
    // Answers are small or already in large pieces.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    let builder = builder
        .timer(TokioTimer::new())
        .header_read_timeout(door.timeout(Timeout::HttpHead))
        .max_buf_size(HEAD_LEN_MAX);
    let stream = Patient::new(stream, door.timeout(Timeout::HttpAnswer));
    let connection = builder.serve_connection(TokioIo::new(stream), visitor);
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
