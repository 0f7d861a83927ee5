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
fn a_healthy_node_without_peers_answers_200() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let answer = exchange(
        &node.http,
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    );
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
        let refused = esker(words).fails(5, "error[ConfigInvalid]: ");
        assert!(refused.err.contains("loopback"), "{}", refused.err);
    }
    assert!(!data.exists(), "nothing is created for a node that can not serve");
}

/// Commands that print what is stored, in both formats.
const READERS: [&str; 16] = [
    "get ada",
    "get --raw ada",
    "get --output json ada",
    "get --keyspace users --output json blob",
    "scan",
    "scan --output json",
    "scan --keyspace users --output json",
    "scan --prefix k00 --limit 7 --reverse",
    "scan --start k0010 --end k0020 --keys-only",
    "scan --keys-only --output json --keyspace users",
    "export -",
    "export --all -",
    "digest --output json",
    "digest --keyspace users",
    "keyspaces",
    "keyspaces --output json",
];

#[test]
fn every_command_says_over_http_what_it_says_of_the_directory() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let lines: String = (0..3000).map(|n| format!("k{n:04}\tvalue {n} \u{1}\"\\\n")).collect();
    let loaded = node.run_with("load --format tsv -", lines.as_bytes()).ok();
    assert_eq!(loaded.text(), "loaded 3000 records in 3 batches\n");
    let blob = br#"{"key":"blob","value_b64":"AP8K"}
{"key_b64":"/y8=","value":"tab\tand\nline"}"#;
    node.run_with("load --keyspace users -", blob).ok();
    node.run("put ada 1815").ok();
    node.run("put --keyspace empty k v").ok();
    node.run("delete --keyspace empty k").ok();

    let over_http: Vec<_> = READERS.iter().map(|line| node.run(line).ok().out).collect();
    let stats = node.run("stats --output json").ok().json();
    assert_eq!(node.stop(), (Some(0), String::new()));
    for (line, over_http) in READERS.iter().zip(over_http) {
        let here = place.run(line).ok().out;
        assert!(over_http == here && !here.is_empty(), "{line} differs");
    }
    let here = place.run("stats --output json").ok().json();
    let names = |object: &serde_json::Value| {
        object.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&stats[0]), names(&here[0]));
    assert_eq!(stats[0]["keyspaces"], 3);
}

#[test]
fn an_export_of_one_node_loads_into_another() {
    let (place, other) = (Place::new(), Place::new());
    let node = Served::start(&place.path("data"));
    let copy = Served::start(&other.path("data"));
    for keyspace in ["a b/c", "käse", "default"] {
        let line = format!("{{\"keyspace\":{keyspace:?},\"key_b64\":\"/wA=\",\"value\":\"v\"}}");
        node.run_with("load -", line.as_bytes()).ok();
    }
    let lines = node.run("export --all -").ok();
    copy.run_with("load -", &lines.out).ok();
    assert_eq!(copy.run("export --all -").ok().out, lines.out);
    assert_eq!(copy.run("digest").ok().out, node.run("digest").ok().out);
    let file = other.path("one.ndjson");
    copy.run(&format!("export --keyspace default {}", file.display())).ok();
    assert_eq!(std::fs::read(file).unwrap(), b"{\"key_b64\":\"/wA=\",\"value\":\"v\"}\n");
}

#[cfg(unix)]
#[test]
fn a_key_may_be_any_bytes() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let data = place.path("data");
    let node = Served::start(&data);
    let url = OsString::from(node.url());
    let every_byte: Vec<u8> = (1..=255).collect();
    let long = vec![b'%'; 65_535];
    let keys: [&[u8]; 12] = [
        b".",
        b"..",
        b"/",
        b"a/../b",
        b"%41",
        b"+",
        b"?a=b&c#d",
        b" ",
        b"\xff\xfe",
        b"\n\r\t",
        &every_byte,
        &long,
    ];
    for (number, key) in keys.iter().enumerate() {
        let (key, value) = (OsStr::from_bytes(key), OsString::from(format!("v{number}")));
        esker([OsStr::new("put"), OsStr::new("--url"), &url, key, &value]).ok();
    }
    let mut place_of = [OsStr::new("--url"), &url];
    for is_stopped in [false, true] {
        for (number, key) in keys.iter().enumerate() {
            let words = [OsStr::new("get"), place_of[0], place_of[1], OsStr::from_bytes(key)];
            assert_eq!(esker(words).ok().text(), format!("v{number}\n"), "{is_stopped}");
        }
        if !is_stopped {
            node.terminate();
            // Until the directory is free, it says that it is held.
            while place.run("keyspaces").code == Some(6) {}
            place_of = [OsStr::new("--path"), data.as_os_str()];
        }
    }
    assert_eq!(node.wait().0, Some(0));
}

