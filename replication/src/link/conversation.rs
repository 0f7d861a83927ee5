//! What is said over a link: a state machine that is fed frames and asked for frames.
//!
//! It knows no socket, clock or task; it may read and write the disk. The driver calls it from one
//! task at a time.

use super::error::{LinkError, Side};
use crate::channel::Channel;
use base::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// A conversation with one peer, with the store that it is about inside.
///
/// `now` is time since a fixed moment and never goes back.
pub trait Conversation: Send {
    /// Takes a frame that has come on `channel`.
    fn receive(&mut self, now: Duration, channel: Channel, frame: &[u8]) -> Result<(), Parting>;

    /// Takes frames that have come on `channel`, in this order.
    fn receive_all(
        &mut self,
        now: Duration,
        channel: Channel,
        frames: &[Vec<u8>],
    ) -> Result<(), Parting> {
        frames.iter().try_for_each(|frame| self.receive(now, channel, frame))
    }

    /// The next frame to send on `channel`, or `None` if there is none now.
    ///
    /// Asked again after every frame received on any channel and every control frame sent, when
    /// the store has changed ([`Conversation::follows_store`]), at [`Conversation::next_timeout`],
    /// and as soon as QUIC has taken the frames before: for a peer that does not read nothing is
    /// asked.
    fn next_frame(&mut self, now: Duration, channel: Channel) -> Result<Option<Vec<u8>>, Parting>;

    /// Whether a change of the store gives `channel` something to say. On others it is enough to be
    /// asked on the other occasions.
    fn follows_store(&self, _channel: Channel) -> bool {
        true
    }

    /// When to ask for frames again at the latest.
    fn next_timeout(&self) -> Option<Duration>;
}

/// Why a conversation is broken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parting {
    /// A stable number, which the peer is told.
    pub code: u32,
    /// A sentence, which the peer is told too.
    pub reason: String,
    /// What comes then.
    pub then: Then,
}

/// What comes after a conversation was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is begun again, after a while.
    Retry,
    /// The peer is not dialed until somebody says otherwise.
    Leave,
    /// Nor is it let in for a while, if it dials: it broke a rule.
    Ban,
}

impl From<Parting> for LinkError {
    fn from(parting: Parting) -> LinkError {
        let Parting { code, reason, then } = parting;
        LinkError::Conversation { by: Side::Us, code, reason, then }
    }
}

/// Begins conversations, and hears of their end.
pub trait Conversations: Send + Sync {
    /// The conversation with a peer that has just connected; the one before has ended. Returns at
    /// once.
    fn begin(&self, peer: NodeId, now: Duration) -> Result<Box<dyn Conversation>, Parting>;

    /// The conversation with `peer` has ended, or was refused by [`Conversations::begin`].
    fn ended(&self, peer: NodeId, error: &LinkError);

    /// `peer` was dialed, and no link came of it. It will be dialed again.
    fn unreached(&self, peer: NodeId, error: &LinkError);
}

/// How calls of a conversation are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// On threads that may wait for the disk.
    Threads,
    /// At once: in simulations, where the order of everything must be the same each time.
    Inline,
}

pub(crate) type Talk = Arc<Mutex<Box<dyn Conversation>>>;

impl Calls {
    pub(crate) async fn run<T: Send + 'static>(
        self,
        talk: &Talk,
        call: impl FnOnce(&mut dyn Conversation) -> Result<T, Parting> + Send + 'static,
    ) -> Result<T, LinkError> {
        let mut talk = talk.clone().lock_owned().await;
        Ok(self.wait(move || call(&mut **talk)).await??)
    }

    /// Makes any call that may wait for the disk.
    pub(crate) async fn wait<T: Send + 'static>(
        self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LinkError> {
        match self {
            Calls::Inline => Ok(call()),
            Calls::Threads => {
                let called = tokio::task::spawn_blocking(|| base::panics::catch(call)).await;
                called.ok().and_then(Result::ok).ok_or_else(|| panicked().into())
            }
        }
    }
}

/// The thread of a call has died. The conversation is not trusted any more, the node goes on.
fn panicked() -> Parting {
    let reason = "an internal error; see the log of the other node".to_owned();
    Parting { code: u32::MAX, reason, then: Then::Retry }
}
