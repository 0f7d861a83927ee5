//! Moves frames between a link and its conversation.
//!
//! ```text
//! link ──channel──> reader ──receive──> conversation ──next_frame──> writer ──channel──> link
//!                      └──────────────rings──────────────────────────> writers of all channels
//! ```
//!
//! A channel has a reader and a writer. Calls may run on threads of their own, which costs more than
//! most frames do, so one call takes, or asks for, all frames that there are, up to a bound; what comes
//! meanwhile is read already. A writer
//! asks for more once QUIC has taken the last, so a peer that does not read costs that bound a channel,
//! and the send window. The first error ends all, and closes the link with its code.

use super::bell::Bell;
use super::channel::{ChannelReceiver, ChannelSender};
use super::conversation::{Calls, Conversation, Parting, Talk};
use super::endpoint::{Dialed, Link};
use super::error::LinkError;
use super::settings::LinkSettings;
use crate::channel::Channel;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Bytes from which on a call takes no further frame, and frames of a call at the most.
const CALL_BYTES: usize = 512 << 10;
const CALL_FRAMES: usize = 64;
/// The same of what is read while a call is under way, on the channels that bring much: neither waits for
/// the other, and what is taken at once costs less.
const AHEAD_BYTES: usize = 4 << 20;
const AHEAD_FRAMES: usize = 1024;
/// How long whoever ended a channel may keep the connection.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// What all conversations of a node are driven with.
#[derive(Clone, Debug)]
pub struct Driving {
    /// How calls are made.
    pub calls: Calls,
    /// Rung when the store has changed.
    pub store: Bell,
    /// The moment that time counts from.
    pub epoch: Instant,
}

impl Driving {
    /// Time begins now.
    pub fn new(calls: Calls, store: Bell) -> Driving {
        Driving { calls, store, epoch: Instant::now() }
    }

    /// The time that conversations are told.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Lets all conversations look whether there is something to say.
    pub fn ring(&self) {
        self.store.ring();
    }
}

/// The two halves of the control channel: by it both know that the other accepts their key.
#[derive(Debug)]
pub struct Control {
    sender: ChannelSender,
    receiver: ChannelReceiver,
}

/// Opens, or waits for, the control channel. Only then is a link up.
pub async fn establish(link: &Link, settings: &LinkSettings) -> Result<Control, LinkError> {
    let limit = settings.hello.get();
    let established = timeout(limit, async {
        match link.dialed() {
            Dialed::ByUs => link.open(Channel::Control, settings).await,
            Dialed::ByPeer => {
                let (channel, sender, receiver) = link.accept(settings).await?;
                let byte = channel.byte();
                let is_first = channel == Channel::Control;
                if is_first {
                    Ok((sender, receiver))
                } else {
                    Err(LinkError::UnknownChannel { byte })
                }
            }
        }
    });
    let late = LinkError::TimedOut { what: "the control channel", limit };
    let established = established.await.unwrap_or(Err(late));
    let (sender, receiver) = established.map_err(|error| truth(link, error))?;
    Ok(Control { sender, receiver })
}

/// Drives a conversation until the link or the conversation ends, and says why.
pub async fn drive(
    link: Link,
    control: Control,
    conversation: Box<dyn Conversation>,
    settings: &LinkSettings,
    driving: &Driving,
) -> LinkError {
    let wheel = Wheel {
        link: link.clone(),
        talk: Arc::new(Mutex::new(conversation)),
        turn: Bell::default(),
        settings: settings.clone(),
        driving: driving.clone(),
    };
    let wheel = Arc::new(wheel);
    let mut tasks = JoinSet::new();
    wheel.turn_channel(&mut tasks, Channel::Control, control.sender, control.receiver);
    let error = tokio::select! {
        biased;
        error = link.closed() => error,
        error = wheel.turn_others(&mut tasks) => whole_truth(&link, error).await,
    };
    link.close(&error);
    tasks.shutdown().await;
    // A call may still be on its thread: the conversation has ended when that has.
    drop(wheel.talk.lock().await);
    error
}

/// If the connection is closed, everything on it fails; why it was closed says more.
fn truth(link: &Link, error: LinkError) -> LinkError {
    link.connection().close_reason().map_or(error, LinkError::from)
}

/// Whose channel ends is about to close the connection and to say why, in a packet behind that one.
async fn whole_truth(link: &Link, error: LinkError) -> LinkError {
    match error {
        LinkError::ChannelEnded { .. } => {
            timeout(LAST_WORDS_WAIT, link.closed()).await.unwrap_or(error)
        }
        error => truth(link, error),
    }
}

/// Does not return but with an error.
type Ended = Result<std::convert::Infallible, LinkError>;

struct Wheel {
    link: Link,
    talk: Talk,
    /// Rung when the conversation may have more to say.
    turn: Bell,
    settings: LinkSettings,
    driving: Driving,
}

impl Wheel {
    fn turn_channel(
        self: &Arc<Wheel>,
        tasks: &mut JoinSet<Ended>,
        channel: Channel,
        sender: ChannelSender,
        receiver: ChannelReceiver,
    ) {
        let (reading, writing) = (self.clone(), self.clone());
        tasks.spawn(async move { reading.read(channel, receiver).await });
        tasks.spawn(async move { writing.write(channel, sender).await });
    }

