//! Peers that are found elsewhere than at the address that was given, and lies about where they are, on a
//! made-up network.

use crate::simulated::{HOUR, Node, node};
use crate::toy::Toys;
use replication::link::BreakerState;
use replication::link::sim::{SimNet, simulate};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Where nobody is, until a test puts somebody there.
const NOWHERE: &str = "10.0.0.9:7000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two nodes that trust each other and do not dial.
fn pair(net: &SimNet) -> (Node, Node) {
    let (one, other) = (node(net, 1, Toys::sending(1, 10)), node(net, 2, Toys::sending(1, 10)));
    one.pins.pin(other.key, other.id);
    other.pins.pin(one.key, one.id);
    (one, other)
}

/// Says to `one` where `other` may be.
fn say(one: &Node, other: &Node, addresses: impl IntoIterator<Item = SocketAddr>) {
    one.mesh.found(BTreeMap::from([(other.id, addresses.into_iter().collect())]));
}

async fn linked(one: &Node, other: &Node, within: Duration) {
    let there = one.toys.until(|toys| toys.has_all(other.id, 1));
    timeout(within, there).await.unwrap_or_else(|_| panic!("no link: {:?}", one.mesh));
}

/// Whoever has moved is linked soon after it was found, though it has been left alone for long.
#[test]
fn a_peer_that_has_moved_is_linked_where_it_is_found() {
    simulate(1, |net| async move {
        let (one, other) = pair(&net);
        one.mesh.keep(other.id, address(NOWHERE));
        sleep(Duration::from_secs(40)).await;
        assert_eq!(one.mesh.peers()[0].breaker, BreakerState::Open);

        say(&one, &other, [other.address]);

        linked(&one, &other, Duration::from_secs(1)).await;
        assert_eq!(one.mesh.peers()[0].breaker, BreakerState::Closed);
        assert_eq!(one.mesh.peers()[0].link.unwrap().0, other.address);
    })
    .unwrap();
}

#[test]
fn a_peer_without_an_address_is_linked_where_it_is_found_and_stays_so_when_it_falls_silent() {
    simulate(2, |net| async move {
        let (one, other) = pair(&net);
        one.mesh.seek(other.id, None);
        sleep(Duration::from_secs(600)).await;
        assert_eq!(net.counts().sent, 0, "there is nowhere to dial");
        say(&one, &other, [other.address]);
        linked(&one, &other, Duration::from_secs(1)).await;

        one.mesh.found(BTreeMap::new());
        sleep(HOUR).await;

        assert_eq!(one.toys.began(other.id), 1);
        assert!(one.mesh.peers()[0].link.is_some());
    })
    .unwrap();
}

/// Another node's address, and addresses where nobody is: the peer is linked at its own, as soon as it is there.
#[test]
fn lies_about_where_a_peer_is_keep_nobody_from_it() {
    simulate(3, |net| async move {
        let (one, other) = pair(&net);
        let liar = node(&net, 3, Toys::sending(1, 10));
        liar.pins.pin(one.key, one.id);
        one.pins.pin(liar.key, liar.id);
        let lies = [liar.address, address("10.0.0.10:1"), address("10.0.0.11:1")];
        one.mesh.keep(other.id, other.address);
        net.unplug(other.address);
        say(&one, &other, lies);
        sleep(Duration::from_secs(300)).await;
        assert_eq!((one.toys.began(other.id), one.toys.began(liar.id)), (0, 0));

        drop(other);
        let other = node(&net, 2, Toys::sending(1, 10));
        other.pins.pin(one.key, one.id);

        linked(&one, &other, Duration::from_secs(60)).await;
        assert_eq!(one.mesh.peers()[0].link.unwrap().0, other.address);
        assert_eq!(one.toys.began(liar.id), 0);
    })
    .unwrap();
}

/// What is said of a peer that has a link changes nothing about that, whichever side has dialed.
#[test]
fn a_link_that_is_up_does_not_move_to_where_its_peer_is_said_to_be() {
    for is_dialed_by_peer in [false, true] {
        simulate(4, |net| async move {
            let (one, other) = pair(&net);
            let (dials, waits) = if is_dialed_by_peer { (&other, &one) } else { (&one, &other) };
            dials.mesh.keep(waits.id, waits.address);
            one.mesh.seek(other.id, (!is_dialed_by_peer).then_some(other.address));
            linked(&one, &other, Duration::from_secs(1)).await;
            let before = net.counts().sent;
            for port in 1..200 {
                say(&one, &other, [SocketAddr::from(([10, 0, 0, 77], port))]);
                sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(one.toys.began(other.id), 1);
            assert!(net.counts().sent - before < 40, "nothing but signs of life is sent");
        })
        .unwrap();
    }
}

/// Who says something new all the time has few packets sent for it: one attempt after the other.
#[test]
fn hints_that_change_all_the_time_cause_one_attempt_at_a_time() {
    simulate(5, |net| async move {
        let (one, other) = pair(&net);
        one.mesh.seek(other.id, None);
        for second in 0..600u16 {
            let lies = (0..4).map(|lie| SocketAddr::from(([10, 0, 1, lie], 1000 + second)));
            say(&one, &other, lies);
            sleep(Duration::from_secs(1)).await;
        }
        // An attempt takes five seconds, and few packets.
        let sent = net.counts().sent;
        println!("{sent} packets in 600 s");
        assert!((100..2000).contains(&sent), "{sent}");
    })
    .unwrap();
}

/// The given address gets its turn, whatever is said meanwhile.
#[test]
fn new_lies_all_the_time_keep_nobody_from_the_address_that_was_given() {
    simulate(6, |net| async move {
        let (one, other) = pair(&net);
        let (id, place) = (other.id, other.address);
        one.mesh.keep(id, place);
        net.unplug(place);
        let mut other = Some(other);
        for second in 0..300u16 {
            if second == 60 {
                drop(other.take());
                let again = node(&net, 2, Toys::sending(1, 10));
                again.pins.pin(one.key, one.id);
                other = Some(again);
            }
            let lies = (0..4).map(|lie| SocketAddr::from(([10, 0, 1, lie], 1000 + second)));
            one.mesh.found(BTreeMap::from([(id, lies.collect())]));
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(one.mesh.peers()[0].link.map(|link| link.0), Some(place), "{:?}", one.mesh);
        drop(other);
    })
    .unwrap();
}
