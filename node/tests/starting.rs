//! Nodes that can not listen where they are told to, and what they say then.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, esker};
use std::net::{TcpListener, UdpSocket};

#[test]
fn an_address_that_is_taken_is_named_and_may_be_free_later() {
    let place = Place::new();
    let (udp, tcp) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (udp, tcp) = (udp.local_addr().map(|at| (udp, at)), tcp.local_addr().map(|at| (tcp, at)));
    let ((_udp, listen), (_tcp, http)) = (udp.unwrap(), tcp.unwrap());
    for (name, address) in [("--listen", listen), ("--http", http)] {
        let address = address.to_string();
        let path = place.path("data").display().to_string();
        let other = if name == "--listen" { "--http" } else { "--listen" };
        let words = ["serve", "--path", &path, other, "127.0.0.1:0", name, &address];
        let failure = esker(words.into_iter().chain(["--output", "json"]));
        assert_eq!(failure.code, Some(7), "{name}");
        let failure = failure.error();
        assert_eq!(failure["code"], "ListenFailed", "{name}");
        assert_eq!(failure["category"], "retryable", "{name}");
        assert_eq!(failure["file"], address, "{name}");
    }
}
