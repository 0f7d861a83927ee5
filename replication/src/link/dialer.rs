//! Dials a peer again and again, with growing, jittered pauses, and rarely while all fails.

use super::breaker::{Attempt, Breaker, BreakerSettings, BreakerState, Rejected};
use super::conversation::Then;
use super::error::{LinkError, Side};
use super::found::Tried;
use super::mesh::Shared;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use base::NodeId;
use base::lock::{Mutex, Rank};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

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
    guarded: Mutex<Guarded>,
}

#[derive(Debug)]
struct Guarded {
    settings: BreakerSettings,
    peers: BTreeMap<NodeId, (Breaker, DialCounts)>,
}

/// How attempts to reach a peer have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DialCounts {
    /// It was reached.
    pub successes: u64,
    /// It was not.
    pub failures: u64,
    /// It was left alone.
    pub rejected: u64,
}

impl Breakers {
    pub(crate) fn new(settings: BreakerSettings) -> Breakers {
        let guarded = Guarded { settings, peers: BTreeMap::new() };
        Breakers { guarded: Mutex::new(Rank::Links, guarded) }
    }

    /// All behave like `settings` from now on.
    pub(crate) fn configure(&self, settings: BreakerSettings) {
        let mut guarded = self.guarded.lock();
        guarded.settings = settings;
        guarded.peers.values_mut().for_each(|(breaker, _)| breaker.configure(settings));
    }

    pub(crate) fn state(&self, peer: NodeId, now: Duration) -> BreakerState {
        let guarded = self.guarded.lock();
        guarded.peers.get(&peer).map_or(BreakerState::Closed, |(breaker, _)| breaker.state(now))
    }

    /// How that of each peer is that was dialed.
    pub(crate) fn all(&self, now: Duration) -> BTreeMap<NodeId, (BreakerState, DialCounts)> {
        let guarded = self.guarded.lock();
        let of = |(peer, (breaker, counts)): (&NodeId, &(Breaker, DialCounts))| {
            (*peer, (breaker.state(now), *counts))
        };
        guarded.peers.iter().map(of).collect()
    }

    /// There is no such peer any more.
    pub(crate) fn forget(&self, peer: NodeId) {
        self.guarded.lock().peers.remove(&peer);
    }

    /// Closes that of `peer`, as if nothing had failed. Returns false if it was never dialed.
    pub(crate) fn reset(&self, peer: NodeId) -> bool {
        let mut guarded = self.guarded.lock();
        let Some((breaker, _)) = guarded.peers.get_mut(&peer) else { return false };
        breaker.reset();
        true
    }

    /// The peer was reached.
    fn reached(&self, peer: NodeId, why: Why) {
        match why {
            Why::Told(attempt) => self.with(peer, |breaker, counts| {
                counts.successes += 1;
                breaker.succeeded(attempt);
            }),
            Why::Found => drop(self.reset(peer)),
        }
    }

    /// The peer was not.
    fn unreached(&self, peer: NodeId, attempt: Attempt, now: Duration) {
        self.with(peer, |breaker, counts| {
            counts.failures += 1;
            breaker.failed(attempt, now);
        });
    }

    fn attempt(&self, peer: NodeId, now: Duration) -> Result<Attempt, Rejected> {
        self.with(peer, |breaker, counts| {
            breaker.attempt(now).inspect_err(|_| counts.rejected += 1)
        })
    }

    fn with<T>(&self, peer: NodeId, call: impl FnOnce(&mut Breaker, &mut DialCounts) -> T) -> T {
        let mut guarded = self.guarded.lock();
        let settings = guarded.settings;
        let (breaker, counts) = guarded.peers.entry(peer).or_insert_with(|| {
            let mut breaker = Breaker::new(settings);
            breaker.on_change(Box::new(move |before, after| {
                tracing::info!(%peer, %before, %after, "the circuit breaker of a peer");
            }));
            (breaker, DialCounts::default())
        });
        call(breaker, counts)
    }
}

/// Why an address is dialed.
enum Why {
    /// Somebody said that the peer is there. How it goes counts for the breaker.
    Told(Attempt),
    /// It was found there. That may be a lie, so it does not count against the peer.
    Found,
}

