//! The handshake: TLS 1.3, both sides show a key, both check it against the pins.
//!
//! There is no authority above the keys, and no expiry: a certificate is trusted if the key inside
//! it is pinned, and the signature over the handshake proves that the peer holds that key. Sessions
//! are never resumed, or a revoked key could come back without showing itself.

use super::error::LinkError;
use super::key::{Fingerprint, LinkKey, fingerprint_in};
use super::pins::{Pins, Standing};
use base::NodeId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, PeerMisbehaved,
    SignatureScheme,
};
use std::sync::Arc;

/// The protocol that is spoken. The number is its version.
pub(crate) const PROTOCOL: &[u8] = b"esker/1";

/// The name that dialers ask for: certificates carry one, and nobody checks it.
pub(crate) const SERVER_NAME: &str = "esker";

/// Whom a dialer wants to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// Any pinned key of this node.
    Node(NodeId),
    /// This key, pinned or not.
    Key(Fingerprint),
}

/// How the listening side shakes hands.
pub(crate) fn server(
    provider: Arc<CryptoProvider>,
    key: &LinkKey,
    pins: Arc<Pins>,
) -> Result<QuicServerConfig, LinkError> {
    let verifier = Arc::new(ClientVerifier { pins, provider: provider.clone() });
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![key.certificate()], key.private().into())
        .map_err(unusable)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(|e| LinkError::Key { reason: e.to_string() })
}

/// How the dialing side shakes hands with `wanted`.
pub(crate) fn client(
    provider: Arc<CryptoProvider>,
    key: &LinkKey,
    pins: Arc<Pins>,
    wanted: Wanted,
) -> Result<QuicClientConfig, LinkError> {
    let verifier = Arc::new(ServerVerifier { pins, wanted, provider: provider.clone() });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![key.certificate()], key.private().into())
        .map_err(unusable)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.enable_early_data = false;
    config.resumption = rustls::client::Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(|e| LinkError::Key { reason: e.to_string() })
}

fn unusable(source: rustls::Error) -> LinkError {
    LinkError::Key { reason: source.to_string() }
}

/// The one key that a peer shows.
fn shown(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<Fingerprint, rustls::Error> {
    let alone = intermediates.is_empty().then(|| fingerprint_in(certificate)).flatten();
    alone.ok_or(CertificateError::BadEncoding.into())
}

fn refused() -> rustls::Error {
    CertificateError::ApplicationVerificationFailure.into()
}

/// That the peer holds the key it shows.
fn signed(
    provider: &CryptoProvider,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = &provider.signature_verification_algorithms;
    if signature.scheme != SignatureScheme::ED25519 {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    verify_tls13_signature(message, certificate, signature, algorithms)
}

#[derive(Debug)]
struct ClientVerifier {
    pins: Arc<Pins>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let shown = shown(end_entity, intermediates)?;
        self.pins.hear(shown, end_entity);
        match self.pins.standing(shown) {
            Standing::Pinned(_) | Standing::Guest | Standing::Retired => {
                Ok(ClientCertVerified::assertion())
            }
            Standing::Refused => Err(refused()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(&self.provider, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[derive(Debug)]
struct ServerVerifier {
    pins: Arc<Pins>,
    wanted: Wanted,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = shown(end_entity, intermediates)?;
        let is_wanted = match self.wanted {
            Wanted::Node(node) => {
                self.pins.hear(shown, end_entity);
                self.pins.node_of(shown) == Some(node)
            }
            Wanted::Key(key) => key == shown,
        };
        if is_wanted { Ok(ServerCertVerified::assertion()) } else { Err(refused()) }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(&self.provider, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
