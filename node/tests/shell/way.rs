//! A way between two processes that a test can cut: their datagrams pass it or are dropped, each direction apart.
//!
//! ```text
//! one node ──> front ──there──> rear ──> the other, which takes the rear for the one
//!          <──       <──back───      <──
//! ```

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a direction that carries nothing looks whether the way is still there.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of a datagram at the most.
const DATAGRAM_LEN_MAX: usize = 1 << 16;

/// What becomes of the datagrams of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Cut,
}

/// See the module. It ends when it is dropped.
pub(crate) struct Way {
    /// Where the one node finds the other.
    pub(crate) address: String,
    there: Arc<Direction>,
    back: Arc<Direction>,
}

#[derive(Default)]
struct Direction {
    is_cut: AtomicBool,
    is_over: AtomicBool,
    dropped: AtomicU64,
}

impl Way {
    /// A way to the node that listens at `listen`, for one other node.
    pub(crate) fn to(listen: &str) -> Way {
        let [front, rear] = [(), ()].map(|()| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
            socket.set_read_timeout(Some(LOOK_EVERY)).expect("a timeout can be set");
            Arc::new(socket)
        });
        rear.connect(listen).expect("loopback is there");
        let address = front.local_addr().expect("it is bound").to_string();
        let way = Way { address, there: Arc::default(), back: Arc::default() };
        let one: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let (came, known) = (front.clone(), one.clone());
        let (there, back) = (way.there.clone(), way.back.clone());
        let to = rear.clone();
        std::thread::spawn(move || {
            there.carry(&came, |bytes, from| {
                *known.lock().expect("nobody panics") = Some(from);
                // Nobody may be there just now.
                let _ = to.send(bytes);
            });
        });
        std::thread::spawn(move || {
            back.carry(&rear, |bytes, _| {
                if let Some(one) = *one.lock().expect("nobody panics") {
                    let _ = front.send_to(bytes, one);
                }
            });
        });
        way
    }

    /// What becomes of what goes to the node behind it, and of what comes from it.
    pub(crate) fn set(&self, there: Gate, back: Gate) {
        for (direction, gate) in [(&self.there, there), (&self.back, back)] {
            direction.is_cut.store(gate == Gate::Cut, Ordering::Release);
        }
    }

    /// Datagrams that were dropped on the way there, and on the way back.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        let of = |direction: &Direction| direction.dropped.load(Ordering::Acquire);
        (of(&self.there), of(&self.back))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        [&self.there, &self.back].iter().for_each(|it| it.is_over.store(true, Ordering::Release));
    }
}

impl Direction {
    /// Hands what comes to `pass`, unless it is cut.
    fn carry(&self, from: &UdpSocket, mut pass: impl FnMut(&[u8], SocketAddr)) {
        let mut bytes = vec![0; DATAGRAM_LEN_MAX];
        while !self.is_over.load(Ordering::Acquire) {
            // A timeout, or nobody was there for what was sent before.
            let Ok((len, who)) = from.recv_from(&mut bytes) else { continue };
            if self.is_cut.load(Ordering::Acquire) {
                self.dropped.fetch_add(1, Ordering::AcqRel);
            } else {
                pass(&bytes[..len], who);
            }
        }
    }
}
