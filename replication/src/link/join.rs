//! How a new node is let in.
//!
//! ```text
//! joiner                                     issuer
//!   dials; expects the key in the token
//!   one stream, first byte 5 ───────────────>  the key is not pinned: nothing else is heard
//!   request ────────────────────────────────>  is a token proved? it is spent; the key is pinned
//!   <──────────────────────────── first byte 5, roster: opaque here, 1 B to 1 MiB
//!   pins the issuer
//! ```
//!
//! Both are frames (`frame.rs`); the request is in `join_request.rs`.

use super::channel::{ChannelReceiver, ChannelSender};
use super::conversation::Calls;
use super::endpoint::{Endpoint, Guest, named};
use super::error::{LinkError, Side};
use super::invites::{Binding, Invites, OpenInvite};
use super::join_request;
use super::key::Fingerprint;
use super::pins::{Guests, Pins};
use super::settings::LinkSettings;
use super::tls::Wanted;
use super::token::Token;
use base::lock::{Mutex, Rank};
use base::{NodeId, Rng};
use quinn::Connection;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// The first byte of the stream.
pub(super) const JOIN: u8 = 5;
const REQUEST_LEN_MAX: usize = 4 << 10;
/// Guests that are heard at once.
const GUESTS_MAX: usize = 8;
const LABEL: &[u8] = b"EXPORTER-esker-join";

/// Enters a new node, heard from this address, into the roster, durably, and answers with it. Or says why not.
pub type Register =
    Arc<dyn Fn(Fingerprint, NodeId, SocketAddr) -> Result<Vec<u8>, LinkError> + Send + Sync>;

/// Keeps the invitations that are open, durably.
pub type Keep = Arc<dyn Fn(&[OpenInvite]) -> Result<(), LinkError> + Send + Sync>;

/// Where guests ask to be let in.
pub struct Desk {
    issuer: Fingerprint,
    pins: Arc<Pins>,
    book: Arc<Book>,
    guests: AtomicUsize,
    register: Register,
    calls: Calls,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("invites", &self.book.invites).finish_non_exhaustive()
    }
}

impl Desk {
    /// The desk of the node whose key is `issuer`.
    pub fn new(issuer: Fingerprint, pins: Arc<Pins>, register: Register, calls: Calls) -> Desk {
        let book = Book::new(Invites::default(), Arc::new(|_| Ok(())));
        Desk { issuer, pins, book, guests: AtomicUsize::new(0), register, calls }
    }

    /// The same desk, which reopens the invitations that were `kept` and keeps those that are open.
    pub fn keeping(self, now: Duration, kept: &[OpenInvite], keep: Keep) -> Desk {
        let mut invites = Invites::reopen(now, kept);
        if invites.is_open(now) {
            self.pins.set_guests(Guests::Welcome);
        }
        Desk { book: Book::new(invites, keep), ..self }
    }

    /// Opens an invitation: from now on unknown keys may ask.
    pub fn invite(&self, now: Duration, rng: &dyn Rng) -> Result<Token, LinkError> {
        let token = self.book.invites.lock().issue(now, self.issuer, rng)?;
        self.book.keep(now)?;
        self.pins.set_guests(Guests::Welcome);
        Ok(token)
    }

    /// Hears one guest, and closes the connection. Who was let in dials again.
    pub async fn hear(
        &self,
        guest: Guest,
        now: Duration,
        settings: &LinkSettings,
    ) -> Result<(Fingerprint, NodeId), LinkError> {
        let seat = self.guests.fetch_add(1, Ordering::SeqCst);
        let heard = match seat < GUESTS_MAX {
            true => self.exchange(&guest, now, settings).await,
            false => Err(LinkError::Join { by: Side::Us, reason: "too many ask at once" }),
        };
        self.guests.fetch_sub(1, Ordering::SeqCst);
        let closing = heard.as_ref().err().unwrap_or(&LinkError::Closed { by: Side::Us }).closing();
        guest.connection.close(closing.0, closing.1.as_bytes());
        heard
    }

    async fn exchange(
        &self,
        guest: &Guest,
        now: Duration,
        settings: &LinkSettings,
    ) -> Result<(Fingerprint, NodeId), LinkError> {
        let limit = settings.hello.get();
        let slow = LinkError::TimedOut { what: "the request to join", limit };
        let request = timeout(limit, request_of(&guest.connection, limit));
        let (mut sender, request) = request.await.map_err(|_| slow)??;
        let shown = join_request::decode(&request)?;
        let binding = binding(&guest.connection, self.issuer, guest.key)?;
        self.redeem(now, &binding, &shown)?;
        // Before anybody is let in: it is spent, also after a crash.
        let book = self.book.clone();
        self.calls.wait(move || book.keep(now)).await??;
        let node = guest.node;
        let (register, key) = (self.register.clone(), guest.key);
        // It dials from where it listens.
        let address = guest.connection.remote_address();
        let roster = self.calls.wait(move || register(key, node, address)).await??;
        self.pins.pin(guest.key, node);
        sender.send(roster).await?;
        // The roster must have arrived before the connection is closed.
        let _ = timeout(limit, sender.finish()).await;
        Ok((guest.key, node))
    }

