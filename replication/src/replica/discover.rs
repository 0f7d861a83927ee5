//! Says where this node is, and listens to what others say. See [`crate::discovery`].
//!
//! One task sends a beacon now and then, and hears in between; what it hears goes into [`Neighbours`],
//! from where `look` takes it to the mesh. If a socket fails, both are opened anew for the next beacon.

use super::{Replica, Shared};
use crate::discovery::{
    Air, BEACON_LEN, Counts, DiscoveryOptions, Heard, Neighbours, Sighting, Unheard,
};
use crate::group::NO_GROUP;
use base::lock::{Mutex, Rank};
use base::{NodeId, Rng};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Datagrams that are looked at in so long a time, at most. What comes beyond, the kernel drops.
const HEARD_MAX: u32 = 64;
const HEARD_STEP: Duration = Duration::from_millis(100);
/// Between two lines of the log about nodes that were found.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is known from beacons.
pub(super) struct Discovery {
    pub(super) options: DiscoveryOptions,
    state: Mutex<State>,
}

struct State {
    neighbours: Neighbours,
    /// Why the last beacon was not sent, or nothing can be heard.
    trouble: Option<String>,
    /// When the log was told of a node that was found.
    told_at: Option<Duration>,
}

/// A node that was heard on the local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundAt {
    /// Who it says it is.
    pub node: NodeId,
    /// Where it says it listens.
    pub address: SocketAddr,
    /// When it was heard last, in milliseconds since the Unix epoch.
    pub heard_ms: u64,
}

/// How the search for members on the local network goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryReport {
    /// What was sent and heard.
    pub counts: Counts,
    /// Members that are heard now.
    pub members: Vec<FoundAt>,
    /// Others that know the group, and are not talked to.
    pub strangers: Vec<FoundAt>,
    /// Why nothing can be sent or heard now, if that is so.
    pub trouble: Option<String>,
}

impl Discovery {
    /// Nobody was heard yet.
    pub(super) fn new(own: NodeId, options: DiscoveryOptions) -> Discovery {
        let neighbours = Neighbours::new(own, options.expiry);
        let state = State { neighbours, trouble: None, told_at: None };
        Discovery { options, state: Mutex::new(Rank::Links, state) }
    }

    /// Notes what one datagram said.
    fn hear(&self, datagram: &[u8], source: SocketAddr, now: Duration) {
        let mut state = self.state.lock();
        let heard = state.neighbours.hear(datagram, source, now);
        let Some(Sighting { node, address, .. }) = new_member(&heard, &state.neighbours) else {
            drop(state);
            if let Err(refused) = heard {
                tracing::debug!(%source, %refused, "a datagram was not listened to");
            }
            return;
        };
        let is_quiet = state.told_at.is_some_and(|at| now < at.saturating_add(TOLD_EVERY));
        state.told_at = Some(now).filter(|_| !is_quiet).or(state.told_at);
        drop(state);
        if is_quiet {
            tracing::debug!(%node, %address, "a member was found on the local network");
        } else {
            tracing::info!(%node, %address, "a member was found on the local network");
        }
    }

    /// Notes whether a beacon was sent.
    fn note_sent(&self, sent: &io::Result<()>) {
        self.state.lock().neighbours.note_sent(sent);
        self.note(sent.as_ref().err());
    }

    /// Notes what fails, if anything does; the log is told when that changes.
    fn note(&self, error: Option<&io::Error>) {
        let trouble = error.map(ToString::to_string);
        let before = std::mem::replace(&mut self.state.lock().trouble, trouble.clone());
        let DiscoveryOptions { address, port, .. } = self.options;
        match (before, trouble) {
            (before, Some(error)) if before.as_ref() != Some(&error) => {
                tracing::warn!(%address, port, code = "Socket", error, "members can not be looked for on the network");
            }
            (Some(_), None) => tracing::info!(%address, port, "members are looked for again"),
            _ => {}
        }
    }
}

/// The member that `heard` says is at an address where it was not before.
fn new_member(heard: &Result<Heard, Unheard>, neighbours: &Neighbours) -> Option<Sighting> {
    match heard {
        Ok(Heard::New(sighting)) if neighbours.is_member(sighting.node) => Some(*sighting),
        _ => None,
    }
}