/// Keeps a link to `peer`, until the task is aborted or the peer is banned. Where it was found is dialed
/// besides `address`: after it has failed, or at once if the hint is new.
pub(crate) async fn keep(shared: Arc<Shared>, peer: NodeId, address: Option<SocketAddr>) {
    let mut seed = [0; 8];
    if let Err(error) = shared.parts.rng.fill(&mut seed) {
        tracing::warn!(code = "Io", %error, "no randomness: pauses between attempts are the same each time");
    }
    let pauses = || pauses(u64::from_le_bytes(seed));
    let (mut pause, mut tried, mut is_news) = (pauses(), Tried::default(), false);
    let mut was_dialed = false;
    loop {
        if !shared.is_vacant(peer) {
            is_news = false;
            shared.vacant(peer).await;
        }
        let (mut ended, mut asks_again) = (None, None);
        // Whoever always has news does not keep it from the given address.
        was_dialed = !(is_news && was_dialed);
        if let Some(address) = address.filter(|_| was_dialed) {
            let now = shared.parts.driving.now();
            match shared.breakers.attempt(peer, now) {
                Ok(attempt) => ended = Some(dial(&shared, peer, address, Why::Told(attempt)).await),
                Err(Rejected { retry_at }) => {
                    asks_again = Some(retry_at.map_or(ASK_AGAIN, |at| at.saturating_sub(now)));
                }
            }
        }
        let has_lived = ended.as_ref().is_some_and(|(_, lived)| !lived.is_zero());
        if !has_lived
            && shared.is_vacant(peer)
            && let Some(hint) = tried.next(&shared.found.of(peer, address))
        {
            ended = Some(dial(&shared, peer, hint, Why::Found).await);
        }
        if let Some((error, lived)) = &ended {
            if leaves(error) {
                tracing::warn!(%peer, code = error.code(), %error, "the peer is dialed no more");
                return;
            }
            if *lived >= STEADY {
                pause = pauses();
            }
        }
        let rest = match (ended, asks_again) {
            (None, Some(until)) => until,
            _ => pause.next().unwrap_or(PAUSE_MAX),
        };
        is_news = shared.rest(peer, address, &tried, rest).await;
    }
}

/// Whether a link has ended so that the peer is to be left alone.
fn leaves(error: &LinkError) -> bool {
    let LinkError::Conversation { by: Side::Us, then, .. } = error else { return false };
    matches!(then, Then::Leave | Then::Ban)
}

impl Shared {
    /// Waits for `limit`, or until `peer` was found where it was not dialed yet: whether it was.
    async fn rest(
        &self,
        peer: NodeId,
        address: Option<SocketAddr>,
        tried: &Tried,
        limit: Duration,
    ) -> bool {
        let mut changed = self.found.changed.listen();
        let news = async {
            while !tried.is_news(&self.found.of(peer, address)) {
                changed.rung().await;
            }
        };
        timeout(limit, news).await.is_ok()
    }
}

/// Dials once and talks until the link ends. Why it has, and how long it lived.
async fn dial(
    shared: &Arc<Shared>,
    peer: NodeId,
    address: SocketAddr,
    why: Why,
) -> (LinkError, Duration) {
    let raised = match shared.parts.endpoint.dial(address, peer).await {
        Ok(link) => shared.raise(link).await,
        Err(error) => Err(error),
    };
    let now = shared.parts.driving.now();
    let ended = match raised {
        Ok(raised) => {
            shared.breakers.reached(peer, why);
            let (began, shared) = (Instant::now(), shared.clone());
            // A task of its own: whoever stops dialing does not tear the conversation apart.
            let conversing = tokio::spawn(async move { shared.converse(raised).await });
            let error = conversing.await.unwrap_or(LinkError::Closed { by: Side::Us });
            (error, began.elapsed())
        }
        // The peer is there, and another link to it too.
        Err(error @ LinkError::Superseded) => {
            shared.breakers.reached(peer, why);
            (error, Duration::ZERO)
        }
        Err(error) => {
            if let Why::Told(attempt) = why {
                shared.breakers.unreached(peer, attempt, now);
                shared.parts.conversations.unreached(peer, &error);
            }
            (error, Duration::ZERO)
        }
    };
    tracing::debug!(%peer, %address, code = ended.0.code(), error = %ended.0, "not linked");
    ended
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
