//! What goes wrong with one of three nodes, and the others help.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, status, until, until_equal, until_met};
use shell::{Place, Served, esker, start_in};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Starts a node that lets its peers heal it.
fn healed(home: &Home, peers: &[&Home]) -> Served {
    let mut words = vec!["serve".to_owned(), "--path".to_owned(), home.path.display().to_string()];
    words.extend(["--http", "127.0.0.1:0", "--listen", &home.listen].map(str::to_owned));
    peers.iter().for_each(|peer| words.extend(["--peer".to_owned(), peer.address()]));
    Served::of(start_in(words, &[("ESKER_ENGINE_ON_CORRUPTION", "heal")]))
}

/// The largest file below `path` that ends in `.sst`.
fn largest_table(path: &Path) -> PathBuf {
    let tables = std::fs::read_dir(path.join("tables")).unwrap().map(|entry| entry.unwrap().path());
    let tables = tables.filter(|path| path.extension().is_some_and(|it| it == "sst"));
    tables.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Flips a bit in the middle of a file, where it stands.
fn flip(path: &Path) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let at = SeekFrom::Start(file.metadata().unwrap().len() / 2);
    let mut byte = [0];
    file.seek(at).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(at).unwrap();
    file.write_all(&[byte[0] ^ 4]).unwrap();
}

#[test]
fn a_damaged_table_of_one_node_is_made_whole_by_the_others() {
    let place = Place::new();
    let homes = ["a", "b", "c"].map(|name| Home::new(&place, name));
    let [a, b, c] = &homes;
    let (one, two) = (healed(a, &[b, c]), healed(b, &[a, c]));
    let three = healed(c, &[a, b]);
    until_met(&three, &[a, b]);
    let lines: String =
        (0..20_000).map(|n| format!("k{n:05}\t{}\n", "value ".repeat(n % 40))).collect();
    one.run_with("load --format tsv -", lines.as_bytes()).ok();
    until_equal("all hold what was loaded", &[&one, &two, &three]);
    let held = two.run("digest").ok().text().to_owned();
    three.run("compact").ok();
    assert_eq!(three.stop().0, Some(0));
    let table = largest_table(&c.path);
    flip(&table);

    let three = healed(c, &[a, b]);
    // The first who reads it finds it; it may be whole again for the second.
    let read = three.run("scan --keys-only");
    assert!(read.code == Some(0) || read.err.contains("Corrupt"), "{}", read.err);
    until("it holds all again", || three.run("digest").text() == held);
    until("it takes writes", || three.run("put after 1").code == Some(0));
    until("the remedy is counted", || {
        let metrics = three.ask("GET", "/metrics", &[], "").is(200, "").body;
        let metrics = String::from_utf8(metrics).unwrap();
        metrics.contains("\nesker_remedies_taken_total{remedy=\"heal\"} 1\n")
    });
    until_equal("all agree", &[&one, &two, &three]);
    until("the damaged file is out of the way", || !table.exists());
    let quarantined = std::fs::read_dir(c.path.join("quarantine")).unwrap().count();
    assert!(quarantined > 0, "and kept");
    assert_eq!(three.stop().0, Some(0));
    let directory = c.path.display().to_string();
    esker(["check", "--path", &directory, "--level", "paranoid"]).ok();
}

/// What was acknowledged is there, whatever hangs when a node is told twice to end.
#[test]
fn a_second_signal_ends_a_node_at_once_though_a_peer_hangs() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let (mut one, two) = (a.start(&[&b]), b.start(&[&a]));
    until_met(&one, &[&b]);
    let value = "v".repeat(100_000);
    let lines: String = (0..100).map(|n| format!("k{n:03}\t{value}\n")).collect();
    one.run_with("load --format tsv -", lines.as_bytes()).ok();
    two.signal(rustix::process::Signal::STOP);
    one.run("put last 1").ok();
    // An answer that nobody reads would hold the node for an hour.
    one.drain_for_an_hour();
    let mut scan = TcpStream::connect(&one.http).unwrap();
    write!(scan, "GET /v1/keyspaces/default/records HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    scan.read_exact(&mut [0; 12]).unwrap();

    one.terminate();
    until("it takes no more connections", || TcpStream::connect(&one.http).is_err());
    one.terminate();
    until("it has ended", || one.has_ended());
    assert_eq!(one.wait(), (Some(0), String::new()));
    two.signal(rustix::process::Signal::CONT);
    let one = a.start(&[&b]);
    assert_eq!(one.run("get last").ok().text(), "1\n");
    until_equal("both agree", &[&one, &two]);
}

/// Numbers of keyspaces are each node's own; names are what they share.
#[test]
fn keyspaces_that_got_the_same_number_apart_are_not_mixed_up() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    for (home, keyspace) in [(&a, "apples"), (&b, "pears")] {
        let path = home.path.display().to_string();
        esker(["put", "--path", &path, "--keyspace", keyspace, "k", keyspace]).ok();
    }
    let (one, two) = (a.start(&[&b]), b.start(&[&a]));
    for node in [&one, &two] {
        for keyspace in ["apples", "pears"] {
            let get = format!("get --keyspace {keyspace} k");
            until("it has both", || node.run(&get).text() == format!("{keyspace}\n"));
            assert_eq!(
                node.run(&format!("scan --keyspace {keyspace}")).ok().text().lines().count(),
                1
            );
        }
    }
    until_equal("both agree", &[&one, &two]);
    // A third takes all of it as tables.
    let c = Home::new(&place, "c");
    let third = c.start(&[&a, &b]);
    for node in [&one, &two] {
        shell::group::peers(node, &["add", &c.address()]).ok();
    }
    until("it has what was there", || third.run("get --keyspace pears k").text() == "pears\n");
    until_equal("all agree", &[&one, &two, &third]);
}

/// One of that name stays on its node, the other one is shared: an operator has to decide.
#[test]
fn a_keyspace_that_is_local_here_and_shared_there_is_an_error_by_name() {
    for comes_as in ["tables", "commits"] {
        let place = Place::new();
        let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
        let path = b.path.display().to_string();
        if comes_as == "tables" {
            esker(["put", "--path", &path, "--keyspace", "cache", "ours", "2"]).ok();
        }
        let one = a.start_with(&[&b], &["--local", "cache"]);
        let two = b.start(&[&a]);
        one.run("put --keyspace cache mine 1").ok();
        if comes_as == "commits" {
            one.run("put k 1").ok();
            until("they have met", || two.run("get k").code == Some(0));
            two.run("put --keyspace cache ours 2").ok();
        }
        let says = || status(&one)["errors"].to_string().contains("the keyspace's scope");
        until(&format!("the error is named, {comes_as}"), says);
        one.run("get --keyspace cache ours").fails(3, "error[NotFound]: ");
        two.run("get --keyspace cache mine").fails(3, "error[NotFound]: ");
        assert_eq!(one.run("get --keyspace cache mine").ok().text(), "1\n");
    }
}
