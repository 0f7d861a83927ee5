//! The key of a node: what its connections are proved with.
//!
//! The node's Ed25519 seed becomes a self-signed certificate. Only the public key inside counts;
//! names and dates are there because certificates have them, and nobody reads them.

use super::error::LinkError;
use super::succession::Succession;
use base::{Identity, NodeId};
use ed25519_compact::{KeyPair, Seed};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::str::FromStr;

/// What stands before the 32 bytes of an Ed25519 seed in PKCS #8, version 1.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// What stands before the 32 bytes of an Ed25519 public key in a certificate.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What the changes of a key stand under in its certificate: a name that is only ours.
const CHANGES_OID: [u64; 3] = [2, 25, 0x4553_4b52_4b45_5901];

/// The Blake3 of an Ed25519 public key: what operators compare and peers pin.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a public key.
    pub fn of(public_key: &[u8; 32]) -> Fingerprint {
        Fingerprint(*blake3::hash(public_key).as_bytes())
    }

    /// The name of a node whose first key this is.
    pub fn node(&self) -> NodeId {
        NodeId(self.0.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = LinkError;

    /// 64 hex digits.
    fn from_str(text: &str) -> Result<Fingerprint, LinkError> {
        let bad = || LinkError::Text { what: "fingerprint", reason: "it is not 64 hex digits" };
        let text = text.as_bytes();
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return Err(bad());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |digit: &u8| char::from(*digit).to_digit(16).ok_or_else(bad);
            let digits = pair.iter().map(digit).collect::<Result<Vec<u32>, LinkError>>()?;
            *byte = digits.iter().fold(0, |byte, digit| byte << 4 | *digit as u8);
        }
        Ok(Fingerprint(bytes))
    }
}

/// A node's key pair and the certificate that shows it.
pub struct LinkKey {
    pair: KeyPair,
    fingerprint: Fingerprint,
    certificate: CertificateDer<'static>,
    private: PrivatePkcs8KeyDer<'static>,
}

impl LinkKey {
    /// The key that belongs to a database since its creation.
    pub fn of(identity: &Identity) -> Result<LinkKey, LinkError> {
        LinkKey::from_seed(identity.secret)
    }

    /// Another secret of the same node, for `purpose` only.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &*self.pair.sk)
    }

    /// The key of a seed, for nodes that have changed theirs.
    pub fn from_seed(seed: [u8; 32]) -> Result<LinkKey, LinkError> {
        LinkKey::shown_with(seed, None)
    }

    /// The same key, with a certificate that shows the changes that have led to it.
    pub fn succeeding(&self, changes: &Succession) -> Result<LinkKey, LinkError> {
        let old = self.fingerprint;
        if !changes.is_at(old) {
            return Err(LinkError::Rotation { old, reason: "the changes lead to another key" });
        }
        LinkKey::shown_with(*self.pair.sk.seed(), Some(changes))
    }

    fn shown_with(seed: [u8; 32], changes: Option<&Succession>) -> Result<LinkKey, LinkError> {
        if seed == [0; 32] {
            return Err(LinkError::Key { reason: "its seed is all zeros".to_owned() });
        }
        let pair = KeyPair::from_seed(Seed::new(seed));
        let private = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], &seed[..]].concat());
        let bad = |source: rcgen::Error| LinkError::Key { reason: source.to_string() };
        let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&private, &rcgen::PKCS_ED25519);
        let signer = signer.map_err(bad)?;
        let mut params = rcgen::CertificateParams::new(["esker".to_owned()]).map_err(bad)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(changes) = changes.filter(|changes| !changes.is_empty()) {
            let shown = rcgen::CustomExtension::from_oid_content(&CHANGES_OID, changes.encode());
            params.custom_extensions.push(shown);
        }
        let certificate = params.self_signed(&signer).map_err(bad)?.der().clone();
        let fingerprint = Fingerprint::of(&pair.pk);
        Ok(LinkKey { pair, fingerprint, certificate, private })
    }

    /// The fingerprint of the public key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The certificate that shows it.
    #[doc(hidden)]
    pub fn shown(&self) -> &[u8] {
        &self.certificate
    }

    pub(crate) fn private(&self) -> PrivatePkcs8KeyDer<'static> {
        self.private.clone_key()
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkKey {{ fingerprint: {} }}", self.fingerprint)
    }
}

/// The key that a certificate shows, and whose it is.
#[doc(hidden)]
pub fn shown_in(certificate: &[u8]) -> Option<(Fingerprint, NodeId)> {
    let certificate = CertificateDer::from(certificate);
    let key = fingerprint_in(&certificate)?;
    Some((key, node_in(&certificate, key)))
}

/// Whose key a certificate shows, if its name is that of its first key or follows from the changes
/// that it shows.
pub(crate) fn node_in(certificate: &CertificateDer<'_>, key: Fingerprint) -> NodeId {
    let changes = Succession::find_in(certificate).map(Succession::decode);
    let changes = changes.and_then(Result::ok).filter(|changes| changes.is_at(key));
    changes.map_or(key.node(), |changes| changes.node())
}

/// The fingerprint of the key in a certificate, if that is an Ed25519 key.
pub(crate) fn fingerprint_in(certificate: &CertificateDer<'_>) -> Option<Fingerprint> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate).ok()?;
    let spki = parsed.subject_public_key_info();
    let key = spki.as_ref().strip_prefix(&SPKI_PREFIX)?;
    Some(Fingerprint::of(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_shows_the_key_that_the_node_is_named_after() {
        let key = LinkKey::from_seed([7; 32]).unwrap();

        let shown = fingerprint_in(&key.certificate()).unwrap();

        assert_eq!(shown, key.fingerprint());
        assert_eq!(shown, Fingerprint::of(&KeyPair::from_seed(Seed::new([7; 32])).pk));
        assert!(shown.to_string().starts_with(&shown.node().to_string()));
        assert_eq!(shown.to_string().parse::<Fingerprint>().unwrap(), shown);
    }

    #[test]
    fn a_seed_of_zeros_is_refused() {
        assert_eq!(LinkKey::from_seed([0; 32]).unwrap_err().code(), "LinkKey");
    }

    #[test]
    fn certificates_of_other_kinds_of_keys_are_refused() {
        let other = rcgen::generate_simple_self_signed(["esker".to_owned()]).unwrap();
        assert_eq!(fingerprint_in(other.cert.der()), None, "a P-256 key");
        let genuine = LinkKey::from_seed([7; 32]).unwrap().certificate();
        for end in 0..genuine.len() {
            assert_eq!(fingerprint_in(&CertificateDer::from(genuine[..end].to_vec())), None);
        }
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        let long = "0".repeat(66);
        let signed = format!("+{}", "0".repeat(63));
        let umlaut = format!("{}ä", "0".repeat(62));
        for text in ["", "00", long.as_str(), signed.as_str(), umlaut.as_str()] {
            assert_eq!(text.parse::<Fingerprint>().unwrap_err().code(), "BadText", "{text}");
        }
    }
}
