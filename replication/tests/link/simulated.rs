//! Meshes on a made-up network. Each story is a seed, and a seed is always the same story.

use crate::toy::{Talkers, Toys};
use base::NodeId;
use base::rng::SeededRng;
use replication::link::sim::{Counts, SimNet, Weather, simulate};
use replication::link::{
    Arrival, Bell, BreakerSettings, BreakerState, Calls, Desk, Driving, Endpoint, Fingerprint,
    Limit, LinkError, LinkKey, LinkSettings, Mesh, MeshParts, Parting, Pins, Then, establish,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    pub(crate) toys: Arc<Toys>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) id: NodeId,
    pub(crate) key: Fingerprint,
    pub(crate) address: SocketAddr,
}

pub(crate) fn node(net: &SimNet, number: u8, toys: Arc<Toys>) -> Node {
    let (endpoint, pins) = endpoint(net, number, LinkSettings::default());
    let (fingerprint, address) = (endpoint.key(), endpoint.address().unwrap());
    let register = Arc::new(|_, _, _| Ok(b"roster".to_vec()));
    let mesh = Mesh::start(MeshParts {
        endpoint: Arc::new(endpoint),
        node: fingerprint.node(),
        desk: Arc::new(Desk::new(fingerprint, pins.clone(), register, Calls::Inline)),
        conversations: Arc::new(Talkers(toys.clone())),
        driving: Driving::new(Calls::Inline, Bell::default()),
        breaker: BreakerSettings::default(),
        rng: Arc::new(SeededRng::new(number.into())),
    });
    Node { mesh, toys, pins, id: fingerprint.node(), key: fingerprint, address }
}

/// The socket of a node, and whom it trusts.
fn endpoint(net: &SimNet, number: u8, settings: LinkSettings) -> (Endpoint, Arc<Pins>) {
    let address: SocketAddr = format!("10.0.0.{number}:7000").parse().unwrap();
    let key = LinkKey::from_seed([number; 32]).unwrap();
    let pins = Arc::new(Pins::default());
    (Endpoint::new(net.wire(address), key, pins.clone(), settings).unwrap(), pins)
}

/// Two nodes that trust and dial each other.
fn pair(net: &SimNet, blobs: u32, blob_len: usize) -> (Node, Node) {
    let one = node(net, 1, Toys::sending(blobs, blob_len));
    let other = node(net, 2, Toys::sending(blobs, blob_len));
    for (node, peer) in [(&one, &other), (&other, &one)] {
        node.pins.pin(peer.key, peer.id);
        node.mesh.keep(peer.id, peer.address);
    }
    (one, other)
}

/// Waits until both have all blobs of the other, or a simulated hour has passed.
async fn settled(one: &Node, other: &Node, blobs: u32) {
    for (node, peer) in [(one, other), (other, one)] {
        let has_all = node.toys.until(|toys| toys.has_all(peer.id, blobs));
        if timeout(HOUR, has_all).await.is_err() {
            let ends = (node.toys.ends().len(), node.toys.ends().pop());
            panic!("not all has come to {:?}, whose links ended {ends:?}", node.mesh);
        }
    }
}

/// A storm, a partition of half a minute, and a one-way cut, in the middle of a transfer.
async fn rough_story(net: SimNet) -> (String, Counts, Duration) {
    let began = Instant::now();
    net.weather(Weather::storm());
    let (one, other) = pair(&net, 40, 30_000);
    sleep(Duration::from_millis(300)).await;
    net.partition(&[one.address], &[other.address]);
    sleep(Duration::from_secs(30)).await;
    net.heal();
    net.cut(one.address, other.address);
    sleep(Duration::from_secs(25)).await;
    net.heal();
    settled(&one, &other, 40).await;
    (net.trace(), net.counts(), began.elapsed())
}

/// Three runs of one seed send the same packets at the same moments; another seed others.
#[test]
fn a_seed_replays_to_the_identical_packets() {
    let runs: Vec<_> = (0..3).map(|_| simulate(1, rough_story).unwrap()).collect();
    println!("{}: {:?} in {:?}", runs[0].0, runs[0].1, runs[0].2);
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0], runs[2]);
    let other = simulate(2, rough_story).unwrap();
    assert_ne!(runs[0].0, other.0);
    let Counts { sent, delivered, lost, cut, doubled, .. } = runs[0].1;
    assert!(sent > 500 && delivered > 400 && lost > 5 && cut > 2 && doubled > 2, "{:?}", runs[0].1);
}