#[test]
fn the_largest_value_goes_both_ways_and_a_larger_one_is_refused() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let value: Vec<u8> = (0..32u32 << 20).map(|at| (at % 251) as u8).collect();
    node.run_with("put k -", &value).ok();
    assert!(node.run("get --raw k").ok().out == value);
    node.run_with("put k -", &vec![7; (32 << 20) + 1]).fails(5, "33554432");
    // Escaped, this text would be six times as long.
    let text = vec![1; 32 << 20];
    node.run_with("put text -", &text).ok();
    let line = node.run("scan --output json --start text").ok();
    assert_eq!(line.json()[0]["value"].as_str().unwrap().len(), 32 << 20);
    node.run("delete k").ok();
    let copied = node.run_with("load --keyspace copy -", &line.out).ok();
    assert_eq!(copied.text(), "loaded 1 records in 1 batches\n");
    assert!(node.run("get --raw --keyspace copy text").ok().out == text);
}

#[test]
fn a_load_over_http_acknowledges_refuses_and_skips_like_one_of_a_directory() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let good = b"a\t1\nb\t2\nc\t3\nd\t4\ne\t5\n";
    let acks = node.run_with("load --format tsv --batch 2 --ack -", good).ok();
    assert_eq!(acks.text(), "2\n4\n5\n");
    let bad = b"f\t6\ng\t7\nh\t8\nnonsense\n";
    let ended = node.run_with("load --format tsv --batch 2 -", bad).fails(5, "error[BadLine]: ");
    assert!(ended.err.contains("line 4") && ended.err.contains("2 records"), "{}", ended.err);
    node.run("get g").ok();
    node.run("get h").fails(3, "NotFound");
    let skipped = node.run_with("load --format tsv --skip-bad -", bad).ok();
    assert_eq!(skipped.text(), "loaded 3 records in 1 batches, 1 bad lines skipped\n");
    let csv = b"name,born\nada,1815\n";
    node.run_with("load --format csv --key name --sync async --keyspace people -", csv).ok();
    let got = node.run("get --keyspace people ada").ok();
    assert_eq!(got.text(), "{\"name\":\"ada\",\"born\":\"1815\"}\n");
    assert_eq!(
        node.run_with("load --keyspace fresh -", b"").ok().text(),
        "loaded 0 records in 0 batches\n"
    );
    assert_eq!(node.run("scan --keyspace fresh").ok().text(), "");
}

#[test]
fn what_a_load_had_acknowledged_survives_a_killed_node() {
    use std::io::{BufRead, BufReader, Write};
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let url = node.url();
    let words = ["load", "--url", &url, "--format", "tsv", "--batch", "10", "--ack", "-"];
    let mut loader = shell::start(words);
    let mut pipe = loader.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let lines =
            |from: u64| (from..from + 100).map(|n| format!("k{n:07}\tv{n}\n")).collect::<String>();
        let mut parts = (0..).step_by(100).map(lines);
        // Ends when the loader does.
        while parts.next().is_some_and(|part| pipe.write_all(part.as_bytes()).is_ok()) {}
    });
    let mut acks = BufReader::new(loader.stdout.take().unwrap()).lines();
    let mut acknowledged = acks.nth(50).unwrap().unwrap();
    node.kill();
    while let Some(Ok(line)) = acks.next() {
        acknowledged = line;
    }
    let output = loader.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let acknowledged: usize = acknowledged.parse().unwrap();
    assert!(acknowledged >= 510, "{acknowledged}");

    let node = Served::start(&place.path("data"));
    let keys = node.run("scan --keys-only").ok();
    let stored = keys.text().lines().count();
    // The batch that was under way is there or not.
    assert!(stored == acknowledged || stored == acknowledged + 10, "{stored} of {acknowledged}");
    assert_eq!(keys.text().lines().last().unwrap(), format!("k{:07}", stored - 1));
}

#[test]
fn a_stream_that_a_killed_node_cuts_off_is_not_taken_for_whole() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let value = "v".repeat(100_000);
    let lines: String = (0..300).map(|n| format!("k{n:03}\t{value}\n")).collect();
    node.run_with("load --format tsv -", lines.as_bytes()).ok();
    // Nobody reads what it prints until the node is gone.
    let scan = shell::start(["scan", "--url", &node.url()]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    node.kill();
    let output = scan.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.starts_with("error[BrokenOff]: "), "{said}");
    assert!(output.stdout.len() < lines.len());
}