impl Shared {
    /// Takes over who is in the group, and says where its members may be.
    pub(super) fn look_around(
        &self,
        members: BTreeSet<NodeId>,
    ) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        let Some(discovery) = &self.discovery else { return BTreeMap::new() };
        // As long as nothing was agreed on, the group that its members would agree on.
        let id = self.group.id();
        let id = if id == NO_GROUP { self.group.proposal() } else { id };
        let mut state = discovery.state.lock();
        state.neighbours.belong(id, members);
        state.neighbours.addresses(self.driving.now())
    }

    /// Everybody who is heard now, and how that goes; none if nobody is looked for.
    pub(super) fn found(&self) -> Option<DiscoveryReport> {
        let discovery = self.discovery.as_ref()?;
        let (now, wall_ms) = (self.driving.now(), self.store.wall_ms());
        let mut state = discovery.state.lock();
        let sightings = state.neighbours.sightings(now);
        let (members, strangers): (Vec<_>, Vec<_>) =
            sightings.into_iter().partition(|it| state.neighbours.is_member(it.node));
        let at = |Sighting { node, address, heard_at }| {
            let ago = u64::try_from(now.saturating_sub(heard_at).as_millis()).unwrap_or(0);
            FoundAt { node, address, heard_ms: wall_ms.saturating_sub(ago) }
        };
        Some(DiscoveryReport {
            counts: state.neighbours.counts(),
            members: members.into_iter().map(at).collect(),
            strangers: strangers.into_iter().map(at).collect(),
            trouble: state.trouble.clone(),
        })
    }
}

impl Replica {
    /// Who is heard on the local network; none if nobody is looked for.
    pub fn discovery(&self) -> Option<DiscoveryReport> {
        self.shared.found()
    }
}

/// Says that this node listens at `listen`, and hears others, until it is aborted.
pub(super) async fn discover(shared: Arc<Shared>, listen: SocketAddr, rng: Arc<dyn Rng>) {
    let Some(discovery) = &shared.discovery else { return };
    let mut air = None;
    loop {
        let next = Instant::now() + jittered(discovery.options.interval, &*rng);
        let beacon = discovery.state.lock().neighbours.beacon(listen.port());
        if let Some(beacon) = beacon {
            let opened = match air.take() {
                Some(air) => Ok(air),
                None => Air::open(&discovery.options, listen.ip()),
            };
            let said = match opened {
                Ok(open) => open.say(&beacon).await.map(|()| air = Some(open)),
                Err(error) => Err(error),
            };
            discovery.note_sent(&said);
        }
        match &air {
            None => sleep_until(next).await,
            Some(open) => {
                if let Err(error) = hear(&shared, discovery, open, next).await {
                    discovery.note(Some(&error));
                    air = None;
                    sleep_until(next).await;
                }
            }
        }
    }
}

/// Listens until `end`.
async fn hear(shared: &Shared, discovery: &Discovery, air: &Air, end: Instant) -> io::Result<()> {
    // One byte more, to see what is too long.
    let mut datagram = [0; BEACON_LEN + 1];
    let (mut step_ends, mut heard) = (Instant::now() + HEARD_STEP, 0);
    while let Ok(came) = timeout_at(end, air.hear(&mut datagram)).await {
        let (len, source) = came?;
        let now = Instant::now();
        if now >= step_ends {
            (step_ends, heard) = (now + HEARD_STEP, 0);
        }
        heard += 1;
        discovery.hear(datagram.get(..len).unwrap_or_default(), source, shared.driving.now());
        if heard >= HEARD_MAX {
            sleep_until(step_ends.min(end)).await;
        }
    }
    Ok(())
}

/// `interval`, more or less a tenth: nodes that were started at once do not speak at once for ever.
fn jittered(interval: Duration, rng: &dyn Rng) -> Duration {
    let mut byte = [128];
    // Without randomness all of them are the same, which harms nobody.
    let _ = rng.fill(&mut byte);
    let [byte] = byte;
    interval * 9 / 10 + interval * u32::from(byte) / (5 * 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::OsRng;
    use base::rng::SeededRng;

    #[test]
    fn beacons_of_nodes_that_began_at_once_drift_apart_by_a_tenth_at_most() {
        let second = Duration::from_secs(1);
        let rng = SeededRng::new(1);
        let pauses: Vec<_> = (0..200).map(|_| jittered(second, &rng).as_millis()).collect();
        assert!(pauses.iter().all(|pause| (900..=1100).contains(pause)), "{pauses:?}");
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(most - least > 150, "{least} to {most}");
        assert!(jittered(Duration::ZERO, &OsRng).is_zero());
    }
}
