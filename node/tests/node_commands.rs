//! `esker node`: what operators do on a running node, by command, on real processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use serde_json::{Value, json};
use shell::group::until;
use shell::{ESKER, Ended, Place, Served, esker, start_in};
use std::fs;
use std::path::Path;

/// Runs `esker node` with the words of `line` on `node`.
fn node(node: &Served, line: &str) -> Ended {
    at(&node.url(), line)
}

/// The same on whatever is at `url`.
fn at(url: &str, line: &str) -> Ended {
    esker(["node"].into_iter().chain(line.split(' ')).chain(["--url", url]))
}

/// The one object that `line` prints.
fn object(served: &Served, line: &str) -> Value {
    let mut all = node(served, &format!("{line} --output json")).ok().json();
    assert_eq!(all.len(), 1, "{line}: {all:?}");
    all.remove(0)
}

/// A node with a file of settings that has `text` in it.
fn with_settings(place: &Place, text: &str) -> Served {
    let file = place.path("node.toml");
    fs::write(&file, text).unwrap();
    Served::start_with(&place.path("data"), &["--config", file.to_str().unwrap()])
}

/// All commands, with what they need.
const LINES: [&str; 12] = [
    "health",
    "mode",
    "log",
    "timeouts",
    "reload",
    "breakers",
    "remedies",
    "checkpoint one",
    "scrub",
    "backup",
    "backups",
    "datasets",
];

#[test]
fn a_mode_is_asked_for_and_changed() {
    let place = Place::new();
    let served = Served::start(&place.path("data"));
    assert_eq!(node(&served, "mode").ok().text(), "mode: normal\n");
    assert_eq!(node(&served, "mode read-only").ok().text(), "mode: read-only\n");
    served.run("put k 1").fails(6, "error[ReadOnlyMode]: ");
    assert_eq!(object(&served, "mode maintenance"), json!({ "mode": "maintenance", "kept": true }));
    assert_eq!(object(&served, "mode"), json!({ "mode": "maintenance" }));
    assert_eq!(node(&served, "mode normal --quiet").ok().text(), "");
    served.run("put k 1").ok();
    node(&served, "mode asleep").fails(2, "error[Usage]: ");
}

/// The command does not promise more than the node: it is in the mode, and forgets it when it stops.
#[test]
fn a_mode_that_the_node_can_not_note_is_told() {
    let place = Place::new();
    let served = halted(&place);
    let ended = node(&served, "mode read-only").fails(1, "error[NotKept]: ");
    assert_eq!(ended.text(), "mode: read-only\n");
    assert_eq!(node(&served, "mode").ok().text(), "mode: read-only\n");
}