/// Whatever the network does, once it heals every blob is there once and in order.
#[test]
fn links_come_back_after_every_storm() {
    for seed in 10..30 {
        simulate(seed, rough_story).unwrap();
    }
}

/// Both dial at once, again and again: each ends with one link, and it is the same.
#[test]
fn of_two_links_of_a_pair_that_of_the_lower_name_survives() {
    for seed in 0..20 {
        simulate(seed, |net| async move {
            let (one, other) = pair(&net, 3, 100);
            settled(&one, &other, 3).await;
            sleep(Duration::from_secs(60)).await;
            let (here, there) = (one.mesh.peers(), other.mesh.peers());
            assert_eq!((here.len(), there.len()), (1, 1));
            let (_, dialed_here) = here[0].link.unwrap();
            let (_, dialed_there) = there[0].link.unwrap();
            assert_ne!(dialed_here, dialed_there, "they keep the same link, seed {seed}");
            settled(&one, &other, 3).await;
            assert!(one.toys.began(other.id) <= 2, "and keep it, seed {seed}");
        })
        .unwrap();
    }
}

/// A peer that is not there is dialed ever more rarely, and linked soon after it has come.
#[test]
fn an_absent_peer_trips_the_breaker_and_is_linked_once_it_is_there() {
    simulate(5, |net| async move {
        let one = node(&net, 1, Toys::sending(1, 10));
        let key = LinkKey::from_seed([2; 32]).unwrap().fingerprint();
        one.pins.pin(key, key.node());
        one.mesh.keep(key.node(), "10.0.0.2:7000".parse().unwrap());
        sleep(Duration::from_secs(40)).await;
        assert_eq!(one.mesh.peers()[0].breaker, BreakerState::Open);
        let before = net.counts().sent;
        sleep(Duration::from_secs(20)).await;
        assert!(net.counts().sent - before < 50, "it is left alone");

        let other = node(&net, 2, Toys::sending(1, 10));
        other.pins.pin(one.key, one.id);

        let there = other.toys.until(|toys| toys.has_all(one.id, 1));
        timeout(Duration::from_secs(120), there).await.unwrap();
    })
    .unwrap();
}

/// A node that crashes and comes back at the same address is linked again.
#[test]
fn a_peer_that_restarts_is_linked_again() {
    simulate(6, |net| async move {
        let (one, other) = pair(&net, 5, 1000);
        settled(&one, &other, 5).await;
        net.unplug(other.address);
        drop(other);
        sleep(Duration::from_secs(40)).await;
        assert!(one.mesh.peers()[0].link.is_none(), "silence is noticed");

        let other = node(&net, 2, Toys::sending(5, 1000));
        other.pins.pin(one.key, one.id);

        timeout(Duration::from_secs(120), settled(&one, &other, 5)).await.unwrap();
    })
    .unwrap();
}

/// Whoever is shut out is cut off within a second, though links are bad, and stays out.
#[test]
fn a_peer_whose_key_is_revoked_is_cut_off_within_a_second() {
    for seed in 0..10 {
        simulate(seed, |net| async move {
            net.weather(Weather::storm());
            let (one, other) = pair(&net, 5, 1000);
            settled(&one, &other, 5).await;
            let links =
                |node: &Node| node.mesh.peers().iter().filter(|it| it.link.is_some()).count();
            one.pins.revoke(other.key);
            sleep(Duration::from_secs(1)).await;
            assert_eq!(links(&one), 0, "seed {seed}");
            sleep(HOUR).await;
            assert_eq!((links(&one), links(&other)), (0, 0), "seed {seed}");
        })
        .unwrap();
    }
}

