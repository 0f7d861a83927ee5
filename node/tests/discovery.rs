//! Nodes that find each other on the local network, as processes, with real datagrams on loopback; and
//! whatever else is said there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use base::NodeId;
use replication::discovery::{Beacon, SOURCE_MAX, mark_of};
use serde_json::Value;
use shell::group::{Home, is_online, peer, status, until, until_met};
use shell::{Place, Served, exchange};
use std::net::UdpSocket;
use std::time::Duration;

/// What reaches all nodes of this machine, and nobody else.
const ALL: &str = "127.255.255.255";

/// A port of its own for each test, and nodes that speak often on it.
struct Network {
    place: Place,
    port: u16,
}

impl Network {
    fn new() -> Network {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Network { place: Place::new(), port: socket.local_addr().unwrap().port() }
    }

    fn home(&self, name: &str) -> Home {
        Home::new(&self.place, name)
    }

    /// Starts `home`, which looks for members, with `peers`.
    fn start(&self, home: &Home, peers: &[&Home], more: &[&str]) -> Served {
        let file = self.place.path("node.toml");
        let text = format!(
            "[replication.discovery]\naddress = '{ALL}'\nport = {}\ninterval_ms = 200\nexpiry_ms = 1500\n",
            self.port
        );
        std::fs::write(&file, text).unwrap();
        let options = [&["--discover", "--config", file.to_str().unwrap()], more].concat();
        home.start_with(peers, &options)
    }

    /// Says `bytes` to all nodes, from the address `from`.
    fn say(&self, from: &str, bytes: &[u8]) {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(bytes, (ALL, self.port)).unwrap();
    }
}

/// The beacon of `node`, which says that it listens at `port`, in the group that is formed of `homes`.
fn beacon(homes: [&Home; 2], node: NodeId, port: u16) -> Vec<u8> {
    let mut members = homes.map(|home| id(&home.id));
    members.sort();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"esker group");
    for member in members {
        hasher.update(&member.0);
    }
    let mut group = [0; 16];
    hasher.finalize_xof().fill(&mut group);
    Beacon { mark: mark_of(group), node, port }.encode().to_vec()
}

fn id(text: &str) -> NodeId {
    NodeId(u128::from_str_radix(text, 16).unwrap().to_be_bytes())
}

/// Where `node` hears `other`.
fn heard(node: &Served, other: &Home) -> Vec<String> {
    let found = peer(node, other).unwrap()["found"].clone();
    let address = |at: &Value| at["address"].as_str().unwrap().to_owned();
    found.as_array().unwrap().iter().map(address).collect()
}

fn count(node: &Served, what: &str) -> u64 {
    status(node)["discovery"][what].as_u64().unwrap()
}

/// The number that `node` shows to Prometheus as `sample`.
fn metric(node: &Served, sample: &str) -> f64 {
    let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let text = String::from_utf8(exchange(&node.http, request).body).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| unreachable!("no {sample}")).parse().unwrap()
}

/// One listens elsewhere than before, and does not dial: the other finds it, and no more once it is gone.
#[test]
fn a_node_that_listens_at_another_port_than_before_is_found() {
    let network = Network::new();
    let (a, mut b) = (network.home("a"), network.home("b"));
    let one = network.start(&a, &[&b], &[]);
    let other = network.start(&b, &[&a], &["--role", "respond-only"]);
    until_met(&one, &[&b]);
    until("it is heard where it listens", || heard(&one, &b) == [b.listen.clone()]);
    assert_eq!(other.stop().0, Some(0));
    let before = std::mem::replace(&mut b.listen, network.home("port").listen);
    let other = network.start(&b, &[&a], &["--role", "respond-only"]);

    until("they have met again", || is_online(&one, &b));

    other.run("put moved 1").ok();
    until("what is written there comes here", || one.run("get moved").text() == "1\n");
    until("it is heard there only", || heard(&one, &b) == [b.listen.clone()]);
    assert_eq!(peer(&one, &b).unwrap()["address"], before.as_str(), "that is only a hint");
    let line = shell::group::peers(&one, &["list"]).ok().text().to_owned();
    assert!(line.trim_end().ends_with(&b.listen) && line.contains(&before), "{line}");
    assert_eq!(metric(&one, "esker_discovery_nodes{kind=\"member\"}"), 1.0);
    other.kill();
    until("silence is noticed", || heard(&one, &b).is_empty());
    assert_eq!(metric(&one, "esker_discovery_nodes{kind=\"member\"}"), 0.0);
    assert!(metric(&one, "esker_discovery_beacons_total{result=\"heard\"}") > 1.0);
    assert!(metric(&one, "esker_discovery_beacons_total{result=\"sent\"}") > 1.0);
}

