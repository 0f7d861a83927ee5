//! Nodes on free ports of loopback.

use base::NodeId;
use replication::link::{
    Arrival, Endpoint, Fingerprint, Link, LinkError, LinkKey, LinkSettings, Pins, Wire,
};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take before a test gives up.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// One node: its socket, its key and whom it trusts.
pub(crate) struct Node {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) key: Fingerprint,
    pub(crate) address: SocketAddr,
}

impl Node {
    /// The node whose seed is `seed` over and over.
    pub(crate) fn new(seed: u8) -> Node {
        Node::with(seed, settings())
    }

    pub(crate) fn with(seed: u8, settings: LinkSettings) -> Node {
        let wire = Wire::bind("127.0.0.1:0".parse().unwrap(), &settings).unwrap();
        let key = LinkKey::from_seed([seed; 32]).unwrap();
        let (fingerprint, pins) = (key.fingerprint(), Arc::new(Pins::default()));
        let endpoint = Endpoint::new(wire, key, pins.clone(), settings).unwrap();
        let address = endpoint.address().unwrap();
        Node { endpoint: Arc::new(endpoint), pins, key: fingerprint, address }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.key.node()
    }

    /// Lets `other` connect.
    pub(crate) fn trust(&self, other: &Node) {
        self.pins.pin(other.key, other.id());
    }

    pub(crate) async fn dial(&self, other: &Node) -> Result<Link, LinkError> {
        within(self.endpoint.dial(other.address, other.id())).await
    }

    pub(crate) async fn accept(&self) -> Link {
        match within(self.endpoint.arrival()).await {
            Some(Arrival::Peer(link)) => link,
            other => panic!("no peer has come, but {other:?}"),
        }
    }
}

/// Two nodes that trust each other.
pub(crate) fn pair() -> (Node, Node) {
    let (one, other) = (Node::new(1), Node::new(2));
    one.trust(&other);
    other.trust(&one);
    (one, other)
}

/// Shorter than in life, so that tests do not wait long.
pub(crate) fn settings() -> LinkSettings {
    LinkSettings {
        frame: Duration::from_millis(1500),
        hello: Duration::from_millis(1000).into(),
        ..LinkSettings::default()
    }
}

/// What `future` gives, if it does in time.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let done = tokio::time::timeout(BOUND, future).await;
        done.unwrap_or_else(|_| panic!("{caller}: nothing happened for {BOUND:?}"))
    }
}
