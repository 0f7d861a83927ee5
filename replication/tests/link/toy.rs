//! A conversation about nothing: each side sends counted blobs on every channel, and checks those
//! that come.

use base::NodeId;
use replication::link::{Bell, Channel, Conversation, Conversations, LinkError, Parting, Then};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a node has sent and received, over all its conversations.
#[derive(Debug, Default)]
pub(crate) struct Toys {
    state: Mutex<State>,
    /// Rung when a blob has come, or a conversation has begun or ended.
    pub(crate) progress: Bell,
}

#[derive(Debug, Default)]
struct State {
    /// Blobs that each conversation sends on a channel.
    blobs: u32,
    blob_len: usize,
    began: BTreeMap<NodeId, u32>,
    talking: BTreeMap<NodeId, u32>,
    received: BTreeMap<(NodeId, u8), u32>,
    ends: Vec<(NodeId, String)>,
    failures: Vec<(NodeId, String)>,
    /// How long a call takes.
    call: Duration,
    /// Calls that run, and whether a conversation has ended meanwhile.
    inside: u32,
    ended_inside: bool,
    /// What to answer to a peer that begins.
    refusal: Option<Parting>,
}

impl Toys {
    pub(crate) fn sending(blobs: u32, blob_len: usize) -> Arc<Toys> {
        let state = State { blobs, blob_len, ..State::default() };
        Arc::new(Toys { state: Mutex::new(state), progress: Bell::default() })
    }

    pub(crate) fn refuse(&self, refusal: Parting) {
        self.state.lock().unwrap().refusal = Some(refusal);
    }

    /// From now on peers that begin are answered.
    pub(crate) fn forgive(&self) {
        self.state.lock().unwrap().refusal = None;
    }

    /// Conversations with `peer` that have begun so far.
    pub(crate) fn began(&self, peer: NodeId) -> u32 {
        self.state.lock().unwrap().began.get(&peer).copied().unwrap_or_default()
    }

    /// Why links could not be made.
    pub(crate) fn failures(&self) -> Vec<(NodeId, String)> {
        self.state.lock().unwrap().failures.clone()
    }

    pub(crate) fn ends(&self) -> Vec<(NodeId, String)> {
        self.state.lock().unwrap().ends.clone()
    }

    /// Whether a conversation with `peer` runs, and all of its blobs have come.
    pub(crate) fn has_all(&self, peer: NodeId, blobs: u32) -> bool {
        let state = self.state.lock().unwrap();
        let has = |channel: &Channel| state.received.get(&(peer, byte(*channel))) == Some(&blobs);
        state.talking.get(&peer) == Some(&1) && Channel::ALL.iter().all(has)
    }

    /// Each conversation sends this many blobs more on each channel.
    pub(crate) fn more(&self, blobs: u32) {
        self.state.lock().unwrap().blobs += blobs;
    }

    /// Whether no conversation runs.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state.lock().unwrap().talking.values().all(|talking| *talking == 0)
    }

    /// From now on a call takes so long.
    pub(crate) fn take(&self, call: Duration) {
        self.state.lock().unwrap().call = call;
    }

    /// Whether a call runs.
    pub(crate) fn is_inside(&self) -> bool {
        self.state.lock().unwrap().inside > 0
    }

    /// Whether a conversation has ended while a call was running.
    pub(crate) fn has_ended_inside(&self) -> bool {
        self.state.lock().unwrap().ended_inside
    }

    /// Waits until `is_so`.
    pub(crate) async fn until(&self, is_so: impl Fn(&Toys) -> bool) {
        let mut progress = self.progress.listen();
        while !is_so(self) {
            progress.rung().await;
        }
    }
}

fn byte(channel: Channel) -> u8 {
    Channel::ALL.iter().position(|other| *other == channel).unwrap() as u8
}

/// The state of all conversations, for each of them.
#[derive(Clone)]
pub(crate) struct Talkers(pub(crate) Arc<Toys>);

impl Conversations for Talkers {
    fn begin(&self, peer: NodeId, _now: Duration) -> Result<Box<dyn Conversation>, Parting> {
        let mut state = self.0.state.lock().unwrap();
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        *state.began.entry(peer).or_default() += 1;
        let talking = state.talking.entry(peer).or_default();
        *talking += 1;
        assert_eq!(*talking, 1, "two conversations with one peer at once");
        state.received.retain(|(other, _), _| *other != peer);
        drop(state);
        self.0.progress.ring();
        Ok(Box::new(Talker { toys: self.0.clone(), peer, sent: BTreeMap::new() }))
    }

    fn ended(&self, peer: NodeId, error: &LinkError) {
        let mut state = self.0.state.lock().unwrap();
        state.ended_inside |= state.inside > 0;
        if let Some(talking) = state.talking.get_mut(&peer) {
            *talking = talking.saturating_sub(1);
        }
        state.ends.push((peer, error.code().to_owned()));
        drop(state);
        self.0.progress.ring();
    }

    fn unreached(&self, peer: NodeId, error: &LinkError) {
        self.0.state.lock().unwrap().failures.push((peer, error.code().to_owned()));
        self.0.progress.ring();
    }
}

struct Talker {
    toys: Arc<Toys>,
    peer: NodeId,
    sent: BTreeMap<u8, u32>,
}

impl Conversation for Talker {
    fn receive(&mut self, _now: Duration, channel: Channel, frame: &[u8]) -> Result<(), Parting> {
        let mut state = self.toys.state.lock().unwrap();
        if !state.call.is_zero() {
            let call = state.call;
            state.inside += 1;
            drop(state);
            self.toys.progress.ring();
            std::thread::sleep(call);
            state = self.toys.state.lock().unwrap();
            state.inside -= 1;
        }
        let received = state.received.entry((self.peer, byte(channel))).or_default();
        if frame != blob(channel, *received, frame.len()) {
            let reason = format!("not blob {received} of {channel}");
            return Err(Parting { code: 7, reason, then: Then::Retry });
        }
        *received += 1;
        drop(state);
        self.toys.progress.ring();
        Ok(())
    }

    fn next_frame(&mut self, _now: Duration, channel: Channel) -> Result<Option<Vec<u8>>, Parting> {
        let state = self.toys.state.lock().unwrap();
        let sent = self.sent.entry(byte(channel)).or_default();
        let next = (*sent < state.blobs).then(|| blob(channel, *sent, state.blob_len));
        *sent += u32::from(next.is_some());
        Ok(next)
    }

    fn next_timeout(&self) -> Option<Duration> {
        None
    }
}

/// The blob that a channel carries at a place.
pub(crate) fn blob(channel: Channel, number: u32, len: usize) -> Vec<u8> {
    let seed = [&[byte(channel)][..], &number.to_le_bytes()].concat();
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut bytes);
    bytes
}