/// A node whose table is damaged, and that has noticed.
fn halted(place: &Place) -> Served {
    const NEEDLE: &[u8] = b"qwvzkxjq";
    place.fill(&[("a", std::str::from_utf8(NEEDLE).unwrap()), ("b", "2")]);
    place.run("flush").ok();
    for entry in fs::read_dir(place.path("data/tables")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(NEEDLE.len()).position(|found| found == NEEDLE);
        bytes[at.unwrap()] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let served = Served::start(&place.path("data"));
    served.run("get a").fails(8, "TableCorrupt");
    served
}

#[test]
fn the_log_says_what_it_is_told_to_until_the_configuration_is_read_again() {
    let place = Place::new();
    let served = with_settings(&place, "lag_threshold_ms = 1000\n");
    assert_eq!(node(&served, "log").ok().text(), "level: error\nfilter: \n");
    let text = node(&served, "log --level debug --filter esker=warn").ok();
    assert_eq!(text.text(), "level: debug\nfilter: esker=warn\n");
    assert_eq!(
        object(&served, "log --level info"),
        json!({ "level": "info", "filter": "esker=warn" }),
        "what is not named stays"
    );
    node(&served, "log --level loud").fails(5, "error[");
    assert_eq!(object(&served, "log")["level"], "info");

    assert_eq!(node(&served, "reload").ok().text(), "the configuration was read again\n");
    assert_eq!(object(&served, "log"), json!({ "level": "error", "filter": "" }));
    let file = place.path("node.toml");
    fs::write(&file, "[engine]\nmemory_bytes = '512 MiB'\n").unwrap();
    let ended = node(&served, "reload --quiet").ok();
    assert_eq!(ended.text(), "waits for the next start: engine.memory_bytes\n");
    assert_eq!(object(&served, "reload"), json!({ "waiting": ["engine.memory_bytes"] }));
    fs::write(&file, "lag_threshold_ms = 'long'\n").unwrap();
    node(&served, "reload").fails(5, "error[ConfigInvalid]: ");
}

#[test]
fn timeouts_are_listed_and_changed_all_or_none() {
    let place = Place::new();
    let served = Served::start(&place.path("data"));
    let before = object(&served, "timeouts");
    let text = node(&served, "timeouts").ok();
    assert!(text.text().contains("drain\t30000\n") && text.text().contains("close\t5000\n"));
    assert_eq!(text.text().lines().count(), before.as_object().unwrap().len());
    let changed = node(&served, "timeouts drain=1234 close=4321").ok();
    assert_eq!(changed.text(), "close\t4321\ndrain\t1234\n");
    let after = object(&served, "timeouts drain=1235");
    assert_eq!((&after["drain"], &after["close"]), (&json!(1235), &json!(4321)));
    for refused in ["drain=7 nap=1", "drain=7 close=0", "drain=7 drain=8"] {
        node(&served, &format!("timeouts {refused}")).fails(5, "error[InvalidInput]: ");
    }
    for senseless in ["drain", "drain=soon", "drain=-1"] {
        node(&served, &format!("timeouts {senseless}")).fails(2, "NAME=MILLISECONDS");
    }
    assert_eq!(object(&served, "timeouts"), after);
}

#[test]
fn a_breaker_that_is_open_is_seen_and_reset() {
    let place = Place::new();
    let store = place.path("store");
    fs::write(&store, "not a directory").unwrap();
    let served = with_settings(&place, &format!("[backup]\nto = {store:?}\n"));
    let is_open = |_: &u32| node(&served, "backup").err.contains("error[BreakerOpen]: ");
    assert!((0..10).any(|n| is_open(&n)), "it never opened");
    node(&served, "backup").fails(1, "error[BreakerOpen]: ");
    let line = |line: &str| {
        let all = node(&served, line).ok();
        let found = all.text().lines().find(|line| line.starts_with("backup\t"));
        found.unwrap().split('\t').map(str::to_owned).collect::<Vec<_>>()
    };
    let open = line("breakers");
    assert_eq!((open.len(), &*open[1], &*open[2]), (5, "open", "0"));
    assert!(open[3].parse::<u64>().unwrap() >= 1 && open[4].parse::<u64>().unwrap() >= 2);
    let all = node(&served, "breakers --output json").ok().json();
    let object = all.iter().find(|line| line["breaker"] == "backup").unwrap();
    assert_eq!((&object["state"], &object["successes"]), (&json!("open"), &json!(0)));

    fs::remove_file(&store).unwrap();
    node(&served, "breakers --reset nobody").fails(3, "error[BreakerNotFound]: ");
    let reset = node(&served, "breakers --reset backup --output json").ok().json();
    assert_eq!((reset.len(), &reset[0]["state"]), (1, &json!("closed")));
    assert_eq!(line("breakers")[1], "closed");
    node(&served, "backup").ok();
}

#[test]
fn remedies_are_listed() {
    let place = Place::new();
    let served = with_settings(&place, "[remedies]\nshed = false\n");
    let text = node(&served, "remedies").ok();
    let names: Vec<&str> =
        text.text().lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(names, ["heal", "reopen", "restart", "resume", "shed"]);
    assert!(text.text().contains("reopen\tready\t0\t0\t3\n"), "{}", text.text());
    let all = node(&served, "remedies --output json").ok().json();
    assert_eq!((&all[4]["remedy"], &all[4]["state"]), (&json!("shed"), &json!("off")));
    assert_eq!(all[4]["takenLastHour"], 0);
}

#[test]
fn checkpoints_and_backups_are_made_where_the_configuration_says() {
    let place = Place::new();
    let bare = Served::start(&place.path("data"));
    for line in ["checkpoint one", "backup", "backups"] {
        node(&bare, line).fails(5, "error[NotConfigured]: ");
    }
    assert_eq!(bare.stop().0, Some(0));

    let (copies, store) = (place.path("copies"), place.path("store"));
    fs::create_dir(&copies).unwrap();
    let text = format!("[checkpoint]\nto = {copies:?}\n[backup]\nto = {store:?}\n");
    let served = with_settings(&place, &text);
    served.run("put ada 1815").ok();
    let made = node(&served, "checkpoint one").ok();
    let begin = format!("checkpoint {}: everything until commit ", copies.join("one").display());
    assert!(made.text().starts_with(&begin), "{}", made.text());
    node(&served, "checkpoint one").fails(4, "error[AlreadyExists]: ");
    node(&served, "checkpoint a/b").fails(5, "error[InvalidInput]: ");
    let second = object(&served, "checkpoint two");
    assert_eq!(second["path"], copies.join("two").to_str().unwrap());
    assert!(second["seqno"].as_u64().unwrap() > 0);
    assert_eq!(get_in(&copies.join("two"), "ada").ok().text(), "1815\n");

    // The schedule makes one at once.
    until("the first backup is there", || {
        let listed = node(&served, "backups");
        listed.code == Some(0) || {
            listed.fails(3, "error[NoBackups]: ");
            false
        }
    });
    let full = object(&served, "backup --kind full");
    assert_eq!(full["kind"], "full");
    let text = node(&served, "backup").ok();
    assert!(text.text().contains("\tincremental\tmade 2"), "{}", text.text());
    node(&served, "backup --kind half").fails(2, "error[Usage]: ");
    let listed = node(&served, "backups --output json").ok().json();
    let at = listed.iter().position(|backup| *backup == full).unwrap();
    assert!(at > 0, "oldest first");
    let all = node(&served, "backups").ok();
    assert!(all.text().contains(text.text()) && all.err.is_empty(), "{}", text.text());

    let record = store.join(format!("{:020}.backup", full["number"].as_u64().unwrap()));
    let mut bytes = fs::read(&record).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&record, bytes).unwrap();
    let without = node(&served, "backups --output json").ok();
    assert!(!without.json().contains(&full) && without.json().len() == listed.len() - 1);
    let told: Value = serde_json::from_str(&without.err).unwrap();
    let file = record.to_str().unwrap();
    assert_eq!((&told["code"], &told["file"]), (&"BackupCorrupt".into(), &file.into()), "{told}");
}

