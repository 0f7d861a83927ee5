//! A node as a process: what is asked over HTTP is what the directory holds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, Served, esker, exchange};

#[test]
fn what_is_put_over_http_is_got_over_http_and_from_the_directory() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    node.run("put ada 1815").ok();
    assert_eq!(node.run("get ada").ok().text(), "1815\n");
    node.run("get nobody").fails(3, "error[NotFound]: ");
    node.run("put --keyspace users ada 1852").ok();
    node.run("delete ada").ok();
    node.run("get ada").fails(3, "error[NotFound]: ");
    node.run("delete ada").ok();
    assert_eq!(node.run("get --keyspace users ada").ok().text(), "1852\n");
    node.run("get --keyspace nobody ada").fails(3, "error[KeyspaceNotFound]: ");

    let said = node.stop();
    assert_eq!(said, (Some(0), String::new()));
    place.run("get ada").fails(3, "error[NotFound]: ");
    assert_eq!(place.run("get --keyspace users ada").ok().text(), "1852\n");
}

#[test]
fn the_ready_line_names_the_node_and_its_real_ports() {
    let place = Place::new();
    let identity = place.run("init --output json").ok().json();
    let node = Served::start(&place.path("data"));
    assert_eq!(node.node, identity[0]["node"]);
    for address in [&node.listen, &node.http] {
        let (host, port) = address.split_once(':').unwrap();
        assert_eq!(host, "127.0.0.1");
        assert_ne!(port, "0");
    }
    // The address for peers is held.
    let listen: std::net::SocketAddr = node.listen.parse().unwrap();
    assert!(std::net::UdpSocket::bind(listen).is_err());
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn a_healthy_node_answers_200_with_the_confirmations_of_its_peers() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let answer =
        exchange(&node.http, b"GET /health HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n");
    assert_eq!(answer.status, 200);
    let health = answer.json();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["engine"]["status"], "healthy");
    assert_eq!(health["trackedPeerCount"], 0);
    assert_eq!(health["maxLagMs"], 0);
    assert_eq!(health["peersWithNoConfirmation"], serde_json::json!([]));
    assert_eq!(health["laggingPeers"], serde_json::json!([]));
    assert_eq!(health["lastSuccessfulConfirmationUpdateByPeer"], serde_json::json!({}));
}

#[test]
fn a_second_node_on_the_directory_is_refused_and_names_the_first() {
    let place = Place::new();
    let data = place.path("data");
    let node = Served::start(&data);
    let words = ["serve".as_ref(), "--path".as_ref(), data.as_os_str()];
    let process = format!("process {}", node.id());
    let second = esker(words).fails(6, "error[Locked]: ");
    assert!(second.err.contains(&process) && second.err.contains("--url"), "{}", second.err);
    let other = place.run("get k").fails(6, "error[Locked]: ");
    assert!(other.err.contains(&process) && other.err.contains("--url"), "{}", other.err);
    node.run("put k v").ok();
    place.run("id").ok();
}

#[test]
fn what_was_acknowledged_survives_a_killed_node() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    for number in 0..20 {
        node.run(&format!("put k{number} v{number}")).ok();
    }
    node.kill();
    let node = Served::start(&place.path("data"));
    for number in 0..20 {
        assert_eq!(node.run(&format!("get k{number}")).ok().text(), format!("v{number}\n"));
    }
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn http_beyond_this_machine_is_refused() {
    let place = Place::new();
    let data = place.path("data");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let words = [
            "serve".as_ref(),
            "--path".as_ref(),
            data.as_os_str(),
            "--http".as_ref(),
            address.as_ref(),
        ];
        esker(words).fails(5, "error[NotLoopback]: ");
    }
    assert!(!data.exists(), "nothing is created for a node that can not serve");
}
