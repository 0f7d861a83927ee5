//! The sockets of beacons: one that hears, bound to the address that all send to, so that nothing from
//! beyond the local network comes in; and one that speaks, bound to the address that the node listens at,
//! so that its beacons come from there.

use super::{BEACON_LEN, DiscoveryOptions};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use tokio::net::UdpSocket;

/// Bytes that the kernel keeps of what was not looked at yet.
const BUFFER: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct Air {
    ear: UdpSocket,
    mouth: UdpSocket,
    to: SocketAddr,
}

impl Air {
    /// Opens both for a node that listens at `listen`. Called inside a tokio runtime.
    pub fn open(options: &DiscoveryOptions, listen: IpAddr) -> io::Result<Air> {
        let from = match listen {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let to = SocketAddrV4::new(options.address, options.port);
        let ear = socket()?;
        // Every node of a machine hears what is sent to all.
        ear.set_reuse_address(true)?;
        ear.set_recv_buffer_size(BUFFER)?;
        ear.bind(&SocketAddr::V4(to).into())?;
        let mouth = socket()?;
        mouth.set_broadcast(true)?;
        mouth.bind(&SocketAddr::V4(SocketAddrV4::new(from, 0)).into())?;
        if options.address.is_multicast() {
            ear.join_multicast_v4(&options.address, &from)?;
            mouth.set_multicast_ttl_v4(1)?;
            if !from.is_unspecified() {
                mouth.set_multicast_if_v4(&from)?;
            }
        }
        let (ear, mouth) = (UdpSocket::from_std(ear.into())?, UdpSocket::from_std(mouth.into())?);
        Ok(Air { ear, mouth, to: to.into() })
    }

    /// Sends `beacon` to all.
    pub async fn say(&self, beacon: &[u8; BEACON_LEN]) -> io::Result<()> {
        self.mouth.send_to(beacon, self.to).await.map(|_| ())
    }

    /// What comes next: its length, and from where. Of what is too long only the beginning is in `into`.
    pub async fn hear(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.ear.recv_from(into).await
    }
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