fn get_in(path: &Path, key: &str) -> Ended {
    esker(["get".as_ref(), "--path".as_ref(), path.as_os_str(), key.as_ref()])
}

#[test]
fn a_scrub_tells_what_it_read_and_ends_with_10_if_it_finds_anything() {
    let place = Place::new();
    place.fill(&[("a", "1")]);
    place.run("flush").ok();
    let served = Served::start(&place.path("data"));
    let text = node(&served, "scrub").ok();
    assert!(text.text().starts_with("scrubbed "), "{}", text.text());
    assert!(text.text().ends_with(": 0 findings\n"), "{}", text.text());
    let whole = object(&served, "scrub");
    assert_eq!(whole["findings"], 0);
    assert!(whole["tables"].as_u64().unwrap() >= 1 && whole["bytes"].as_u64().unwrap() > 0);
    assert_eq!(served.stop().0, Some(0));

    let place = Place::new();
    let served = halted(&place);
    let ended = node(&served, "scrub").fails(10, "error[Integrity]: ");
    let finding = ended.text().lines().next().unwrap();
    let begin = format!("finding: {}", place.path("data/tables").display());
    assert!(finding.starts_with(&begin) && finding.contains(" at byte "), "{finding}");
    let lines = node(&served, "scrub --output json").fails(10, "Integrity").json();
    assert!(lines[0]["path"].as_str().unwrap().contains("/tables/"), "{lines:?}");
    assert!(lines[0]["offset"].is_u64() && lines[0]["what"].is_string());
    assert_eq!(lines.last().unwrap()["findings"], lines.len() - 1);
}