    /// Opens or accepts the other channels, until something fails.
    async fn turn_others(self: &Arc<Wheel>, tasks: &mut JoinSet<Ended>) -> LinkError {
        let mut known = vec![Channel::Control];
        loop {
            let missing = Channel::ALL.into_iter().find(|channel| !known.contains(channel));
            let next = async {
                match (self.link.dialed(), missing) {
                    (Dialed::ByUs, Some(channel)) => {
                        let opened = self.link.open(channel, &self.settings).await?;
                        Ok((channel, opened.0, opened.1))
                    }
                    // All are open; a stream that comes is one too many.
                    (Dialed::ByUs, None) | (Dialed::ByPeer, _) => {
                        self.link.accept(&self.settings).await
                    }
                }
            };
            let next = tokio::select! {
                biased;
                Some(ended) = tasks.join_next() => return reason(ended),
                next = next => next,
            };
            match next {
                Ok((channel, _, _)) if known.contains(&channel) => {
                    return LinkError::DoubledChannel { channel };
                }
                Ok((channel, sender, receiver)) => {
                    known.push(channel);
                    self.turn_channel(tasks, channel, sender, receiver);
                }
                Err(error) => return error,
            }
        }
    }

    async fn read(&self, channel: Channel, mut receiver: ChannelReceiver) -> Ended {
        let (mut ahead, mut ended) = (Ahead::of(channel), None);
        loop {
            if ahead.frames.is_empty() {
                ended = match ended {
                    Some(error) => return Err(error),
                    None => ahead.note(channel, receiver.receive().await),
                };
                continue;
            }
            while ended.is_none() && ahead.has_room() {
                let Some(frame) = receiver.received() else { break };
                ahead.push(frame);
            }
            let (frames, now) = (ahead.take(), self.driving.now());
            let receive =
                move |talk: &mut dyn Conversation| talk.receive_all(now, channel, &frames);
            let mut call = pin!(self.driving.calls.run(&self.talk, receive));
            loop {
                tokio::select! {
                    biased;
                    done = &mut call => break done?,
                    next = receiver.receive(), if ended.is_none() && ahead.has_room() => {
                        ended = ahead.note(channel, next);
                    }
                }
            }
            self.turn.ring();
        }
    }

    async fn write(&self, channel: Channel, mut sender: ChannelSender) -> Ended {
        let (mut turn, mut store) = (self.turn.listen(), self.driving.store.listen());
        let follows_store = self.talk.lock().await.follows_store(channel);
        loop {
            turn.attend();
            store.attend();
            let now = self.driving.now();
            let ask = move |talk: &mut dyn Conversation| {
                Ok((next_frames(talk, now, channel), talk.next_timeout()))
            };
            let (asked, next_timeout) = self.driving.calls.run(&self.talk, ask).await?;
            for frame in asked.frames {
                sender.send(frame).await?;
                if channel == Channel::Control {
                    self.turn.ring();
                }
            }
            match asked.rest {
                Rest::None => {}
                Rest::Some => continue,
                Rest::Over(parting) => return Err(parting.into()),
            }
            tokio::select! {
                biased;
                () = turn.rung() => {}
                () = store.rung(), if follows_store => {}
                () = self.until(next_timeout) => {}
            }
        }
    }

    /// Waits for a moment; for a nap at least, in case it has passed and nothing came of it.
    async fn until(&self, moment: Option<Duration>) {
        const NAP: Duration = Duration::from_millis(1);
        match moment {
            None => std::future::pending().await,
            Some(moment) => {
                let moment = moment.max(self.driving.now().saturating_add(NAP));
                match self.driving.epoch.checked_add(moment) {
                    Some(moment) => tokio::time::sleep_until(moment).await,
                    None => std::future::pending().await,
                }
            }
        }
    }
}

/// Frames that have come and wait for the call before to end.
struct Ahead {
    frames: Vec<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    frames_max: usize,
}

impl Ahead {
    fn of(channel: Channel) -> Ahead {
        let (bytes_max, frames_max) = match channel {
            Channel::Tail | Channel::Bulk => (AHEAD_BYTES, AHEAD_FRAMES),
            Channel::Control | Channel::Reconcile => (CALL_BYTES, CALL_FRAMES),
        };
        Ahead { frames: Vec::new(), bytes: 0, bytes_max, frames_max }
    }

    fn has_room(&self) -> bool {
        self.bytes < self.bytes_max && self.frames.len() < self.frames_max
    }

    fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push(frame);
    }

    /// Takes in what came; why nothing more will come, if so.
    fn note(
        &mut self,
        channel: Channel,
        came: Result<Option<Vec<u8>>, LinkError>,
    ) -> Option<LinkError> {
        match came {
            Ok(Some(frame)) => {
                self.push(frame);
                None
            }
            Ok(None) => Some(LinkError::ChannelEnded { channel }),
            Err(error) => Some(error),
        }
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}

/// What a conversation has to say at once.
struct Asked {
    frames: Vec<Vec<u8>>,
    rest: Rest,
}

enum Rest {
    /// That is all.
    None,
    /// There may be more.
    Some,
    /// The conversation ended with that.
    Over(Parting),
}

/// Asks for frames until there is none, or enough for one call. What was said before the conversation
/// ended is sent before it is.
fn next_frames(talk: &mut dyn Conversation, now: Duration, channel: Channel) -> Asked {
    let (mut frames, mut bytes) = (Vec::new(), 0);
    while bytes < CALL_BYTES && frames.len() < CALL_FRAMES {
        let frame = match talk.next_frame(now, channel) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Asked { frames, rest: Rest::None },
            Err(parting) => return Asked { frames, rest: Rest::Over(parting) },
        };
        bytes += frame.len();
        frames.push(frame);
    }
    Asked { frames, rest: Rest::Some }
}

fn reason(ended: Result<Ended, tokio::task::JoinError>) -> LinkError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(never)) => match never {},
        Err(error) => LinkError::Lost { reason: format!("an internal error: {error}") },
    }
}
