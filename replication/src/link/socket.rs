//! The socket below QUIC.
//!
//! Kernels give small buffers unless asked, and quietly less than was asked; a small receive buffer
//! loses packets at every burst. So the buffers are set, read back, and a shortfall is reported.

use super::error::LinkError;
use super::settings::LinkSettings;
use quinn::{AsyncUdpSocket, EndpointConfig, Runtime, TokioRuntime};
use rustls::crypto::{CryptoProvider, ring};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;

/// Bytes that the kernel buffers for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// What was asked for, each way.
    pub asked: usize,
    /// What there is for packets that come.
    pub receive: usize,
    /// What there is for packets that go.
    pub send: usize,
}

/// What packets travel on: a UDP socket, or a simulated one.
pub struct Wire {
    pub(crate) socket: Arc<dyn AsyncUdpSocket>,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// None: the usual, made of the node's key.
    pub(crate) config: Option<EndpointConfig>,
    /// What handshakes draw their randomness from, and all else that TLS computes.
    pub(crate) crypto: Arc<CryptoProvider>,
    pub(crate) buffers: Option<Buffers>,
}

impl Wire {
    /// A UDP socket on `listen`. Called inside a tokio runtime.
    pub fn bind(listen: SocketAddr, settings: &LinkSettings) -> Result<Wire, LinkError> {
        let io = |action| move |source| LinkError::Socket { action, source };
        let domain = Domain::for_address(listen);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP));
        let socket = socket.map_err(io("create a UDP socket"))?;
        let buffers = enlarge(&socket, settings.socket_buffer as usize)
            .map_err(io("set the buffers of a UDP socket"))?;
        report(listen, buffers);
        socket.bind(&listen.into()).map_err(io("listen on the address"))?;
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let socket = runtime.wrap_udp_socket(socket.into()).map_err(io("use a UDP socket"))?;
        let crypto = Arc::new(ring::default_provider());
        Ok(Wire { socket, runtime, config: None, crypto, buffers: Some(buffers) })
    }

    /// Where it is bound.
    pub fn address(&self) -> Result<SocketAddr, LinkError> {
        let io = |source| LinkError::Socket { action: "look up the own address", source };
        self.socket.local_addr().map_err(io)
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("buffers", &self.buffers).finish_non_exhaustive()
    }
}

fn enlarge(socket: &Socket, asked: usize) -> std::io::Result<Buffers> {
    socket.set_recv_buffer_size(asked)?;
    socket.set_send_buffer_size(asked)?;
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    Ok(Buffers { asked, receive, send })
}

fn report(listen: SocketAddr, buffers: Buffers) {
    let Buffers { asked, receive, send } = buffers;
    if receive < asked || send < asked {
        tracing::warn!(
            %listen, asked, receive, send,
            "the kernel gives smaller socket buffers than asked, so bursts will lose packets; \
             raise net.core.rmem_max and net.core.wmem_max"
        );
    } else {
        tracing::info!(%listen, receive, send, "socket buffers");
    }
}