/// A member that joined by an invitation, whose address nobody has configured, and which does not dial.
#[test]
fn a_member_that_nobody_gave_an_address_for_is_found() {
    let network = Network::new();
    let (a, b, c) = (network.home("a"), network.home("b"), network.home("c"));
    let one = network.start(&a, &[&b], &[]);
    let other = network.start(&b, &[&a], &[]);
    until_met(&one, &[&b]);
    let token = shell::group::peers(&one, &["invite"]).ok().text().trim().to_owned();
    let joiner = network.start(&c, &[], &["--join", &format!("{token}@{}", one.listen)]);
    until("both have met it", || is_online(&one, &c) && is_online(&other, &c));
    assert_eq!(joiner.stop().0, Some(0));

    let joiner = network.start(&c, &[], &["--role", "respond-only"]);

    until("both have found it", || is_online(&one, &c) && is_online(&other, &c));
    until("both hear it", || !heard(&one, &c).is_empty() && !heard(&other, &c).is_empty());
    joiner.run("put k v").ok();
}

#[test]
fn garbage_and_other_groups_are_counted_and_nothing_else() {
    let network = Network::new();
    let (a, b, alone) = (network.home("a"), network.home("b"), network.home("alone"));
    let one = network.start(&a, &[&b], &[]);
    let _other = network.start(&b, &[&a], &[]);
    until_met(&one, &[&b]);
    let _stranger = network.start(&alone, &[], &[]);
    until("the other group is heard", || count(&one, "foreign") > 0);
    let mut genuine = beacon([&a, &b], id(&b.id), 1);
    genuine[7] = 2;
    let refused = count(&one, "refused");
    for bytes in [&b""[..], b"hello", &[0xff; 41], &[0; 42], &[7; 1400], &genuine] {
        network.say("127.0.0.1", bytes);
    }
    until("all of it was refused", || count(&one, "refused") == refused + 6);
    let report = status(&one);
    assert_eq!(report["discovery"]["strangers"], serde_json::json!([]));
    assert_eq!(report["peers"].as_array().unwrap().len(), 1);
    assert!(is_online(&one, &b));
    assert!(peer(&one, &alone).is_none());
}

/// With the right mark, of a member, from an address that is not its own: it is one more address to try,
/// and nobody is worse off.
#[test]
fn who_lies_about_where_a_member_is_keeps_nobody_from_it() {
    let network = Network::new();
    let (a, b) = (network.home("a"), network.home("b"));
    let one = network.start(&a, &[&b], &[]);
    let other = network.start(&b, &[&a], &["--role", "respond-only"]);
    until_met(&one, &[&b]);
    let sessions = || peer(&one, &b).unwrap()["totals"]["sessions"].as_u64().unwrap();
    let before = sessions();
    let lie = || network.say("127.0.0.66", &beacon([&a, &b], id(&b.id), 9));
    let is_believed = || heard(&one, &b).contains(&"127.0.0.66:9".to_owned());
    until("the lie is heard", || {
        lie();
        is_believed()
    });
    assert!(is_online(&one, &b) && sessions() == before, "a link that is up is left alone");

    assert_eq!(other.stop().0, Some(0));
    until("it is gone", || !is_online(&one, &b));
    // Long enough for the liar's address to be dialed.
    for _ in 0..20 {
        lie();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(is_believed());
    let _other = network.start(&b, &[&a], &["--role", "respond-only"]);
    until("they have met again", || {
        lie();
        is_online(&one, &b)
    });
}

/// Whoever knows the group and is no member is shown, and neither dialed nor let in; there are few of them.
#[test]
fn strangers_are_shown_to_operators_and_are_few() {
    let network = Network::new();
    let (a, b) = (network.home("a"), network.home("b"));
    let one = network.start(&a, &[&b], &[]);
    let _other = network.start(&b, &[&a], &[]);
    until_met(&one, &[&b]);
    let strangers = || status(&one)["discovery"]["strangers"].as_array().unwrap().clone();
    until("all that there is room for are shown", || {
        for number in 1..100u8 {
            network.say("127.0.0.67", &beacon([&a, &b], NodeId([number; 16]), 9));
        }
        strangers().len() == SOURCE_MAX
    });
    assert!(strangers().iter().all(|it| it["address"] == "127.0.0.67:9"));
    assert!(count(&one, "refused") > 0);
    assert_eq!(status(&one)["peers"].as_array().unwrap().len(), 1);
    let text = shell::esker(["status", "--url", &one.url()]).ok().text().to_owned();
    assert!(text.contains("stranger: ") && text.contains(" at 127.0.0.67:9"), "{text}");
    until("they are forgotten", || strangers().is_empty());
}

/// Where nothing can be sent, the node says so and serves all the same.
#[test]
fn a_network_that_is_not_there_keeps_no_node_from_serving() {
    let place = Place::new();
    let file = place.path("node.toml");
    // An address of documentation, which no interface here has.
    let text =
        "[replication.discovery]\nenabled = true\naddress = '198.51.100.255'\ninterval_ms = 200\n";
    std::fs::write(&file, text).unwrap();
    let options = ["--config", file.to_str().unwrap()];
    let node = Served::start_with(&place.path("data"), &options);
    until("it says so", || status(&node)["discovery"]["trouble"].is_string());
    assert!(count(&node, "unsent") > 0 && count(&node, "sent") == 0);
    node.run("put k v").ok();
    assert_eq!(node.stop().0, Some(0));
}
