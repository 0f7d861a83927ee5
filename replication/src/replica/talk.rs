//! Sessions over links.

use super::Shared;
use crate::error::{ProtocolError, Remedy};
use crate::link::{Channel, Conversation, Conversations, LinkError, Parting, Side, Then};
use crate::protocol::{Event, Session, SessionConfig, Tier};
use base::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// Begins sessions.
pub(super) struct Talks {
    shared: Arc<Shared>,
}

impl Talks {
    pub(super) fn new(shared: Arc<Shared>) -> Talks {
        Talks { shared }
    }

    fn note(&self, peer: NodeId, error: &LinkError) {
        if matches!(error, LinkError::Retired { by: Side::Peer }) {
            self.shared.group.note_retired(peer);
        }
        let is_quiet = matches!(error, LinkError::Closed { .. } | LinkError::Superseded);
        if !is_quiet {
            let at_ms = self.shared.store.wall_ms();
            self.shared.journal.note_failure(peer, at_ms, error.code(), error);
        }
    }
}

impl Conversations for Talks {
    fn begin(&self, peer: NodeId, now: Duration) -> Result<Box<dyn Conversation>, Parting> {
        let options = &self.shared.options;
        let config = SessionConfig {
            window_bytes: options.window_bytes,
            window_shipments: options.window_shipments,
            shipment_len: options.shipment_len,
            audit_every: options.audit_every,
            ..SessionConfig::new(peer)
        };
        let session = Session::new(config, self.shared.group.clone(), now);
        Ok(Box::new(Talk { session, saved: 0, peer, shared: self.shared.clone() }))
    }

    fn ended(&self, peer: NodeId, error: &LinkError) {
        self.note(peer, error);
    }

    fn unreached(&self, peer: NodeId, error: &LinkError) {
        self.note(peer, error);
    }
}

/// A session and what it is about.
struct Talk {
    session: Session,
    /// Bytes saved that were counted.
    saved: u64,
    peer: NodeId,
    shared: Arc<Shared>,
}

impl Talk {
    fn done<T>(&mut self, done: Result<T, ProtocolError>) -> Result<T, Parting> {
        for event in self.session.take_events() {
            self.note(&event);
        }
        done.map_err(|error| parting(&error))
    }

    fn hear(
        &mut self,
        now: Duration,
        channel: Channel,
        frames: &[impl AsRef<[u8]>],
    ) -> Result<(), Parting> {
        let wall_ms = self.shared.store.wall_ms();
        self.shared.journal.count(self.peer, |totals| {
            totals.frames_received += frames.len() as u64;
            totals.bytes_received +=
                frames.iter().map(|frame| frame.as_ref().len() as u64).sum::<u64>();
            totals.heard_ms = wall_ms;
        });
        let store = self.shared.store.clone();
        let done = self.session.receive_all(now, channel, frames, &*store);
        self.done(done)
    }

    fn note(&self, event: &Event) {
        let peer = self.peer;
        let trouble = |code, message: String| {
            tracing::warn!(%peer, code, message);
            let at_ms = self.shared.store.wall_ms();
            self.shared.journal.note_trouble(Some(peer), at_ms, code, &message);
        };
        match event {
            Event::Up(_) => {
                tracing::info!(%peer, "a session is up");
                self.shared.journal.count(peer, |totals| totals.sessions += 1);
            }
            Event::Chose(tier) => tracing::info!(%peer, ?tier, "catching up"),
            Event::Installed(tier) => {
                tracing::info!(%peer, ?tier, "caught up");
                self.shared.journal.count(peer, |totals| match tier {
                    Tier::Delta => totals.deltas += 1,
                    Tier::Rejoin | Tier::Heal => totals.rejoins += 1,
                    Tier::Tables => totals.bootstraps += 1,
                });
            }
            Event::Parked { by_ms } => {
                trouble("ClockAhead", format!("its clock is {by_ms} ms ahead: nothing is merged"));
            }
            Event::LateWrites(count) => {
                trouble("LateWrites", format!("{count} late writes went into quarantine"));
            }
            Event::Unanswered(count) => {
                tracing::info!(%peer, count, "late writes wait for an author's answer");
            }
            Event::Healing => trouble("Healing", "it has more of our writes than we".to_owned()),
            Event::Renewed => tracing::info!(%peer, "this node has begun a new life"),
            Event::Audited(report) if report.diverged() == 0 => {
                let (elements, lag) = (report.elements, report.lag);
                tracing::info!(%peer, elements, lag, "an audit found no divergence");
            }
            Event::Audited(report) => trouble(
                "Diverged",
                format!(
                    "an audit found what lag does not explain: {} entries came back here and {} \
                     there, {} were erased here and {} there, {} stay",
                    report.taken,
                    report.given,
                    report.disowned,
                    report.disowned_there,
                    report.unsettled
                ),
            ),
            Event::Incident(what) => trouble("Incident", what.clone()),
        }
    }
}

impl Conversation for Talk {
    fn receive(&mut self, now: Duration, channel: Channel, frame: &[u8]) -> Result<(), Parting> {
        self.hear(now, channel, &[frame])
    }

    fn receive_all(
        &mut self,
        now: Duration,
        channel: Channel,
        frames: &[Vec<u8>],
    ) -> Result<(), Parting> {
        self.hear(now, channel, frames)
    }

    fn next_frame(&mut self, now: Duration, channel: Channel) -> Result<Option<Vec<u8>>, Parting> {
        let store = self.shared.store.clone();
        let made = self.session.next_frame(now, channel, &*store);
        let frame = self.done(made)?;
        if let Some(frame) = &frame {
            let saved = self.session.saved();
            let saved_now = saved - std::mem::replace(&mut self.saved, saved);
            self.shared.journal.count(self.peer, |totals| {
                totals.frames_sent += 1;
                totals.bytes_sent += frame.len() as u64;
                totals.bytes_saved += saved_now;
            });
        }
        Ok(frame)
    }

    /// What is stated is stated at its time; state waits for what other peers bring, and that may take
    /// until the next timeout.
    fn follows_store(&self, channel: Channel) -> bool {
        channel == Channel::Tail
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.session.next_timeout()
    }
}

fn parting(error: &ProtocolError) -> Parting {
    let then = match error.remedy() {
        Remedy::Retry => Then::Retry,
        Remedy::Operator => Then::Leave,
        Remedy::Ban => Then::Ban,
    };
    let reason = format!("{}: {error}; {}", error.code(), error.action());
    Parting { code: u32::from(error.number()), reason, then }
}
