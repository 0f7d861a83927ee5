//! The numbers of QUIC, as they were measured.
//!
//! Windows bound what a peer can make us hold: what it may send before we read, and what we keep
//! until it confirms. Larger windows than socket buffers only make queues longer. Packets above
//! 6500 bytes are lost without an error when the kernel cuts ten of them from one buffer, so no
//! value above that exists. BBR loses millions of packets on loopback, so it is not offered.

use super::error::LinkError;
use super::limit::Limit;
use quinn::congestion::{ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The largest packet that is tried on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(u16);

impl Mtu {
    /// What every path carries that QUIC can use.
    pub const MIN: Mtu = Mtu(1200);
    /// What an Ethernet carries.
    pub const ETHERNET: Mtu = Mtu(1452);
    /// What was fastest inside one machine.
    pub const LOOPBACK: Mtu = Mtu(6000);
    /// Ten packets of this size still fit one buffer of the kernel.
    pub const MAX: Mtu = Mtu(6500);

    /// A size from 1200 to 6500 bytes.
    pub fn new(bytes: u16) -> Result<Mtu, LinkError> {
        check("the largest packet", bytes.into(), Mtu::MIN.0.into(), Mtu::MAX.0.into())?;
        Ok(Mtu(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u16 {
        self.0
    }
}

/// Who decides how fast to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// Fills long paths faster.
    Cubic,
    /// The simplest.
    NewReno,
}

/// How connections behave. Name what you change and end with `..LinkSettings::default()`.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Bytes of one stream that a peer may send before we read them. Default 2 MiB.
    pub stream_window: u32,
    /// The same of all streams of a connection. Default 8 MiB.
    pub receive_window: u32,
    /// Bytes that we keep for a peer that has not confirmed them. Default 8 MiB.
    pub send_window: u32,
    /// Streams that a peer may have open. Default 8, at most 32.
    pub streams: u32,
    /// The round trip that is assumed before it was measured. Default 20 ms.
    pub initial_rtt: Duration,
    /// How often an idle connection says that it lives. Default 5 s.
    pub keep_alive: Duration,
    /// After how long without a sign a peer counts as gone. Default 20 s.
    pub idle: Duration,
    /// How long a handshake may take, 1 ms to an hour. Default 5 s. A peer of which nothing is heard counts as
    /// gone after `idle` all the same.
    pub handshake: Limit,
    /// How long a peer may take for what comes first, 1 ms to an hour. Default 5 s.
    pub hello: Limit,
    /// How long a peer may take for one frame once it has begun. Default 30 s.
    pub frame: Duration,
    /// How long a peer that broke a rule is not let in. Default 10 minutes.
    pub ban: Duration,
    /// Handshakes in progress. One more, and the oldest is given up. Default 64.
    pub half_open_max: usize,
    /// Bytes of the kernel's buffers. Default 4 MiB.
    pub socket_buffer: u32,
    /// The largest packet to other machines. Default [`Mtu::ETHERNET`].
    pub mtu: Mtu,
    /// The largest packet inside this machine. Default [`Mtu::LOOPBACK`].
    pub mtu_loopback: Mtu,
    /// Who decides how fast to send. Default [`Congestion::Cubic`].
    pub congestion: Congestion,
}

/// How long the first steps of a link may take, unless settings say otherwise.
pub(crate) const FIRST_STEP: Duration = Duration::from_secs(5);

impl Default for LinkSettings {
    fn default() -> LinkSettings {
        LinkSettings {
            stream_window: 2 << 20,
            receive_window: 8 << 20,
            send_window: 8 << 20,
            streams: 8,
            initial_rtt: Duration::from_millis(20),
            keep_alive: Duration::from_secs(5),
            idle: Duration::from_secs(20),
            handshake: FIRST_STEP.into(),
            hello: FIRST_STEP.into(),
            frame: Duration::from_secs(30),
            ban: Duration::from_secs(600),
            half_open_max: 64,
            socket_buffer: 4 << 20,
            mtu: Mtu::ETHERNET,
            mtu_loopback: Mtu::LOOPBACK,
            congestion: Congestion::Cubic,
        }
    }
}

/// Packets that a peer may take before it acknowledges them, unless it waits for more: each
/// acknowledgement costs both sides as much as a packet.
const ACK_EVERY: u32 = 10;
/// Packets that are sent before the first acknowledgement: more than the peer takes before it acknowledges them.
/// With fewer each of the first rounds lasts as long as an acknowledgement may be put off, 25 ms.
const FIRST_PACKETS: u64 = 2 * (ACK_EVERY as u64 + 1);
/// What a peer may send before its key was looked at.
const FIRST_WINDOW: u32 = 64 << 10;

impl LinkSettings {
    /// That the settings can be.
    pub fn check(&self) -> Result<(), LinkError> {
        let window = |what, value: u32| check(what, value.into(), 64 << 10, 16 << 20);
        window("the stream window", self.stream_window)?;
        window("the receive window", self.receive_window)?;
        window("the send window", self.send_window)?;
        check("the number of streams", self.streams.into(), 4, 32)?;
        let at_least = |what, value: Duration, min: u64| {
            check(what, u64::try_from(value.as_millis()).unwrap_or(u64::MAX), min, 600_000)
        };
        at_least("the first round trip in ms", self.initial_rtt, 1)?;
        at_least("the keep-alive in ms", self.keep_alive, 10)?;
        let keep_alive = u64::try_from(self.keep_alive.as_millis()).unwrap_or(u64::MAX);
        at_least("the idle time in ms", self.idle, keep_alive.saturating_mul(2))?;
        let first = |what, limit: &Limit| {
            let millis = u64::try_from(limit.get().as_millis()).unwrap_or(u64::MAX);
            check(what, millis, 1, 3_600_000)
        };
        first("the time for a handshake in ms", &self.handshake)?;
        first("the time for a hello in ms", &self.hello)?;
        at_least("the time for a frame in ms", self.frame, 10)?;
        check("the number of handshakes", self.half_open_max as u64, 1, 4096)?;
        check("the socket buffer", self.socket_buffer.into(), 64 << 10, 1 << 30)
    }

    /// For connections that we dial.
    pub(crate) fn dialing(&self, peer: SocketAddr) -> Arc<TransportConfig> {
        Arc::new(self.transport(peer.ip().is_loopback(), self.receive_window))
    }

    /// For connections that come. Their window opens once the key was looked at.
    pub(crate) fn listening(&self, from: SocketAddr) -> Arc<TransportConfig> {
        Arc::new(self.transport(from.ip().is_loopback(), FIRST_WINDOW))
    }

    /// Decides how fast to send, beginning with `first` bytes.
    fn congestion_from(&self, first: u64) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self.congestion {
            Congestion::Cubic => {
                let mut config = CubicConfig::default();
                config.initial_window(first);
                Arc::new(config)
            }
            Congestion::NewReno => {
                let mut config = NewRenoConfig::default();
                config.initial_window(first);
                Arc::new(config)
            }
        }
    }

    fn transport(&self, is_loopback: bool, receive_window: u32) -> TransportConfig {
        let mtu = if is_loopback { self.mtu_loopback } else { self.mtu };
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(mtu.bytes());
        let congestion = self.congestion_from(u64::from(mtu.bytes()) * FIRST_PACKETS);
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY));
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(receive_window))
            .send_window(self.send_window.into())
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .initial_rtt(self.initial_rtt)
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(IdleTimeout::try_from(self.idle).ok())
            .mtu_discovery_config(Some(discovery))
            .ack_frequency_config(Some(acks))
            .congestion_controller_factory(congestion);
        transport
    }
}

