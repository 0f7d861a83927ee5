//! What waits for peers that are away: waited for, told, and kept whatever happens to the process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, peer, status, until, until_equal, until_met};
use shell::{Place, Served};

fn pending(node: &Served) -> u64 {
    status(node)["pending"].as_u64().unwrap()
}

/// Asks for a flush: commits that were confirmed, commits that were not, and whether the command failed.
fn flush(node: &Served, wait_ms: u32) -> (u64, u64, bool) {
    let url = node.url();
    let wait = wait_ms.to_string();
    let line = ["peers", "flush", "--url", &url, "--wait-ms", &wait, "--output", "json"];
    let ended = shell::esker(line);
    let said = ended.json().remove(0);
    let is_refused = ended.code == Some(1) && ended.error()["code"] == "Unconfirmed";
    assert!(is_refused || ended.code == Some(0), "{ended:?}");
    (said["successful"].as_u64().unwrap(), said["failed"].as_u64().unwrap(), is_refused)
}

#[test]
fn what_waits_for_a_peer_survives_kills_and_is_flushed_when_it_comes() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let (one, two) = (a.start(&[&b]), b.start(&[&a]));
    until_met(&one, &[&b]);
    one.run("put k 1").ok();
    until("b has all", || two.run("get k").code == Some(0) && pending(&one) == 0);
    assert_eq!(flush(&one, 0), (0, 0, false));
    two.kill();
    until("its end is noticed", || peer(&one, &b).unwrap()["online"] == false);
    (0..20).for_each(|n| drop(one.run(&format!("put k{n} 1")).ok()));
    let waits = pending(&one);
    assert!(waits >= 20, "{waits}");
    assert_eq!(flush(&one, 300), (0, waits, true));
    one.kill();
    let one = a.start(&[&b]);
    assert!(pending(&one) > 0);
    assert!(flush(&one, 0).2);
    let two = b.start(&[&a]);
    let (successful, failed, is_refused) = flush(&one, 60_000);
    assert!(successful > 0 && failed == 0 && !is_refused, "{successful} {failed}");
    (0..20).for_each(|n| drop(two.run(&format!("get k{n}")).ok()));
    until_equal("both are equal", &[&one, &two]);
}

/// It is asked to end while somebody waits for a peer that does not come.
#[test]
fn a_flush_does_not_hold_up_the_end_of_a_node() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let (one, two) = (a.start(&[&b]), b.start(&[&a]));
    until_met(&one, &[&b]);
    // A new node takes none before it knows what its peer has.
    one.run("put before 1").ok();
    two.kill();
    one.run("put after 1").ok();
    let http = one.http.clone();
    let asked = std::thread::spawn(move || {
        let asked = shell::request("POST", "/v1/peers/flush?wait_ms=60000", &[], b"");
        shell::exchange(&http, &asked).status
    });
    until("it is being answered", || {
        let text = one.ask("GET", "/metrics", &[], "").body;
        String::from_utf8(text).unwrap().contains("\nesker_http_requests_open 2\n")
    });
    assert_eq!(one.stop().0, Some(0));
    assert_eq!(asked.join().unwrap(), 200, "it was told before requests are cut off");
}
