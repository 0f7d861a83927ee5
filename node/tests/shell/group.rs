//! Nodes that know each other, each at an address that stays.

use super::{Ended, Place, Served, esker};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long anything may take that only has to happen sooner or later.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that stays free while nobody listens there: the system gives none of these to who asks for any.
fn port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() * 89 % 22_000;
    let ports = std::iter::repeat_with(|| {
        let at = first + u32::from(TAKEN.fetch_add(1, Relaxed));
        10_000 + u16::try_from(at % 22_000).expect("it is small")
    });
    let is_free = |port: &u16| UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    ports.take(1_000).find(is_free).expect("there is a port")
}

/// A node that can be started again at the same address.
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    pub(crate) id: String,
    pub(crate) listen: String,
}

impl Home {
    /// An empty database in `name`.
    pub(crate) fn new(place: &Place, name: &str) -> Home {
        let path = place.path(name);
        let directory = path.display().to_string();
        let said = esker(["init", "--path", &directory, "--output", "json"]).ok().json();
        let id = said[0]["node"].as_str().expect("a node has a name").to_owned();
        // The nodes must know each other's addresses before they start.
        Home { path, id, listen: format!("127.0.0.1:{}", port()) }
    }

    /// How others are told of it.
    pub(crate) fn address(&self) -> String {
        format!("{}@{}", self.id, self.listen)
    }

    /// Starts it with `peers`.
    pub(crate) fn start(&self, peers: &[&Home]) -> Served {
        self.start_with(peers, &[])
    }

    /// Starts it with `peers` and more options.
    pub(crate) fn start_with(&self, peers: &[&Home], more: &[&str]) -> Served {
        let peers: Vec<String> = peers.iter().map(|peer| peer.address()).collect();
        let mut options = vec!["--listen", &self.listen];
        peers.iter().for_each(|peer| options.extend(["--peer", peer]));
        options.extend(more);
        Served::start_with(&self.path, &options)
    }
}

/// Runs `esker peers` on a node.
pub(crate) fn peers(node: &Served, words: &[&str]) -> Ended {
    let url = node.url();
    esker([&["peers"], words, &["--url", &url]].concat())
}

/// What `node` says of its peer `other`, if it knows it.
pub(crate) fn peer(node: &Served, other: &Home) -> Option<serde_json::Value> {
    let all = peers(node, &["list", "--output", "json"]).ok().json();
    all.into_iter().find(|peer| peer["node"] == other.id.as_str())
}

/// Waits until `node` has links to all `others`.
pub(crate) fn until_met(node: &Served, others: &[&Home]) {
    until("they have met", || others.iter().all(|other| is_online(node, other)));
}

/// Whether `node` has a link to `other`.
pub(crate) fn is_online(node: &Served, other: &Home) -> bool {
    peer(node, other).is_some_and(|peer| peer["online"] == true)
}

/// The class of `other`, as `node` sees it.
pub(crate) fn class(node: &Served, other: &Home) -> String {
    let peer = peer(node, other).expect("it is a peer");
    peer["class"].as_str().expect("it has a class").to_owned()
}

/// How `node` says that it is.
pub(crate) fn status(node: &Served) -> serde_json::Value {
    esker(["status", "--url", &node.url(), "--output", "json"]).ok().json().remove(0)
}

/// Waits until `is_so`, and returns how long that took.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "still waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// Waits until all `nodes` have the same content.
pub(crate) fn until_equal(what: &str, nodes: &[&Served]) {
    until(what, || {
        let digests: Vec<String> =
            nodes.iter().map(|node| node.run("digest").ok().text().to_owned()).collect();
        digests.windows(2).all(|pair| pair[0] == pair[1])
    });
}