#[test]
fn datasets_are_listed_and_each_is_commanded_by_its_url() {
    let place = Place::new();
    let orders = place.path("orders");
    let text = format!("[datasets.orders]\npath = {orders:?}\nlisten = '127.0.0.1:0'\n");
    let served = with_settings(&place, &text);
    let listed = object(&served, "datasets");
    assert_eq!(listed["dataset"], "orders");
    assert_eq!((&listed["status"], listed["node"].is_string()), (&json!("open"), true));
    let (id, listen) = (listed["node"].as_str().unwrap(), listed["listen"].as_str().unwrap());
    let line = format!("orders\topen\t{id}\t{listen}\t/v1/datasets/orders\n");
    assert_eq!(node(&served, "datasets").ok().text(), line);
    assert_eq!(node(&served, "datasets orders").ok().text(), line);
    assert_eq!(object(&served, "datasets main")["node"], served.node.as_str());
    node(&served, "datasets nobody").fails(3, "error[DatasetNotFound]: ");

    let url = format!("{}/v1/datasets/orders", served.url());
    assert_eq!(at(&url, "mode read-only").ok().text(), "mode: read-only\n");
    assert_eq!(node(&served, "mode").ok().text(), "mode: normal\n", "the others go on");
    assert_eq!(at(&url, "datasets").ok().text(), "");
    let health = at(&url, "health ready --output json").ok().json().remove(0);
    assert_eq!(health["writes"], "read-only-mode");
    let detailed = at(&url, "health detailed --output json").ok().json().remove(0);
    assert_eq!(detailed["node"], id);
    at(&format!("{}/v1/datasets/nobody", served.url()), "mode")
        .fails(3, "error[DatasetNotFound]: ");
}

#[test]
fn health_is_told_and_the_exit_code_says_whether_it_is_well() {
    let place = Place::new();
    let served = Served::start(&place.path("data"));
    let text = node(&served, "health").ok();
    let begin = "status: healthy\nwrites: open\nengine: healthy\ntracked peers: 0\n";
    assert!(text.text().starts_with(begin), "{}", text.text());
    assert_eq!(object(&served, "health")["engine"]["status"], "healthy");
    assert_eq!(node(&served, "health live").ok().text(), "status: alive\n");
    assert_eq!(object(&served, "health live"), json!({ "status": "alive" }));
    assert_eq!(node(&served, "health ready").ok().text(), "status: ready\nwrites: open\n");
    let detailed = node(&served, "health detailed").ok();
    assert!(detailed.text().contains(&format!("\nnode: {}\n", served.node)), "{}", detailed.text());
    assert!(detailed.text().lines().any(|line| line.starts_with("engine\t")));
    assert!(object(&served, "health detailed")["checks"]["engine"]["status"].is_string());
    node(&served, "health dead").fails(2, "error[Usage]: ");

    node(&served, "mode maintenance").ok();
    node(&served, "health").ok();
    node(&served, "health live").ok();
    let ended = node(&served, "health ready").fails(1, "error[NotReady]: ");
    let text = "status: not_ready\nwrites: maintenance\nreason: the node is being maintained\n";
    assert_eq!(ended.text(), text);
    assert!(ended.err.contains("the node is not ready: the node is being maintained"));
    let ended = node(&served, "health ready --output json").fails(1, "NotReady");
    assert_eq!(ended.json()[0]["reasons"], json!(["the node is being maintained"]));
    assert_eq!(ended.error()["code"], "NotReady");

    let url = served.url();
    assert_eq!(served.stop().0, Some(0));
    for line in ["health", "health live", "health ready", "health detailed"] {
        at(&url, line).fails(7, "error[Unreachable]: ");
    }
}

/// A process that is there and does nothing is not waited for as long as work is.
#[test]
fn a_node_that_hangs_is_not_well() {
    let place = Place::new();
    let served = Served::start(&place.path("data"));
    served.signal(rustix::process::Signal::STOP);
    for probe in ["health", "health live --output json"] {
        node(&served, &format!("{probe} --timeout-ms 100")).fails(7, "Unreachable");
    }
    served.signal(rustix::process::Signal::CONT);
    node(&served, "health live").ok();
    node(&served, "health --timeout-ms 0").fails(2, "--timeout-ms");
}