/// When a peer is left alone changes while it is dialed, and whoever operates the node may end it.
#[test]
fn a_breaker_takes_other_settings_and_is_reset() {
    simulate(8, |net| async move {
        let one = node(&net, 1, Toys::sending(1, 10));
        let key = LinkKey::from_seed([2; 32]).unwrap().fingerprint();
        let (peer, address) = (key.node(), "10.0.0.2:7000".parse().unwrap());
        one.pins.pin(key, peer);
        let settings = BreakerSettings { failures: 2, pause: 10 * HOUR, ..Default::default() };
        one.mesh.configure_breakers(settings);
        assert!(!one.mesh.reset_breaker(peer), "nobody was dialed yet");
        one.mesh.keep(peer, address);
        sleep(HOUR).await;
        let found = |one: &Node| one.mesh.breakers()[&peer];
        let (state, counts) = found(&one);
        assert_eq!((state, counts.failures), (BreakerState::Open, 2), "{counts:?}");
        assert!(counts.rejected > 0 && counts.successes == 0, "{counts:?}");

        one.mesh.configure_breakers(BreakerSettings { failures: 3, ..settings });
        assert!(one.mesh.reset_breaker(peer));
        assert_eq!(found(&one).0, BreakerState::Closed);
        one.mesh.hurry(peer, Some(address));
        sleep(HOUR).await;
        let (state, counts) = found(&one);
        assert_eq!((state, counts.failures), (BreakerState::Open, 5), "three more: {counts:?}");

        let other = node(&net, 2, Toys::sending(1, 10));
        other.pins.pin(one.key, one.id);
        one.mesh.hurry(peer, Some(address));
        timeout(Duration::from_secs(10), settled(&one, &other, 1)).await.unwrap();
        assert_eq!(found(&one).1.successes, 1);
    })
    .unwrap();
}

/// How long a dial and what comes first on a link may take is asked each time; time jumps, so it is exact.
#[test]
fn limits_of_the_first_steps_change_between_two_of_them() {
    simulate(6, |net| async move {
        let seconds = Arc::new(AtomicU64::new(5));
        let limit = || {
            let seconds = seconds.clone();
            Limit::asked_of(move || Duration::from_secs(seconds.load(Ordering::SeqCst)))
        };
        let settings = LinkSettings { handshake: limit(), hello: limit(), ..Default::default() };
        let (one, pins) = endpoint(&net, 1, settings);
        let (absent, nobody) = ("10.0.0.9:7000".parse().unwrap(), NodeId([9; 16]));
        for allowed in [5, 2, 11] {
            seconds.store(allowed, Ordering::SeqCst);
            let (began, allowed) = (Instant::now(), Duration::from_secs(allowed));
            let error = one.dial(absent, nobody).await.unwrap_err();
            let expected = LinkError::TimedOut { what: "the handshake", limit: allowed };
            assert_eq!((error.to_string(), began.elapsed()), (expected.to_string(), allowed));
        }

        // Whoever comes says nothing.
        let (silent, trusted) = endpoint(&net, 2, LinkSettings::default());
        trusted.pin(one.key(), one.key().node());
        pins.pin(silent.key(), silent.key().node());
        let _silence = silent.dial(one.address().unwrap(), one.key().node()).await.unwrap();
        let Some(Arrival::Peer(link)) = one.arrival().await else { panic!("nobody came") };
        for allowed in [3, 1] {
            seconds.store(allowed, Ordering::SeqCst);
            let (began, allowed) = (Instant::now(), Duration::from_secs(allowed));
            let error = establish(&link, one.settings()).await.unwrap_err();
            let expected = LinkError::TimedOut { what: "the control channel", limit: allowed };
            assert_eq!((error.to_string(), began.elapsed()), (expected.to_string(), allowed));
        }
    })
    .unwrap();
}

/// A conversation that bans its peer is not begun again until somebody says so.
#[test]
fn a_banned_peer_is_dialed_no_more() {
    simulate(7, |net| async move {
        let (one, other) =
            (node(&net, 1, Toys::sending(1, 10)), node(&net, 2, Toys::sending(1, 10)));
        one.pins.pin(other.key, other.id);
        other.pins.pin(one.key, one.id);
        let reason = "it is of another group".to_owned();
        one.toys.refuse(Parting { code: 9, reason, then: Then::Ban });
        one.mesh.keep(other.id, other.address);
        let ended = one.toys.until(|toys| !toys.ends().is_empty());
        timeout(HOUR, ended).await.unwrap();
        sleep(HOUR).await;
        assert_eq!(one.toys.ends(), [(other.id, "Conversation".to_owned())]);

        one.mesh.keep(other.id, other.address);

        timeout(HOUR, one.toys.until(|toys| toys.ends().len() == 2)).await.unwrap();
    })
    .unwrap();
}

/// 60 kB over a way that carries 20 kB a second take three seconds, and nothing is lost for good.
#[test]
fn a_way_with_a_rate_carries_no_more_than_that() {
    simulate(8, |net| async move {
        net.weather(Weather::trickle(20_000));
        let began = Instant::now();
        let (one, other) = pair(&net, 6, 10_000);
        settled(&one, &other, 6).await;
        assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    })
    .unwrap();
}
