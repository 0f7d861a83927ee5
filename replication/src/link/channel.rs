//! The streams of a connection: one for each kind of content, so that none waits for another.
//!
//! ```text
//! offset  size  field
//!      0     1  channel  see `crate::channel`: 1 = control, 2 = tail, 3 = bulk, 4 = reconcile
//!      1     *  frames   back to back, see `frame.rs`
//! ```
//!
//! The dialer opens the streams. The other side answers with the same byte before its own frames:
//! by that the dialer knows that its key was accepted, which the handshake alone does not tell.

use super::endpoint::Link;
use super::error::{LinkError, Side};
use super::frame::{FRAME_LEN_MAX, FrameDecoder};
use super::join::JOIN;
use super::settings::LinkSettings;
use crate::channel::Channel;
use bytes::Bytes;
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

impl Link {
    /// Opens a channel, and waits until the peer has answered on it: as long as it takes, for what
    /// is more urgent goes first.
    pub async fn open(
        &self,
        channel: Channel,
        settings: &LinkSettings,
    ) -> Result<(ChannelSender, ChannelReceiver), LinkError> {
        let (send, receive) = self.connection().open_bi().await?;
        let sender = ChannelSender::begin(send, channel.byte()).await?;
        let (byte, receiver) = self.receiver(receive, settings).await?;
        if byte == channel.byte() {
            Ok((sender, receiver))
        } else {
            Err(LinkError::UnknownChannel { byte })
        }
    }

    /// The next channel that the peer opens, answered.
    pub async fn accept(
        &self,
        settings: &LinkSettings,
    ) -> Result<(Channel, ChannelSender, ChannelReceiver), LinkError> {
        let (send, receive) = self.connection().accept_bi().await?;
        let limit = settings.frame;
        let begun = timeout(limit, self.receiver(receive, settings)).await;
        let (byte, receiver) = begun.unwrap_or_else(|_| {
            Err(LinkError::TimedOut { what: "the first byte of a stream", limit })
        })?;
        if byte == JOIN {
            let reason = "its key is known here, so it needs no token";
            return Err(LinkError::Join { by: Side::Us, reason });
        }
        let channel = Channel::from_byte(byte).ok_or(LinkError::UnknownChannel { byte })?;
        let sender = ChannelSender::begin(send, byte).await?;
        Ok((channel, sender, receiver))
    }

    async fn receiver(
        &self,
        stream: RecvStream,
        settings: &LinkSettings,
    ) -> Result<(u8, ChannelReceiver), LinkError> {
        ChannelReceiver::begin(self.connection().clone(), stream, settings.frame).await
    }
}

/// The sending half of a channel.
#[derive(Debug)]
pub struct ChannelSender {
    stream: SendStream,
}

impl ChannelSender {
    /// Writes the first byte.
    pub(crate) async fn begin(stream: SendStream, byte: u8) -> Result<ChannelSender, LinkError> {
        let mut sender = ChannelSender { stream };
        if let Some(channel) = Channel::from_byte(byte) {
            sender.stream.set_priority(channel.priority()).map_err(|_| closed_here())?;
        }
        sender.stream.write_all(&[byte]).await.map_err(unwritten)?;
        Ok(sender)
    }

    /// Writes one frame, and returns once QUIC has taken all of it. That waits while the peer does
    /// not read: its window is the credit.
    pub async fn send(&mut self, frame: Vec<u8>) -> Result<(), LinkError> {
        if frame.is_empty() || frame.len() > FRAME_LEN_MAX {
            let len = frame.len() as u64;
            return Err(LinkError::FrameLength { len, max: FRAME_LEN_MAX as u64 });
        }
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let mut parts = [Bytes::copy_from_slice(&len.to_le_bytes()), Bytes::from(frame)];
        self.stream.write_all_chunks(&mut parts).await.map_err(unwritten)
    }
}

impl ChannelSender {
    /// Says that no more frames follow, and waits until the peer has all of them.
    pub(crate) async fn finish(mut self) -> Result<(), LinkError> {
        self.stream.finish().map_err(|_| closed_here())?;
        self.stream.stopped().await.map(drop).map_err(|_| closed_here())
    }
}

/// Bytes that are taken from QUIC at once.
const CHUNK: usize = 64 << 10;
/// Bytes a second that a link must bring for a late frame to be waited for.
const BUSY: u64 = 4 << 10;
/// How often a late frame is waited for once more: a link that brings no more than that, and nothing else,
/// has brought the longest frame by then.
const EXTENSIONS_MAX: u32 = 10;

/// The receiving half of a channel.
#[derive(Debug)]
pub struct ChannelReceiver {
    stream: RecvStream,
    decoder: FrameDecoder,
    /// Bytes read and not yet decoded: those from `start` to `end`.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    connection: Connection,
    /// When the frame that has begun must be whole.
    due: Option<Due>,
    patience: Duration,
    /// What is wrong behind the last frame that was returned.
    failure: Option<LinkError>,
}

