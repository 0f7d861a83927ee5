//! Late frames, in simulated time: those of a slow line are waited for, those that drip beside others are not.

use super::*;
use crate::link::sim::{SimNet, Weather, simulate};
use crate::link::{Arrival, Endpoint, LinkKey, Pins};
use std::net::SocketAddr;
use std::sync::Arc;

/// Frames that keep a line busier than is asked for: 32 KiB four times a second.
const BUSY_FRAME: usize = 32 << 10;
const BUSY_EVERY: Duration = Duration::from_millis(250);
/// A frame that does not come to its end at one byte a second.
const DRIPPING_LEN: u32 = 1 << 20;

/// Whose channel drips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drips {
    Dialer,
    Listener,
}

fn endpoint(net: &SimNet, number: u8) -> (Endpoint, SocketAddr) {
    let address: SocketAddr = format!("10.0.0.{number}:7000").parse().unwrap();
    let pins = Arc::new(Pins::default());
    for peer in [1, 2] {
        let key = LinkKey::from_seed([peer; 32]).unwrap().fingerprint();
        pins.pin(key, key.node());
    }
    let key = LinkKey::from_seed([number; 32]).unwrap();
    let settings = LinkSettings::default();
    (Endpoint::new(net.wire(address), key, pins, settings).unwrap(), address)
}

/// Two nodes, and the link between them as each has it: the first has dialed.
async fn linked(net: &SimNet) -> [(Endpoint, Link); 2] {
    let ((one, _), (other, address)) = (endpoint(net, 1), endpoint(net, 2));
    let node = LinkKey::from_seed([2; 32]).unwrap().fingerprint().node();
    let (dialed, arrival) = tokio::join!(one.dial(address, node), other.arrival());
    let Some(Arrival::Peer(accepted)) = arrival else { unreachable!("{arrival:?}") };
    [(one, dialed.unwrap()), (other, accepted)]
}

/// A channel of the two: whoever `drips` sends on it by hand, behind its first byte, and the other receives.
async fn raw(
    ends: &[(Endpoint, Link); 2],
    channel: Channel,
    drips: Drips,
) -> (SendStream, ChannelReceiver) {
    let settings = LinkSettings::default();
    let [(_, dialed), (_, accepted)] = ends;
    let (opened, taken) = tokio::join!(dialed.open(channel, &settings), accepted.accept(&settings));
    let ((opener, answers), (_, answerer, asks)) = (opened.unwrap(), taken.unwrap());
    match drips {
        Drips::Dialer => (opener.stream, asks),
        Drips::Listener => (answerer.stream, answers),
    }
}

/// Sends the beginning of a frame and `bytes` of it, one a second; then nothing.
async fn drip(mut stream: SendStream, bytes: u32) {
    stream.write_all(&DRIPPING_LEN.to_le_bytes()).await.unwrap();
    for _ in 0..bytes {
        if stream.write_all(&[7]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    std::future::pending::<()>().await;
}

/// Keeps the line busy for ever.
async fn fill(mut stream: SendStream, mut receiver: ChannelReceiver) {
    let mut sender = async || {
        let frame = [&(BUSY_FRAME as u32).to_le_bytes()[..], &[1; BUSY_FRAME]].concat();
        while stream.write_all(&frame).await.is_ok() {
            tokio::time::sleep(BUSY_EVERY).await;
        }
    };
    let reading = async { while let Ok(Some(_)) = receiver.receive().await {} };
    tokio::join!(sender(), reading);
}

/// What comes of a frame of which `bytes` come, one a second, beside a channel that is always busy, and after
/// how long.
fn verdict(seed: u64, drips: Drips, bytes: u32) -> (LinkError, Duration) {
    simulate(seed, |net| async move {
        let ends = linked(&net).await;
        let (stream, receiver) = raw(&ends, Channel::Tail, drips).await;
        tokio::spawn(fill(stream, receiver));
        let (stream, mut receiver) = raw(&ends, Channel::Bulk, drips).await;
        tokio::spawn(drip(stream, bytes));
        let began = Instant::now();
        (receiver.receive().await.unwrap_err(), began.elapsed())
    })
    .unwrap()
}

/// Simulated seconds, so the moment is a rule and no measurement.
#[test]
fn a_frame_that_drips_beside_a_busy_channel_is_given_up() {
    let patience = LinkSettings::default().frame;
    for (seed, drips) in [(1, Drips::Dialer), (2, Drips::Listener)] {
        let (error, after) = verdict(seed, drips, u32::MAX);
        let is_late = matches!(error, LinkError::TimedOut { what: "the rest of a frame", .. });
        assert!(is_late, "{drips:?}: {error}");
        let (least, most) = (patience * EXTENSIONS_MAX, patience * (EXTENSIONS_MAX + 2));
        assert!(least < after && after < most, "{drips:?} after {after:?}");
    }
}

#[test]
fn a_frame_that_stands_still_beside_a_busy_channel_is_given_up_sooner() {
    let patience = LinkSettings::default().frame;
    for (seed, drips) in [(3, Drips::Dialer), (4, Drips::Listener)] {
        let (error, after) = verdict(seed, drips, 5);
        let is_late = matches!(error, LinkError::TimedOut { what: "the rest of a frame", .. });
        assert!(is_late && after < patience * 3, "{drips:?} after {after:?}: {error}");
    }
}

/// A line of 5 kB a second brings the longest frame, which takes it more than three minutes.
#[test]
fn the_longest_frame_of_a_slow_line_is_waited_for() {
    simulate(5, |net| async move {
        let ends = linked(&net).await;
        let (mut stream, mut receiver) = raw(&ends, Channel::Bulk, Drips::Dialer).await;
        net.weather(Weather { rate: 5_000, ..Weather::default() });
        let sending = async move {
            let len = FRAME_LEN_MAX as u32;
            stream.write_all(&len.to_le_bytes()).await.unwrap();
            stream.write_all(&vec![1; FRAME_LEN_MAX]).await.unwrap();
            stream
        };
        let began = Instant::now();
        let (_stream, frame) = tokio::join!(sending, receiver.receive());
        assert_eq!(frame.unwrap().unwrap().len(), FRAME_LEN_MAX);
        assert!(began.elapsed() > 4 * LinkSettings::default().frame, "{:?}", began.elapsed());
    })
    .unwrap();
}
