//! A new node is let in by a token, and by nothing else.

use crate::bed::{Node, settings, within};
use base::rng::SeededRng;
use replication::link::{
    Arrival, Calls, Channel, Desk, FRAME_LEN_MAX, Fingerprint, INVITE_LASTS, Link, LinkError, Side,
    Succession, Token, join,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// An issuer at work: it hears every guest at the time `now`.
struct Issuer {
    node: Arc<Node>,
    desk: Arc<Desk>,
    registered: Arc<AtomicU32>,
}

fn issuer(now: Duration) -> Issuer {
    let node = Arc::new(Node::new(1));
    let registered = Arc::new(AtomicU32::new(0));
    let count = registered.clone();
    let register = Arc::new(move |_, _, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(vec![7; FRAME_LEN_MAX])
    });
    let desk = Arc::new(Desk::new(node.key, node.pins.clone(), register, Calls::Threads));
    let (listener, hearing) = (node.clone(), desk.clone());
    tokio::spawn(async move {
        while let Some(arrival) = listener.endpoint.arrival().await {
            let Arrival::Guest(guest) = arrival else { continue };
            let desk = hearing.clone();
            tokio::spawn(async move {
                let heard = desk.hear(guest, now, &settings()).await;
                println!("{:?}", heard.map_err(|error| error.to_string()));
            });
        }
    });
    Issuer { node, desk, registered }
}

impl Issuer {
    fn invite(&self, seed: u64) -> Token {
        self.desk.invite(Duration::ZERO, &SeededRng::new(seed)).unwrap()
    }

    async fn joined_by(&self, node: &Node, token: &Token) -> Result<Vec<u8>, LinkError> {
        let (issuer, roster) = within(join(&node.endpoint, self.node.address, token)).await?;
        assert_eq!(issuer, self.node.id());
        Ok(roster)
    }
}

/// Afterwards both have pinned each other, and can talk.
#[tokio::test]
async fn a_token_lets_one_node_in_and_pins_both() {
    let (issuer, joiner, second) = (issuer(Duration::ZERO), Node::new(2), Node::new(3));
    let token: Token = issuer.invite(1).reveal().parse().unwrap();

    let roster = issuer.joined_by(&joiner, &token).await.unwrap();

    assert_eq!(roster, vec![7; FRAME_LEN_MAX], "the roster comes whole");
    assert_eq!(joiner.pins.node_of(issuer.node.key), Some(issuer.node.id()));
    assert_eq!(issuer.node.pins.node_of(joiner.key), Some(joiner.id()));
    joiner.dial(&issuer.node).await.unwrap();
    let error = issuer.joined_by(&second, &token).await.unwrap_err();
    let is_refused = matches!(
        error,
        LinkError::UnknownKey { by: Side::Peer } | LinkError::Join { by: Side::Peer, .. }
    );
    assert!(is_refused, "a token is spent: {error}");
    assert_eq!(issuer.registered.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_is_refused_after_ten_minutes() {
    let (issuer, joiner) = (issuer(INVITE_LASTS), Node::new(2));
    let error = issuer.joined_by(&joiner, &issuer.invite(1)).await.unwrap_err();
    assert!(matches!(error, LinkError::Join { by: Side::Peer, .. }), "{error}");
    assert_eq!(issuer.node.pins.all(), []);
}

/// Without an open invitation an unknown key does not even finish the handshake.
#[tokio::test]
async fn guessed_tokens_are_refused() {
    let (issuer, joiner) = (issuer(Duration::ZERO), Node::new(2));
    let register = Arc::new(|_, _, _| Ok(vec![1]));
    let stranger = Desk::new(issuer.node.key, joiner.pins.clone(), register, Calls::Inline);
    let guess = stranger.invite(Duration::ZERO, &SeededRng::new(99)).unwrap();
    let error = issuer.joined_by(&joiner, &guess).await.unwrap_err();
    assert!(matches!(error, LinkError::UnknownKey { by: Side::Peer }), "{error}");
    let token = issuer.invite(1);
    let error = issuer.joined_by(&joiner, &guess).await.unwrap_err();
    assert!(matches!(error, LinkError::Join { by: Side::Peer, .. }), "{error}");
    assert_eq!(issuer.node.pins.all(), []);
    issuer.joined_by(&joiner, &token).await.unwrap();
}

/// Somebody else at the address gets no proof: the token says whose key is expected.
#[tokio::test]
async fn a_joiner_talks_only_to_the_issuer_of_its_token() {
    let (issuer, other, joiner) = (issuer(Duration::ZERO), Node::new(3), Node::new(2));
    let token = issuer.invite(1);
    let error = within(join(&joiner.endpoint, other.address, &token)).await.unwrap_err();
    assert!(matches!(error, LinkError::UnknownKey { by: Side::Us }), "{error}");
    assert_eq!(joiner.pins.all(), []);
}

/// A guest that opens a channel of peers is thrown out, and never becomes a link.
#[tokio::test]
async fn a_guest_may_speak_of_joining_and_of_nothing_else() {
    let (issuer, guest) = (issuer(Duration::ZERO), Node::new(2));
    issuer.invite(1);
    guest.trust(&issuer.node);
    for channel in Channel::ALL {
        let link: Link = guest.dial(&issuer.node).await.unwrap();
        within(link.open(channel, &settings())).await.unwrap_err();
        let error = within(link.closed()).await;
        assert!(matches!(error, LinkError::UnknownKey { by: Side::Peer }), "{error}");
    }
    assert_eq!(issuer.registered.load(Ordering::SeqCst), 0);
}

/// The old key is out at once, the new one is in, and the node keeps its name.
#[tokio::test]
async fn a_changed_key_closes_links_of_the_old_one_and_lets_the_new_one_in() {
    let (one, old, new) = (Node::new(1), Node::new(2), Node::new(3));
    let name = old.id();
    one.trust(&old);
    old.trust(&one);
    new.trust(&one);
    let link = old.dial(&one).await.unwrap();
    let accepted = one.accept().await;
    let key = |seed| replication::link::LinkKey::from_seed([seed; 32]).unwrap();
    let changes = Succession::none(name).then(&key(2), &key(3)).unwrap();
    let changes = Succession::decode(&changes.encode()).unwrap();

    one.pins.follow(&changes).unwrap();

    let error = within(link.closed()).await;
    assert!(matches!(error, LinkError::Revoked { by: Side::Peer }), "{error}");
    drop(accepted);
    new.dial(&one).await.unwrap();
    assert_eq!(one.accept().await.peer(), name);
    assert_eq!(one.pins.node_of(Fingerprint::of(&[0; 32])), None);
}