/// When a frame must be whole, and what was here when that was decided.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// How often it was put off.
    extensions: u32,
    /// Bytes of the frame.
    received: usize,
    /// Bytes that the connection had brought.
    brought: u64,
}

impl ChannelReceiver {
    /// Reads the first byte. Later, each frame must be whole within `patience`.
    pub(crate) async fn begin(
        connection: Connection,
        mut stream: RecvStream,
        patience: Duration,
    ) -> Result<(u8, ChannelReceiver), LinkError> {
        let mut first = [0];
        stream.read_exact(&mut first).await.map_err(|error| match error {
            ReadExactError::FinishedEarly(_) => {
                LinkError::FrameTruncated { wanted: 1, received: 0 }
            }
            ReadExactError::ReadError(error) => unread(error),
        })?;
        let [byte] = first;
        let receiver = ChannelReceiver {
            stream,
            decoder: FrameDecoder::new(FRAME_LEN_MAX),
            buffer: vec![0; CHUNK].into(),
            start: 0,
            end: 0,
            connection,
            due: None,
            patience,
            failure: None,
        };
        Ok((byte, receiver))
    }

    /// Expects frames of at most `len_max` bytes from here on.
    pub(crate) fn restrict(&mut self, len_max: usize) {
        self.decoder = FrameDecoder::new(len_max);
    }

    /// The next frame, or `None` once the peer has ended the channel.
    ///
    /// Between frames it waits for as long as the connection lives. May be dropped and called again
    /// without losing bytes.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        loop {
            if let Some(frame) = self.decode()? {
                self.due = None;
                return Ok(Some(frame));
            }
            if self.decoder.is_inside() && self.due.is_none() {
                self.due = Some(self.due_after(0));
            }
            let reading = self.stream.read(&mut self.buffer);
            let read = match self.due {
                None => reading.await,
                Some(due) => match timeout_at(due.at, reading).await {
                    Ok(read) => read,
                    Err(_) if self.may_be_late(due) => {
                        self.due = Some(self.due_after(due.extensions + 1));
                        continue;
                    }
                    Err(_) => {
                        let what = "the rest of a frame";
                        return Err(LinkError::TimedOut { what, limit: self.patience });
                    }
                },
            };
            let Some(read) = read.map_err(unread)? else {
                self.decoder.end()?;
                return Ok(None);
            };
            (self.start, self.end) = (0, read);
        }
    }

    /// The next frame, if it is here already. What is wrong with what follows is told by
    /// [`ChannelReceiver::receive`].
    pub fn received(&mut self) -> Option<Vec<u8>> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match self.decode() {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    self.due = None;
                    return Some(frame);
                }
                Err(error) => {
                    self.failure = Some(error);
                    return None;
                }
            }
            match self.stream.poll_read(&mut context, &mut self.buffer) {
                Poll::Ready(Ok(read)) if read > 0 => (self.start, self.end) = (0, read),
                // Whoever waits for more meets the end, or the error, again.
                _ => return None,
            }
        }
    }

    fn due_after(&self, extensions: u32) -> Due {
        Due {
            at: Instant::now() + self.patience,
            extensions,
            received: self.decoder.received(),
            brought: self.connection.stats().udp_rx.bytes,
        }
    }

    /// Whether the frame, which is not whole, may be late because the line is slow, or other channels go
    /// first. A peer may make a line busy to let one channel drip, so a frame that got nothing of it is
    /// not waited for, and none for ever.
    fn may_be_late(&self, due: Due) -> bool {
        let brought = self.connection.stats().udp_rx.bytes.saturating_sub(due.brought);
        let is_busy = brought >= self.patience.as_secs().max(1).saturating_mul(BUSY);
        let has_grown = self.decoder.received() > due.received;
        is_busy && has_grown && due.extensions < EXTENSIONS_MAX
    }

    /// Decodes what was read, up to the end of a frame.
    fn decode(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        while self.start < self.end {
            let end = self.end.min(self.start + self.decoder.wants());
            let bytes = self.buffer.get(self.start..end).unwrap_or_default();
            self.start = end;
            if let Some(frame) = self.decoder.feed(bytes)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

fn closed_here() -> LinkError {
    LinkError::Closed { by: Side::Us }
}

fn unwritten(error: WriteError) -> LinkError {
    match error {
        WriteError::ConnectionLost(error) => error.into(),
        error => LinkError::Lost { reason: error.to_string() },
    }
}

fn unread(error: ReadError) -> LinkError {
    match error {
        ReadError::ConnectionLost(error) => error.into(),
        error => LinkError::Lost { reason: error.to_string() },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