    fn redeem(
        &self,
        now: Duration,
        binding: &Binding,
        shown: &blake3::Hash,
    ) -> Result<(), LinkError> {
        let mut invites = self.book.invites.lock();
        let redeemed = invites.redeem(now, binding, shown);
        let is_open = invites.is_open(now);
        drop(invites);
        if !is_open {
            self.pins.set_guests(Guests::Unwanted);
        }
        redeemed
    }
}

/// The invitations, and how those that are open are kept.
struct Book {
    invites: Mutex<Invites>,
    keep: Keep,
    /// Held while they are kept: what is kept last is the newest.
    keeping: Mutex<()>,
}

impl Book {
    fn new(invites: Invites, keep: Keep) -> Arc<Book> {
        let invites = Mutex::new(Rank::Links, invites);
        Arc::new(Book { invites, keep, keeping: Mutex::new(Rank::Group, ()) })
    }

    fn keep(&self, now: Duration) -> Result<(), LinkError> {
        let _keeping = self.keeping.lock();
        let open = self.invites.lock().open(now);
        (self.keep)(&open)
    }
}

/// Joins at `address` with a token. The issuer is pinned by it; its name and the roster are returned.
pub async fn join(
    endpoint: &Endpoint,
    address: SocketAddr,
    token: &Token,
) -> Result<(NodeId, Vec<u8>), LinkError> {
    let settings = endpoint.settings();
    let issuer = token.issuer();
    let connection = endpoint.connect(address, Wanted::Key(issuer)).await?;
    let slow = LinkError::TimedOut { what: "the answer of the issuer", limit: settings.frame };
    let asked = timeout(settings.frame, ask(&connection, endpoint.key(), token, settings));
    let answer = asked.await.unwrap_or(Err(slow));
    // What the issuer has said in closing is the truth about a stream that broke.
    let roster =
        answer.map_err(|error| connection.close_reason().map_or(error, LinkError::from))?;
    let node = named(&connection, issuer);
    endpoint.pins().pin(issuer, node);
    let (code, reason) = LinkError::Closed { by: Side::Us }.closing();
    connection.close(code, reason.as_bytes());
    Ok((node, roster))
}

async fn ask(
    connection: &Connection,
    joiner: Fingerprint,
    token: &Token,
    settings: &LinkSettings,
) -> Result<Vec<u8>, LinkError> {
    let proof = token.proof(&binding(connection, token.issuer(), joiner)?);
    let (send, receive) = connection.open_bi().await?;
    let mut sender = ChannelSender::begin(send, JOIN).await?;
    sender.send(join_request::encode(&proof)).await?;
    let receiver = ChannelReceiver::begin(connection.clone(), receive, settings.frame);
    let (byte, mut receiver) = receiver.await?;
    if byte != JOIN {
        return Err(LinkError::UnknownChannel { byte });
    }
    let roster = receiver.receive().await?;
    roster.ok_or(LinkError::FrameTruncated { wanted: 5, received: 0 })
}

/// The one frame that a guest may send.
async fn request_of(
    connection: &Connection,
    patience: Duration,
) -> Result<(ChannelSender, Vec<u8>), LinkError> {
    let (send, receive) = connection.accept_bi().await?;
    let receiver = ChannelReceiver::begin(connection.clone(), receive, patience);
    let (byte, mut receiver) = receiver.await?;
    if byte != JOIN {
        return Err(LinkError::UnknownKey { by: Side::Us });
    }
    receiver.restrict(REQUEST_LEN_MAX);
    let request = receiver.receive().await?;
    let request = request.ok_or(LinkError::FrameTruncated { wanted: 5, received: 0 })?;
    Ok((ChannelSender::begin(send, JOIN).await?, request))
}

fn binding(
    connection: &Connection,
    issuer: Fingerprint,
    joiner: Fingerprint,
) -> Result<Binding, LinkError> {
    let mut exported = [0; 32];
    let drawn = connection.export_keying_material(&mut exported, LABEL, b"");
    let reason = "the connection has no secrets to draw from".to_owned();
    drawn.map_err(|_| LinkError::Handshake { reason })?;
    Ok(Binding { exported, issuer, joiner })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Else a token that was spent is good again after a crash.
    #[test]
    fn what_is_kept_last_is_the_newest() {
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (begun, begins) = mpsc::channel();
        let (go_on, waits) = mpsc::channel::<()>();
        let waits = std::sync::Mutex::new(Some(waits));
        let keep: Keep = {
            let kept = kept.clone();
            Arc::new(move |open| {
                begun.send(open.len()).unwrap();
                // The second must not wait for the first here.
                let waits = waits.lock().unwrap().take();
                if let Some(waits) = waits {
                    waits.recv().unwrap();
                }
                kept.lock().unwrap().push(open.len());
                Ok(())
            })
        };
        let book = Book::new(Invites::default(), keep);
        let now = Duration::ZERO;
        std::thread::scope(|threads| {
            threads.spawn(|| book.keep(now).unwrap());
            assert_eq!(begins.recv().unwrap(), 0);
            book.invites.lock().issue(now, Fingerprint::default(), &base::OsRng).unwrap();
            threads.spawn(|| book.keep(now).unwrap());
            // The second waits for the first, or has been kept before it.
            let _ = begins.recv_timeout(Duration::from_millis(50));
            go_on.send(()).unwrap();
        });
        assert_eq!(*kept.lock().unwrap(), [0, 1]);
    }
}
