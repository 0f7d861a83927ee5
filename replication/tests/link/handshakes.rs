//! Who gets in, and who does not.

use crate::bed::{Node, pair, settings, within};
use replication::link::{Channel, Dialed, LinkError, Side};

/// Two nodes that pinned each other exchange frames of every size, both ways.
#[tokio::test]
async fn pinned_nodes_exchange_frames() {
    let (one, other) = pair();
    let dialed = one.dial(&other).await.unwrap();
    let accepted = other.accept().await;
    assert_eq!((dialed.peer(), dialed.dialed()), (other.id(), Dialed::ByUs));
    assert_eq!((accepted.peer(), accepted.dialed()), (one.id(), Dialed::ByPeer));

    let echo = tokio::spawn(async move {
        let (channel, mut sender, mut receiver) = accepted.accept(&settings()).await.unwrap();
        assert_eq!(channel, Channel::Bulk);
        while let Some(frame) = receiver.receive().await.unwrap() {
            sender.send(frame).await.unwrap();
        }
    });
    let (mut sender, mut receiver) = dialed.open(Channel::Bulk, &settings()).await.unwrap();
    for len in [1, 2, 1000, 65_536, 1 << 20] {
        let frame: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        within(sender.send(frame.clone())).await.unwrap();
        let back = within(receiver.receive()).await.unwrap();
        assert!(back == Some(frame), "a frame of {len} bytes comes back");
    }
    drop(sender);
    within(echo).await.unwrap();
}

/// The dialer learns it on the first channel: the handshake alone looks like success.
#[tokio::test]
async fn an_unknown_key_is_refused_by_the_listener() {
    let (one, other) = (Node::new(1), Node::new(2));
    one.trust(&other);

    let error = match one.dial(&other).await {
        Ok(link) => within(link.open(Channel::Control, &settings())).await.unwrap_err(),
        Err(error) => error,
    };

    assert!(matches!(error, LinkError::UnknownKey { by: Side::Peer }), "{error}");
}

#[tokio::test]
async fn an_unknown_key_is_refused_by_the_dialer() {
    let (one, other) = (Node::new(1), Node::new(2));
    other.trust(&one);
    let error = one.dial(&other).await.unwrap_err();
    assert!(matches!(error, LinkError::UnknownKey { by: Side::Us }), "{error}");
}

/// A pinned key is not enough: it must be that of the node that was asked for.
#[tokio::test]
async fn another_pinned_node_at_the_address_is_refused() {
    let (one, other) = pair();
    let third = Node::new(3);
    one.trust(&third);
    let error = within(one.endpoint.dial(other.address, third.id())).await.unwrap_err();
    assert!(matches!(error, LinkError::UnknownKey { by: Side::Us }), "{error}");
}

/// Live connections of a revoked key are closed, on both sides, and it cannot come back.
#[tokio::test]
async fn revoking_a_key_closes_its_live_connections() {
    let (one, other) = pair();
    let dialed = one.dial(&other).await.unwrap();
    let accepted = other.accept().await;

    other.pins.revoke(one.key);

    let here = within(accepted.closed()).await;
    assert!(matches!(here, LinkError::Closed { by: Side::Us }), "{here}");
    let there = within(dialed.closed()).await;
    assert!(matches!(there, LinkError::Revoked { by: Side::Peer }), "{there}");
    let again = match one.dial(&other).await {
        Ok(link) => within(link.open(Channel::Control, &settings())).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(again, LinkError::UnknownKey { by: Side::Peer }), "{again}");
}

/// A node that stops says so, and its peers need not wait for silence.
#[tokio::test]
async fn closing_an_endpoint_ends_its_links() {
    let (one, other) = pair();
    let dialed = one.dial(&other).await.unwrap();
    let _accepted = other.accept().await;

    within(other.endpoint.close()).await;

    let error = within(dialed.closed()).await;
    assert!(matches!(error, LinkError::Closed { by: Side::Peer }), "{error}");
}

/// The buffers of the kernel were asked for and read back.
#[tokio::test]
async fn the_buffers_of_the_socket_are_known() {
    let buffers = Node::new(1).endpoint.buffers().unwrap();
    assert_eq!(buffers.asked, 4 << 20);
    assert!(buffers.receive > 0 && buffers.send > 0, "{buffers:?}");
    println!("{buffers:?}");
}