#[test]
fn status_and_peers_of_a_node_on_its_own() {
    let place = Place::new();
    let node = Served::start_with(&place.path("data"), &["--role", "respond-only"]);
    let identity = place.run("id --output json").ok().json();
    let status = node.run("status --output json").ok().json();
    assert_eq!(status.len(), 1);
    assert_eq!(status[0]["node"], identity[0]["node"]);
    assert_eq!(status[0]["incarnation"], identity[0]["incarnation"]);
    assert_eq!(status[0]["role"], "respond-only");
    assert_eq!(status[0]["listen"], node.listen.as_str());
    assert_eq!(status[0]["online"], false);
    assert_eq!(status[0]["lastSync"], serde_json::Value::Null);
    assert_eq!(status[0]["pending"], 0);
    assert_eq!(status[0]["errors"], serde_json::json!([]));
    assert_eq!(status[0]["totals"]["framesSent"], 0);
    let text = node.run("status").ok();
    assert!(text.text().contains("\nrole: respond-only\n"), "{}", text.text());

    let peers = |line: &str| {
        let mut words: Vec<&str> = vec!["peers"];
        words.extend(line.split(' '));
        let url = node.url();
        words.extend(["--url", &url]);
        esker(words)
    };
    assert_eq!(peers("list").ok().text(), "");
    let id = "000102030405060708090a0b0c0d0e0f";
    for change in ["enable", "disable", "track", "untrack", "deprecate", "remove"] {
        peers(&format!("{change} {id}")).fails(3, "error[PeerNotFound]: ");
        peers(&format!("{change} ada")).fails(5, "error[InvalidInput]: ");
    }
    let invited = peers("invite --output json").ok().json();
    assert!(invited[0]["token"].as_str().is_some_and(|token| token.len() > 40));
    let own = identity[0]["node"].as_str().unwrap();
    peers(&format!("add {own}@127.0.0.1:1")).fails(5, "error[InvalidInput]: ");
    peers(&format!("add {id}@127.0.0.1:1")).ok();
    assert!(peers("list").ok().text().starts_with(id));
    peers("add ada").fails(5, "error[InvalidInput]: ");
    let data = place.path("other").display().to_string();
    esker(["serve", "--path", &data, "--peer", "ada"]).fails(5, "error[ConfigInvalid]: ");
}

#[test]
fn a_replica_takes_no_writes_of_users() {
    let place = Place::new();
    place.run("put k v").ok();
    let node = Served::start_with(&place.path("data"), &["--role", "replica"]);
    assert_eq!(node.run("get k").ok().text(), "v\n");
    node.run("put k w").fails(6, "error[ReadOnly]: ");
    node.run_with("put k -", &vec![1; 1 << 20]).fails(6, "error[ReadOnly]: ");
    node.run("delete k").fails(6, "error[ReadOnly]: ");
    node.run_with("load --format tsv -", b"k\tw\n").fails(6, "error[ReadOnly]: ");
    assert_eq!(node.run("get k").ok().text(), "v\n");
}

#[test]
fn a_file_has_the_settings_of_the_command_line() {
    let place = Place::new();
    let file = place.path("node.toml");
    let data = place.path("data");
    let text = format!(
        "path = {data:?}\nlisten = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nrole = 'replica'\n"
    );
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let node = Served::of(shell::start(["serve", "--config", &file]));
    assert_eq!(node.run("status --output json").ok().json()[0]["role"], "replica");
    assert_eq!(node.stop().0, Some(0));
    std::fs::write(&file, "path = 'x'\nhttps = 1\n").unwrap();
    let ended = esker(["serve", "--config", &file]).fails(5, "error[ConfigInvalid]: ");
    assert!(ended.err.contains("node.toml line 2"), "{}", ended.err);
    esker(["serve"]).fails(2, "Usage");
    esker(["serve", "--config", "/nowhere/node.toml"]).fails(7, "error[Io]: ");
}

#[test]
fn a_url_that_leads_nowhere_is_an_error_that_says_so() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let url = node.url();
    node.kill();
    let ended = esker(["get", "--url", &url, "k"]).fails(7, "error[Unreachable]: ");
    assert!(ended.err.contains(&url), "{}", ended.err);
    for bad in ["https://127.0.0.1:1", "127.0.0.1:1", "http://", "http://h:1/path", "http://a@b:1"]
    {
        esker(["get", "--url", bad, "k"]).fails(5, "error[InvalidInput]: ");
    }
    esker(["get", "--url", &url, "--path", "data", "k"]).fails(2, "Usage");
    // A node that is none.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let other = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 418 Teapot\r\ncontent-length: 2\r\n\r\nno").unwrap();
    });
    let ended = esker(["get", "--url", &format!("http://{address}"), "k"]);
    ended.fails(5, "error[HttpStatus]: ");
    other.join().unwrap();
}
