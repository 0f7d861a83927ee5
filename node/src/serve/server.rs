//! The listener, its connections, and how they end.
//!
//! Who has a place and says nothing gives way to whoever comes (`room`). Whoever comes when all places are busy is a
//! guest: probes of guests are answered, so that a node under full load is not taken for dead; some of their
//! requests wait for a place, the others are refused. Guests have to speak at once, and go after one answer, so that
//! they do not keep others out.
//!
//! At the first signal nothing new is accepted, idle connections are closed, and requests may finish; at a
//! second one, or when their time is up, they are cut off.

use super::datasets::House;
use super::door::Door;
use super::node::Node;
use super::patience::Patient;
use super::refusal::Refusal;
use super::room::{Answer, Room, Seat, Standing};
use super::signals::{Asked, EndOfInput, Signals};
use crate::error::{Outcome, listen_failed};
use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::response::IntoResponse;
use esker_node::resilience::{Timeout, Timeouts};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections that are answered at a time.
const CONNECTIONS_MAX: usize = 256;
/// Further ones that are accepted, of guests.
const GUESTS_MAX: usize = 256;
/// Requests of guests that wait for a place at a time.
const WAITING_MAX: usize = 32;
/// In which a guest has to say what it wants.
const GUEST_HEAD: Duration = Duration::from_secs(1);
/// What is answered also to guests.
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
    house: House,
    timeouts: Timeouts,
    connections: JoinSet<()>,
    room: Room,
    /// Of those that have a place, and guests.
    entrance: Arc<Semaphore>,
    /// The configuration is to be read again, once there is somebody who does it.
    wants_reload: bool,
    /// Dropped when connections are to end.
    drain: watch::Sender<()>,
    draining: watch::Receiver<()>,
}

impl Server {
    /// Listens at `http` for `house`. From here on signals are caught.
    pub(super) async fn bind(
        http: SocketAddr,
        end: EndOfInput,
        house: House,
        timeouts: Timeouts,
    ) -> Outcome<Server> {
        let failed = |e| listen_failed(http, &e);
        let listener = TcpListener::bind(http).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (drain, draining) = watch::channel(());
        Ok(Server {
            listener,
            address,
            signals: Signals::catch(end)?,
            house,
            timeouts,
            connections: JoinSet::new(),
            room: Room::new(CONNECTIONS_MAX, WAITING_MAX),
            entrance: Arc::new(Semaphore::new(CONNECTIONS_MAX + GUESTS_MAX)),
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
                asked = self.signals.next() => match (asked, self.house.main().node()) {
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
            let visitor = Visitor { house: self.house.clone(), seat: Seat::new(&self.room) };
            let timeouts = self.timeouts.clone();
            let connection = converse(stream, visitor, timeouts, self.draining.clone());
            self.connections.spawn(async move {
                connection.await;
                drop(entered);
            });
            while self.connections.try_join_next().is_some() {}
        }
    }

    /// Lets the node do what it was asked for before it was there.
    pub(super) fn reload_if_asked(&mut self) {
        if let Some(node) = self.house.main().node()
            && std::mem::take(&mut self.wants_reload)
        {
            node.reload_soon();
        }
    }

    /// Waits for a signal that asks to stop.
    pub(super) async fn stop(&mut self) {
        self.signals.stop().await;
    }

    /// Accepts nothing more, and ends all connections with `nodes`.
    pub(super) async fn end(self, nodes: &[Arc<Node>]) {
        let Server { listener, mut signals, mut connections, drain, timeouts, .. } = self;
        nodes.iter().for_each(|node| node.begin_drain());
        // Whoever comes now is refused instead of waiting for nobody.
        drop(listener);
        drop(drain);
        tokio::select! {
            () = all_done(&mut connections) => return,
            () = tokio::time::sleep(timeouts.get(Timeout::Drain)) => {}
            () = signals.stop() => {}
        }
        nodes.iter().for_each(|node| node.end_work());
        let patience = timeouts.get(Timeout::Close);
        if tokio::time::timeout(patience, all_done(&mut connections)).await.is_err() {
            connections.shutdown().await;
        }
    }
}

async fn all_done(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Who is on a connection, with a place or as a guest.
struct Visitor {
    house: House,
    seat: Arc<Seat>,
}

impl Visitor {
    /// How long it may take to say what it wants, if those who have a place may take `head`.
    fn head_timeout(&self, head: Duration) -> Duration {
        match self.seat.standing() {
            Standing::Seated => head,
            Standing::Guest => head.min(GUEST_HEAD),
        }
    }
}

impl Service<Request<Incoming>> for Visitor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let door = self.house.lead(&mut request);
        let seat = self.seat.clone();
        if seat.ask() == Standing::Seated {
            let answering = door.call(request);
            return Box::pin(async move {
                Ok(answering.await?.map(|body| Body::new(Answer::new(body, seat))))
            });
        }
        let is_probe = request.uri().path().starts_with(PROBES);
        let door = door.clone();
        Box::pin(async move {
            let mut response = match is_probe || seat.wait().await {
                true => door.call(request).await?,
                false => refuse(&door, &request),
            };
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        })
    }
}

/// The answer to a guest who can not even wait.
fn refuse(door: &Door, request: &Request<Incoming>) -> Response<Body> {
    let response = Refusal::overloaded("room for connections").into_response();
    if let Some(node) = door.node() {
        let (method, status) = (request.method().as_str(), response.status().as_u16());
        node.requests().answered(method, "none", status, Duration::ZERO);
    }
    response
}

/// Answers the requests of one connection, one after the other, until it or the node ends.
async fn converse(
    stream: TcpStream,
    visitor: Visitor,
    timeouts: Timeouts,
    mut draining: watch::Receiver<()>,
) {
    // Answers are small or already in large pieces.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    let builder = builder
        .timer(TokioTimer::new())
        .header_read_timeout(visitor.head_timeout(timeouts.get(Timeout::HttpHead)))
        .max_buf_size(HEAD_LEN_MAX);
    let seat = visitor.seat.clone();
    let stream = Patient::new(stream, timeouts.get(Timeout::HttpAnswer)).telling(seat.clone());
    let connection = builder.serve_connection(TokioIo::new(stream), visitor);
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on a connection is between it and its client.
    tokio::select! {
        _ = connection.as_mut() => return,
        // All that was said is answered.
        () = seat.gives_way() => return,
        // The sender says nothing: it goes.
        _ = draining.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
