//! Randomness of handshakes that follows from the seed.
//!
//! An endpoint that has forgotten a connection looks at the first packets of one again, with keys that do not
//! fit: whether what comes out looks like a header depends on each bit of the packet, and so whether it answers.
//! Secrets of key exchanges and names of connections are drawn too, which ring and quinn would get elsewhere.

use ed25519_compact::x25519::{PublicKey, SecretKey};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup, ring,
};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

thread_local! {
    /// The seed of the simulation that this thread runs, and how often was drawn.
    static DRAWN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

#[derive(Debug)]
struct Drawing;

/// A simulation of `seed` begins in this thread.
pub(super) fn begin(seed: u64) {
    DRAWN.set((seed, 0));
}

/// What TLS computes with.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let kx_groups: Vec<&'static dyn SupportedKxGroup> = vec![&Exchange];
    Arc::new(CryptoProvider { secure_random: &Drawing, kx_groups, ..ring::default_provider() })
}

impl SecureRandom for Drawing {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        let (seed, count) = DRAWN.get();
        DRAWN.set((seed, count + 1));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&count.to_le_bytes());
        hasher.finalize_xof().fill(bytes);
        Ok(())
    }
}

/// X25519.
#[derive(Debug)]
struct Exchange;

/// One side of an exchange.
struct Begun {
    secret: SecretKey,
    public: PublicKey,
}

impl SupportedKxGroup for Exchange {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; SecretKey::BYTES];
        Drawing.fill(&mut secret).map_err(|_| Error::FailedToGetRandomBytes)?;
        let secret = SecretKey::new(secret);
        let public = secret.recover_public_key().map_err(|_| Error::FailedToGetRandomBytes)?;
        Ok(Box::new(Begun { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Begun {
    fn complete(self: Box<Begun>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = |_| Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer = PublicKey::from_slice(peer).map_err(refused)?;
        let shared = peer.dh(&self.secret).map_err(refused)?;
        Ok(SharedSecret::from(&shared[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public[..]
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Makes names of connections that are told from others: three bytes, and five of a digest with a key.
pub(super) struct Names {
    pub(super) key: u64,
}

const NONCE_LEN: usize = 3;
const NAME_LEN: usize = 8;

impl Names {
    fn signed(&self, nonce: &[u8]) -> ConnectionId {
        let mut hasher = blake3::Hasher::new();
        let digest = hasher.update(&self.key.to_le_bytes()).update(nonce).finalize();
        let mut name = nonce.to_vec();
        name.extend(digest.as_bytes().iter().take(NAME_LEN - NONCE_LEN));
        ConnectionId::new(&name)
    }
}

impl ConnectionIdGenerator for Names {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut nonce = [0; NONCE_LEN];
        // It never fails.
        let _ = Drawing.fill(&mut nonce);
        self.signed(&nonce)
    }

    fn validate(&self, name: &ConnectionId) -> Result<(), InvalidCid> {
        let nonce = name.get(..NONCE_LEN).unwrap_or_default();
        if self.signed(nonce)[..] == name[..] { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        NAME_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
