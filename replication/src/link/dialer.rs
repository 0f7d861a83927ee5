//! Dials a peer again and again, with growing, jittered pauses, and rarely while all fails.

use super::breaker::{Attempt, Breaker, BreakerSettings, BreakerState, Rejected};
use super::conversation::Then;
use super::error::{LinkError, Side};
use super::mesh::Shared;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use base::NodeId;
use base::lock::{Mutex, Rank};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The first pause is between this and its double.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest is between this and its double, 30 s.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A link that lived so long was a good one: pauses begin anew.
const STEADY: Duration = Duration::from_secs(5);
/// How often a breaker that waits for results is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A breaker for each peer that is dialed.
#[derive(Debug)]
pub(crate) struct Breakers {
    settings: BreakerSettings,
    peers: Mutex<BTreeMap<NodeId, Breaker>>,
}

impl Breakers {
    pub(crate) fn new(settings: BreakerSettings) -> Breakers {
        Breakers { settings, peers: Mutex::new(Rank::Links, BTreeMap::new()) }
    }

    pub(crate) fn state(&self, peer: NodeId, now: Duration) -> BreakerState {
        let peers = self.peers.lock();
        peers.get(&peer).map_or(BreakerState::Closed, |breaker| breaker.state(now))
    }

    pub(crate) fn forget(&self, peer: NodeId) {
        self.peers.lock().remove(&peer);
    }

    fn attempt(&self, peer: NodeId, now: Duration) -> Result<Attempt, Rejected> {
        self.with(peer, |breaker| breaker.attempt(now))
    }

    fn with<T>(&self, peer: NodeId, call: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut peers = self.peers.lock();
        call(peers.entry(peer).or_insert_with(|| {
            let mut breaker = Breaker::new(self.settings);
            breaker.on_change(Box::new(move |before, after| {
                tracing::info!(%peer, %before, %after, "the circuit breaker of a peer");
            }));
            breaker
        }))
    }
}

/// Keeps a link to `peer`, until the task is aborted or the peer is banned.
pub(crate) async fn keep(shared: Arc<Shared>, peer: NodeId, address: SocketAddr) {
    let mut seed = [0; 8];
    if let Err(error) = shared.parts.rng.fill(&mut seed) {
        tracing::warn!(%error, "no randomness: pauses between attempts are the same each time");
    }
    let pauses = || pauses(u64::from_le_bytes(seed));
    let mut pause = pauses();
    loop {
        shared.vacant(peer).await;
        let now = shared.parts.driving.now();
        let attempt = match shared.breakers.attempt(peer, now) {
            Ok(attempt) => attempt,
            Err(Rejected { retry_at }) => {
                sleep(retry_at.map_or(ASK_AGAIN, |at| at.saturating_sub(now))).await;
                continue;
            }
        };
        let (error, lived) = dial(&shared, peer, address, attempt).await;
        tracing::debug!(%peer, %address, %error, "not linked");
        let leaves = |then| matches!(then, Then::Leave | Then::Ban);
        if matches!(error, LinkError::Conversation { by: Side::Us, then, .. } if leaves(then)) {
            tracing::warn!(%peer, %error, "the peer is dialed no more");
            return;
        }
        if lived >= STEADY {
            pause = pauses();
        }
        sleep(pause.next().unwrap_or(PAUSE_MAX)).await;
    }
}

/// Dials once and talks until the link ends. Why it has, and how long it lived.
async fn dial(
    shared: &Arc<Shared>,
    peer: NodeId,
    address: SocketAddr,
    attempt: Attempt,
) -> (LinkError, Duration) {
    let raised = match shared.parts.endpoint.dial(address, peer).await {
        Ok(link) => shared.raise(link).await,
        Err(error) => Err(error),
    };
    let now = shared.parts.driving.now();
    match raised {
        Ok(raised) => {
            shared.breakers.with(peer, |breaker| breaker.succeeded(attempt));
            let began = Instant::now();
            let shared = shared.clone();
            // A task of its own: whoever stops dialing does not tear the conversation apart.
            let conversing = tokio::spawn(async move { shared.converse(raised).await });
            let error = conversing.await.unwrap_or(LinkError::Closed { by: Side::Us });
            (error, began.elapsed())
        }
        // The peer is there, and another link to it too.
        Err(error @ LinkError::Superseded) => {
            shared.breakers.with(peer, |breaker| breaker.succeeded(attempt));
            (error, Duration::ZERO)
        }
        Err(error) => {
            shared.breakers.with(peer, |breaker| breaker.failed(attempt, now));
            shared.parts.conversations.unreached(peer, &error);
            (error, Duration::ZERO)
        }
    }
}

fn pauses(seed: u64) -> ExponentialBackoff {
    let pauses = ExponentialBuilder::new().with_min_delay(PAUSE_MIN).with_max_delay(PAUSE_MAX);
    pauses.with_factor(2.0).without_max_times().with_jitter().with_jitter_seed(seed).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_tenth_of_a_second_to_half_a_minute_and_differ_between_nodes() {
        for seed in 0..50 {
            let pauses: Vec<Duration> = pauses(seed).take(40).collect();
            assert!((100..=200).contains(&pauses[0].as_millis()), "{pauses:?}");
            let max = Duration::from_secs(30);
            assert!(pauses.iter().all(|pause| *pause <= max), "{pauses:?}");
            assert!(pauses[30..].iter().all(|pause| *pause >= max / 2), "{pauses:?}");
        }
        assert_ne!(pauses(1).nth(3), pauses(2).nth(3));
    }
}
