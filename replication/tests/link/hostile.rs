//! Peers that misbehave, below the level of our own channels: raw streams of a genuine connection.

use crate::bed::{Node, pair, settings, within};
use quinn::crypto::rustls::QuicClientConfig;
use replication::link::{
    Channel, FRAME_LEN_MAX, LinkError, LinkKey, LinkSettings, Side, establish,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// A client made of quinn alone, which trusts everybody and shows the key of `seed`.
pub(crate) struct Raw {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

impl Raw {
    pub(crate) fn new(seed: u8, protocol: &[u8]) -> Raw {
        Raw { endpoint: quinn::Endpoint::client(local()).unwrap(), config: config(seed, protocol) }
    }

    pub(crate) async fn connect(&self, to: &Node) -> Result<quinn::Connection, LinkError> {
        let connecting =
            self.endpoint.connect_with(self.config.clone(), to.address, "esker").unwrap();
        Ok(within(connecting).await?)
    }
}

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn config(seed: u8, protocol: &[u8]) -> quinn::ClientConfig {
    let prefix = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let key = PrivatePkcs8KeyDer::from([&prefix[..], &[seed; 32]].concat());
    let signer = rcgen::KeyPair::try_from(&key).unwrap();
    let params = rcgen::CertificateParams::new(["x".to_owned()]).unwrap();
    let certificate = params.self_signed(&signer).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAll))
        .with_client_auth_cert(vec![certificate], key.into())
        .unwrap();
    tls.alpn_protocols = vec![protocol.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

#[derive(Debug)]
struct TrustsAll;

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A node, and a raw connection to it whose key it has pinned.
async fn trusted() -> (Node, Raw, quinn::Connection) {
    let (node, raw) = (Node::new(1), Raw::new(2, b"esker/1"));
    let key = LinkKey::from_seed([2; 32]).unwrap().fingerprint();
    node.pins.pin(key, key.node());
    let connection = raw.connect(&node).await.unwrap();
    (node, raw, connection)
}

/// What the node makes of the bytes of one stream, read as frames until an error.
async fn verdict_on(bytes: &[u8]) -> LinkError {
    let (node, _raw, connection) = trusted().await;
    let link = node.accept().await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    send.finish().unwrap();
    let accepted = within(link.accept(&settings())).await;
    let (_, _sender, mut receiver) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => return error,
    };
    loop {
        match within(receiver.receive()).await {
            Ok(Some(_)) => {}
            Ok(None) => return LinkError::Closed { by: Side::Peer },
            Err(error) => return error,
        }
    }
}

fn frame(len: u32, content: &[u8]) -> Vec<u8> {
    [&[2][..], &len.to_le_bytes(), content].concat()
}

#[tokio::test]
async fn a_wrong_protocol_is_refused() {
    let node = Node::new(1);
    let key = LinkKey::from_seed([2; 32]).unwrap().fingerprint();
    node.pins.pin(key, key.node());
    for protocol in [&b"esker/2"[..], b"h3", b"esker/1\0"] {
        let error = Raw::new(2, protocol).connect(&node).await.unwrap_err();
        assert!(matches!(error, LinkError::WrongProtocol), "{error}");
    }
    Raw::new(2, b"esker/1").connect(&node).await.unwrap();
}

#[tokio::test]
async fn a_frame_of_no_bytes_is_refused() {
    let error = verdict_on(&frame(0, &[])).await;
    assert!(matches!(error, LinkError::FrameLength { len: 0, .. }), "{error}");
}

#[tokio::test]
async fn a_frame_of_one_byte_too_many_is_refused() {
    let len = FRAME_LEN_MAX as u32 + 1;
    let error = verdict_on(&frame(len, &[1; 100])).await;
    assert!(matches!(error, LinkError::FrameLength { len: 1_048_577, .. }), "{error}");
}

#[tokio::test]
async fn a_frame_truncated_at_any_byte_is_refused() {
    let whole = frame(9, b"nine byte");
    for end in 1..whole.len() {
        let error = verdict_on(&whole[..end]).await;
        match end {
            1 => assert!(matches!(error, LinkError::Closed { .. }), "{error}"),
            _ => assert!(matches!(error, LinkError::FrameTruncated { .. }), "{end}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_stream_of_no_known_channel_is_refused() {
    for byte in [0, 6, 255] {
        let error = verdict_on(&[byte]).await;
        assert!(matches!(error, LinkError::UnknownChannel { byte: b } if b == byte), "{error}");
    }
    // That of guests who ask to join.
    let error = verdict_on(&[5]).await;
    assert!(matches!(error, LinkError::Join { by: Side::Us, .. }), "{error}");
}

/// A frame that comes one byte a tenth of a second is given up, and so is its memory.
#[tokio::test]
async fn a_frame_that_comes_byte_by_byte_is_given_up() {
    let (node, _raw, connection) = trusted().await;
    let link = node.accept().await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&frame(1 << 20, &[])).await.unwrap();
    let dripping = tokio::spawn(async move {
        while send.write_all(&[1]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let (_, _sender, mut receiver) = within(link.accept(&settings())).await.unwrap();

    let error = within(receiver.receive()).await.unwrap_err();

    assert!(matches!(error, LinkError::TimedOut { what: "the rest of a frame", .. }), "{error}");
    link.close(&error);
    within(dripping).await.unwrap();
}

/// Silence in the middle of a frame, and before the first one.
#[tokio::test]
async fn silence_is_given_up() {
    let (node, _raw, connection) = trusted().await;
    let link = node.accept().await;
    let error = within(establish(&link, &settings())).await.unwrap_err();
    assert!(matches!(error, LinkError::TimedOut { what: "the control channel", .. }), "{error}");
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&frame(100, &[1; 99])).await.unwrap();
    let (_, _sender, mut receiver) = within(link.accept(&settings())).await.unwrap();
    let error = within(receiver.receive()).await.unwrap_err();
    assert!(matches!(error, LinkError::TimedOut { what: "the rest of a frame", .. }), "{error}");
}

/// A peer that does not read stops the writer, which holds no more than the windows allow.
#[tokio::test]
async fn a_peer_that_does_not_read_stops_the_writer() {
    let (one, other) = pair();
    let (dialed, accepted) = tokio::join!(one.dial(&other), other.accept());
    let dialed = dialed.unwrap();
    let settings = settings();
    let (opened, taken) =
        tokio::join!(dialed.open(Channel::Bulk, &settings), accepted.accept(&settings));
    let (mut sender, _receiver) = opened.unwrap();
    let mut taken_bytes = 0;
    let filling = async {
        loop {
            sender.send(vec![1; FRAME_LEN_MAX]).await.unwrap();
            taken_bytes += FRAME_LEN_MAX;
        }
    };
    let stalled = tokio::time::timeout(Duration::from_secs(2), filling).await;
    assert!(stalled.is_err());
    assert!(taken_bytes <= 16 << 20, "{taken_bytes} bytes were taken");
    let (_, _, mut reader) = taken.unwrap();
    for _ in 0..taken_bytes / FRAME_LEN_MAX {
        assert_eq!(within(reader.receive()).await.unwrap().unwrap().len(), FRAME_LEN_MAX);
    }
}

/// First packets of handshakes that are never finished, by the thousand: some are begun, never more than there
/// are places, an honest node gets in meanwhile, and afterwards nothing of them is held.
#[tokio::test]
async fn thousands_of_half_open_handshakes_keep_nobody_out() {
    const FLOOD: usize = 3000;
    /// From as many on addresses are checked first, which costs no memory.
    const TRUSTING: usize = 8;
    let (one, other) = pair();
    let settings = settings();
    let attacker = UdpSocket::bind(local()).unwrap();
    let flooding = async {
        let mut most = 0;
        for packet in first_packets(FLOOD, other.address) {
            attacker.send_to(&packet, other.address).unwrap();
            tokio::task::yield_now().await;
            most = most.max(other.endpoint.connections());
        }
        most.max(other.endpoint.connections())
    };
    let meeting = async {
        while other.endpoint.connections() < TRUSTING {
            tokio::task::yield_now().await;
        }
        let (dialed, accepted) = tokio::join!(one.dial(&other), other.accept());
        let (dialed, accepted) = (dialed.unwrap(), accepted);
        let (opened, taken) =
            tokio::join!(dialed.open(Channel::Tail, &settings), accepted.accept(&settings));
        (dialed, accepted, opened.unwrap(), taken.unwrap())
    };

    let (most, (dialed, accepted, ..)) = tokio::join!(flooding, within(meeting));

    println!("{FLOOD} half-open handshakes, at most {most} connections at once");
    assert!((TRUSTING..=64).contains(&most), "{most} connections are held");
    assert_eq!(accepted.peer(), one.id());
    let given_up = async {
        while other.endpoint.connections() > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(given_up).await;
    assert!(dialed.is_open() && accepted.is_open(), "the one that is left is the honest one");
}

/// With all places taken, and more coming, the oldest is given up for the newest.
#[tokio::test]
async fn a_node_gets_in_while_all_places_for_handshakes_are_taken() {
    let few = LinkSettings { half_open_max: 4, ..settings() };
    let (one, other) = (Node::new(1), Node::with(2, few));
    one.trust(&other);
    other.trust(&one);
    let attacker = UdpSocket::bind(local()).unwrap();
    let (packets, address) = (first_packets(2000, other.address), other.address);
    let flooding = tokio::spawn(async move {
        for packet in packets.iter().cycle() {
            attacker.send_to(packet, address).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;

    let getting_in = async {
        while one.endpoint.dial(other.address, other.id()).await.is_err() {}
        other.accept().await
    };
    assert_eq!(within(getting_in).await.peer(), one.id());
    flooding.abort();
}

/// The first packets of `count` connections that nobody will go on with.
fn first_packets(count: usize, to: SocketAddr) -> Vec<Vec<u8>> {
    let now = std::time::Instant::now();
    let endpoint_config = Arc::new(quinn::EndpointConfig::default());
    let mut endpoint = quinn_proto::Endpoint::new(endpoint_config, None, true, None);
    let config = config(9, b"esker/1");
    let first = |_| {
        let (_, mut connection) = endpoint.connect(now, config.clone(), to, "esker").unwrap();
        let mut packet = Vec::new();
        assert!(connection.poll_transmit(now, 1, &mut packet).is_some());
        packet
    };
    (0..count).map(first).collect()
}
