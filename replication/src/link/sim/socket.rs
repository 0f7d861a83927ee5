//! A socket of the network, as quinn wants it.

use super::net::SimNet;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One address.
#[derive(Debug)]
pub(super) struct SimSocket {
    net: SimNet,
    address: SocketAddr,
    number: u64,
}

impl SimSocket {
    pub(super) fn new(net: SimNet, address: SocketAddr, number: u64) -> SimSocket {
        SimSocket { net, address, number }
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.net.send((self.address, self.number), transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = 0;
        for (room, meta) in bufs.iter_mut().zip(meta) {
            let Poll::Ready((from, content)) =
                self.net.poll_receive((self.address, self.number), cx)
            else {
                break;
            };
            // As in kernels, what does not fit is cut off.
            let len = content.len().min(room.len());
            room.iter_mut().zip(content).for_each(|(to, byte)| *to = byte);
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, len, len);
            received += 1;
        }
        if received > 0 { Poll::Ready(Ok(received)) } else { Poll::Pending }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