#[test]
fn a_node_that_is_not_well_says_why() {
    let place = Place::new();
    let served = halted(&place);
    let ended = node(&served, "health").fails(1, "error[Unhealthy]: ");
    assert!(ended.text().starts_with("status: unhealthy\n"), "{}", ended.text());
    assert!(ended.text().contains("\nengine: corrupt\nreason: "), "{}", ended.text());
    let reason = ended.text().lines().find_map(|line| line.strip_prefix("reason: ")).unwrap();
    assert!(ended.err.contains(reason), "{reason}: {}", ended.err);
    let ended = node(&served, "health --output json").fails(1, "Unhealthy");
    assert_eq!(ended.json()[0]["engine"]["status"], "corrupt");
    node(&served, "health ready").fails(1, "error[NotReady]: ");
    node(&served, "health live").ok();
}

#[test]
fn with_tokens_only_probes_are_answered_without_one() {
    let place = Place::new();
    let secret = place.path("secret");
    fs::write(&secret, "a-secret-of-a-cluster\n").unwrap();
    let served = with_settings(&place, &format!("[auth]\ntoken_file = {secret:?}\n"));
    for line in LINES.into_iter().chain(["health detailed"]) {
        node(&served, line).fails(6, "error[Unauthenticated]: ");
    }
    node(&served, "health live").ok();
    node(&served, "health ready").ok();
    let words = ["node", "mode", "read-only", "--url", &served.url()];
    let child = start_in(words, &[("ESKER_TOKEN", "a-secret-of-a-cluster")]);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.stdout, b"mode: read-only\n");
}

/// No command finds an answer where there is none, or takes that of something else for it.
#[test]
fn commands_end_where_no_node_answers() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for line in LINES {
        at(&format!("http://{nobody}"), line).fails(7, "error[Unreachable]: ");
        at("https://127.0.0.1:1", line).fails(5, "error[InvalidInput]: ");
        let words = ["node"].into_iter().chain(line.split(' '));
        esker(words).fails(2, "--url");
    }
}

/// What was being done stands in a failure once, whichever side it is of.
#[test]
fn a_failure_tells_once_that_a_node_was_asked() {
    let place = Place::new();
    let served = Served::start(&place.path("data"));
    let failed = node(&served, "backup --output json").fails(5, "NotConfigured").error();
    assert_eq!(failed["operations"], json!(["node", "ask the node"]));
    let failed = served.run("get --keyspace none k --output json").fails(3, "Keyspace").error();
    assert_eq!(failed["operations"], json!(["get", "ask the node"]));
}

/// Progress is for a person who watches.
#[test]
fn long_work_shows_that_it_goes_on_on_a_terminal_only() {
    let place = Place::new();
    let (copies, store) = (place.path("copies"), place.path("store"));
    fs::create_dir(&copies).unwrap();
    let text = format!("[checkpoint]\nto = {copies:?}\n[backup]\nto = {store:?}\n");
    let served = with_settings(&place, &text);
    for (line, shown) in [
        ("scrub", "scrubbing"),
        ("backup", "backing up"),
        ("checkpoint one", "making a checkpoint"),
    ] {
        let text = on_a_terminal(&place, &served, line);
        assert!(text.contains(shown), "{line}: {text:?}");
        let line = line.replace("one", "two");
        assert_eq!(on_a_terminal(&place, &served, &format!("{line} --quiet")).trim(), "", "{line}");
    }
}

/// What `esker node` with `line` writes to standard error, which is a terminal.
fn on_a_terminal(place: &Place, served: &Served, line: &str) -> String {
    let typescript = place.path("typescript");
    let command = format!("'{ESKER}' node {line} --url {} >/dev/null", served.url());
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--return", "--command", &command]).env("TERM", "xterm");
    let status = script.arg(&typescript).stdout(std::process::Stdio::null()).status().unwrap();
    let text = String::from_utf8_lossy(&fs::read(&typescript).unwrap()).into_owned();
    assert!(status.success(), "{line}: {text}");
    // Its first and its last line say when.
    let lines: Vec<&str> = text.lines().collect();
    lines[1..lines.len() - 1].join("\n")
}
