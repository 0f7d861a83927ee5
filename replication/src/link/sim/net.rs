//! Packets in flight, and what becomes of them.

use super::super::socket::Wire;
use super::crypto;
use super::runtime::SimRuntime;
use super::socket::SimSocket;
use base::lock::{Mutex, Rank};
use quinn::EndpointConfig;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What happens to packets on their way. Chances are in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// A packet is under way for this long at least.
    pub delay_min: Duration,
    /// And at most for this long, if it is not held up.
    pub delay_max: Duration,
    /// The chance that it never arrives.
    pub loss: u32,
    /// The chance that it arrives twice.
    pub doubling: u32,
    /// The chance that it is held up, so that later ones overtake it.
    pub holdup: u32,
    /// Bytes a second that the way carries; what waits longer than a second is lost. 0: no limit.
    pub rate: u32,
}

impl Default for Weather {
    /// A quiet local network.
    fn default() -> Weather {
        let ms = Duration::from_millis;
        Weather { delay_min: ms(1), delay_max: ms(3), loss: 0, doubling: 0, holdup: 0, rate: 0 }
    }
}

impl Weather {
    /// A bad line: a fiftieth is lost, a hundredth comes twice, a twentieth comes late.
    pub fn storm() -> Weather {
        let (delay_min, delay_max) = (Duration::from_millis(5), Duration::from_millis(40));
        Weather { delay_min, delay_max, loss: 20_000, doubling: 10_000, holdup: 50_000, rate: 0 }
    }

    /// A line that carries a few packets a second, like a reader that hardly reads.
    pub fn trickle(bytes_per_second: u32) -> Weather {
        Weather { rate: bytes_per_second, ..Weather::default() }
    }
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent by sockets.
    pub sent: u64,
    /// Handed to sockets.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Sent over a way that was cut.
    pub cut: u64,
    /// Delivered to nobody, or to a socket that is full.
    pub dropped: u64,
    /// Delivered twice.
    pub doubled: u64,
}

/// A network. Clones are the same one.
#[derive(Clone, Debug)]
pub struct SimNet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    seed: u64,
    epoch: Instant,
    state: Mutex<State>,
    /// Told when a packet may be due earlier than all others.
    sent: Notify,
}

#[derive(Debug)]
struct State {
    random: Random,
    flying: BinaryHeap<Reverse<Packet>>,
    inboxes: BTreeMap<SocketAddr, Inbox>,
    weather: Weather,
    ways: BTreeMap<(SocketAddr, SocketAddr), Weather>,
    cuts: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Until when a way is busy with what was sent, if it has a rate.
    busy: BTreeMap<(SocketAddr, SocketAddr), Instant>,
    wires: u64,
    counts: Counts,
    trace: blake3::Hasher,
}

/// In order of arrival, then of departure.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    number: u64,
    copy: u8,
    from: SocketAddr,
    to: SocketAddr,
    content: Vec<u8>,
}

/// What has arrived at a socket and was not taken yet.
#[derive(Debug, Default)]
struct Inbox {
    /// The number of the socket: one that was at the address before is deaf and mute.
    socket: u64,
    packets: VecDeque<(SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
}

/// Packets that a socket holds; more are dropped, as kernels do.
const INBOX_MAX: usize = 4096;
/// How long packets wait for a way that has a rate.
const QUEUE_MAX: Duration = Duration::from_secs(1);

impl SimNet {
    /// The network of `seed`. Called inside a runtime whose time is paused.
    pub fn new(seed: u64) -> SimNet {
        crypto::begin(seed);
        let state = State {
            random: Random(seed),
            flying: BinaryHeap::new(),
            inboxes: BTreeMap::new(),
            weather: Weather::default(),
            ways: BTreeMap::new(),
            cuts: BTreeSet::new(),
            busy: BTreeMap::new(),
            wires: 0,
            counts: Counts::default(),
            trace: blake3::Hasher::new(),
        };
        let (state, sent) = (Mutex::new(Rank::Bell, state), Notify::new());
        let shared = Arc::new(Shared { seed, epoch: Instant::now(), state, sent });
        let net = SimNet { shared };
        tokio::spawn(net.clone().carry());
        net
    }

    /// A socket at `address`. One that was there before hears and sends nothing any more.
    pub fn wire(&self, address: SocketAddr) -> Wire {
        let mut state = self.shared.state.lock();
        state.wires += 1;
        let wires = state.wires;
        state.inboxes.insert(address, Inbox { socket: wires, ..Inbox::default() });
        let number = self.shared.seed ^ wires.rotate_right(16);
        drop(state);
        let mut config = EndpointConfig::default();
        let mut seed = [0; 32];
        seed.iter_mut().zip(number.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        config.rng_seed(Some(seed));
        config.cid_generator(move || Box::new(crypto::Names { key: number }));
        let socket = Arc::new(SimSocket::new(self.clone(), address, wires));
        let (runtime, config) = (Arc::new(SimRuntime), Some(config));
        Wire { socket, runtime, config, crypto: crypto::provider(), buffers: None }
    }

    /// The socket at `address` is gone, as after a crash: whatever still holds it is deaf and mute.
    pub fn unplug(&self, address: SocketAddr) {
        self.shared.state.lock().inboxes.remove(&address);
    }

    /// What happens from now on wherever nothing else was said.
    pub fn weather(&self, weather: Weather) {
        self.shared.state.lock().weather = weather;
    }

    /// What happens from now on to packets from `from` to `to`; not to those that come back.
    pub fn weather_on(&self, from: SocketAddr, to: SocketAddr, weather: Weather) {
        self.shared.state.lock().ways.insert((from, to), weather);
    }

    /// Nothing gets from `from` to `to` any more. The way back stays.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.shared.state.lock().cuts.insert((from, to));
    }