fn check(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), LinkError> {
    let is_allowed = (min..=max).contains(&value);
    if is_allowed { Ok(()) } else { Err(LinkError::Setting { what, min, max, value }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_segmentation_would_lose_cannot_be_asked_for() {
        assert_eq!(Mtu::new(6500).unwrap(), Mtu::MAX);
        assert!(10 * u32::from(Mtu::MAX.bytes()) <= 65_507, "ten fit one datagram's length");
        for bytes in [0, 1199, 6501, u16::MAX] {
            let error = Mtu::new(bytes).unwrap_err();
            assert_eq!(error.code(), "Setting");
            assert!(error.to_string().contains("1200 to 6500"), "{error}");
        }
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        LinkSettings::default().check().unwrap();
        let refused = |settings: LinkSettings| settings.check().unwrap_err().to_string();
        let base = LinkSettings::default;
        let text = refused(LinkSettings { receive_window: u32::MAX, ..base() });
        assert!(text.starts_with("the receive window is 4294967295"), "{text}");
        let text = refused(LinkSettings { streams: 33, ..base() });
        assert!(text.starts_with("the number of streams"), "{text}");
        let text = refused(LinkSettings { idle: Duration::from_secs(6), ..base() });
        assert!(text.starts_with("the idle time"), "{text}");
    }
}