    /// Nothing gets from one side to the other any more, either way.
    pub fn partition(&self, one: &[SocketAddr], other: &[SocketAddr]) {
        let mut state = self.shared.state.lock();
        for (one, other) in one.iter().flat_map(|one| other.iter().map(move |other| (*one, *other)))
        {
            state.cuts.extend([(one, other), (other, one)]);
        }
    }

    /// All ways are open again, and the weather is the same everywhere.
    pub fn heal(&self) {
        let mut state = self.shared.state.lock();
        state.cuts.clear();
        state.ways.clear();
    }

    /// What became of packets so far.
    pub fn counts(&self) -> Counts {
        self.shared.state.lock().counts
    }

    /// A digest of every packet so far: when it was sent, where, its length and what became of it.
    pub fn trace(&self) -> String {
        self.shared.state.lock().trace.finalize().to_hex().to_string()
    }

    /// Takes a packet from a socket.
    pub(super) fn send(&self, socket: (SocketAddr, u64), to: SocketAddr, content: &[u8]) {
        let (now, shared, from) = (Instant::now(), &self.shared, socket.0);
        let mut state = shared.state.lock();
        if state.inbox_of(socket).is_none() {
            return;
        }
        let number = state.counts.sent;
        state.counts.sent += 1;
        let arrivals = state.fate(from, to, content.len());
        let sent_us = now.saturating_duration_since(shared.epoch).as_micros() as u64;
        let way = format!("{number} {sent_us} {from} {to} {} {arrivals:?};", content.len());
        state.trace.update(way.as_bytes());
        for (copy, delay) in (0..).zip(arrivals) {
            let (at, content) = (now + delay, content.to_vec());
            state.flying.push(Reverse(Packet { at, number, copy, from, to, content }));
        }
        drop(state);
        shared.sent.notify_one();
    }

    /// Takes what has arrived at a socket, or wakes the task when something has.
    pub(super) fn poll_receive(
        &self,
        socket: (SocketAddr, u64),
        context: &mut Context<'_>,
    ) -> Poll<(SocketAddr, Vec<u8>)> {
        let mut state = self.shared.state.lock();
        let Some(inbox) = state.inbox_of(socket) else { return Poll::Pending };
        match inbox.packets.pop_front() {
            Some(packet) => Poll::Ready(packet),
            None => {
                inbox.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Delivers what is due, for ever.
    async fn carry(self) {
        loop {
            let next = self.shared.state.lock().flying.peek().map(|Reverse(packet)| packet.at);
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => self.shared.state.lock().deliver(Instant::now()),
                () = self.shared.sent.notified() => {}
            }
        }
    }
}

impl State {
    fn inbox_of(&mut self, (address, number): (SocketAddr, u64)) -> Option<&mut Inbox> {
        self.inboxes.get_mut(&address).filter(|inbox| inbox.socket == number)
    }

    /// When the copies of a packet arrive.
    fn fate(&mut self, from: SocketAddr, to: SocketAddr, len: usize) -> Vec<Duration> {
        let weather = self.ways.get(&(from, to)).copied().unwrap_or(self.weather);
        // All dice are thrown for every packet, so that one change changes little.
        let (lost, doubled, held) = (
            self.random.chance(weather.loss),
            self.random.chance(weather.doubling),
            self.random.chance(weather.holdup),
        );
        let delays = [self.random.between(weather), self.random.between(weather)];
        if self.cuts.contains(&(from, to)) {
            self.counts.cut += 1;
            return Vec::new();
        }
        if lost {
            self.counts.lost += 1;
            return Vec::new();
        }
        let Some(queued) = self.queue(from, to, weather.rate, len) else {
            self.counts.lost += 1;
            return Vec::new();
        };
        self.counts.doubled += u64::from(doubled);
        let copies = delays.into_iter().take(1 + usize::from(doubled));
        let late = if held { 3 * weather.delay_max } else { Duration::ZERO };
        copies.map(|delay| delay + late + queued).collect()
    }

    /// How long a packet waits for those before it, and takes itself; none if that is too long.
    fn queue(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        rate: u32,
        len: usize,
    ) -> Option<Duration> {
        if rate == 0 {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let begins = self.busy.get(&(from, to)).copied().unwrap_or(now).max(now);
        if begins - now > QUEUE_MAX {
            return None;
        }
        let ends = begins + Duration::from_secs_f64(len as f64 / f64::from(rate));
        self.busy.insert((from, to), ends);
        Some(ends - now)
    }

    fn deliver(&mut self, now: Instant) {
        while self.flying.peek().is_some_and(|Reverse(packet)| packet.at <= now) {
            let Some(Reverse(packet)) = self.flying.pop() else { return };
            match self.inboxes.get_mut(&packet.to) {
                Some(inbox) if inbox.packets.len() < INBOX_MAX => {
                    inbox.packets.push_back((packet.from, packet.content));
                    inbox.waker.take().iter().for_each(Waker::wake_by_ref);
                    self.counts.delivered += 1;
                }
                _ => self.counts.dropped += 1,
            }
        }
    }
}

/// SplitMix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// True this often in a million.
    fn chance(&mut self, millionths: u32) -> bool {
        self.next() % 1_000_000 < u64::from(millionths)
    }

    fn between(&mut self, weather: Weather) -> Duration {
        let span = weather.delay_max.saturating_sub(weather.delay_min).as_micros() as u64;
        weather.delay_min + Duration::from_micros(self.next() % (span + 1))
    }
}
