//! What the command refuses, how it says so, and that it changes nothing then.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, arguments, esker, start};
use std::io::{BufRead, BufReader, Write};

/// Commands that never create a database, with what they need besides `--path`.
const READERS: [&str; 12] = [
    "get k",
    "delete k",
    "scan",
    "export -",
    "digest",
    "keyspaces",
    "stats",
    "check",
    "compact",
    "flush",
    "id",
    "check --level quick",
];

#[test]
fn commands_that_only_read_never_create_a_database() {
    for command in READERS {
        let place = Place::new();
        place.run(command).fails(8, "error[NotADatabase]: ");
        assert!(!place.path("data").exists(), "{command} left something");
        std::fs::create_dir(place.path("data")).unwrap();
        place.run(command).fails(8, "error[NotADatabase]: ");
        assert!(shell::content_of(&place.path("data")).is_empty(), "{command} left something");
    }
}

#[test]
fn a_directory_of_other_files_is_left_alone() {
    for command in READERS.into_iter().chain(["init", "put k v"]) {
        let place = Place::new();
        std::fs::create_dir(place.path("data")).unwrap();
        std::fs::write(place.path("data/letter.txt"), "dear reader").unwrap();
        place.run(command).fails(8, "error[NotADatabase]: ");
        let left = shell::content_of(&place.path("data"));
        assert_eq!(left.len(), 1, "{command} left {left:?}");
    }
}

#[test]
fn a_file_in_place_of_the_directory_is_left_alone() {
    let place = Place::new();
    std::fs::write(place.path("data"), "a letter").unwrap();
    for command in READERS.into_iter().chain(["init", "put k v"]) {
        place.run(command).fails(8, "error[NotADatabase]: ");
    }
    assert_eq!(std::fs::read(place.path("data")).unwrap(), b"a letter");
}

#[test]
fn an_error_is_one_line_for_people_and_one_object_for_programs() {
    let place = Place::new();
    let text = place.run("get k").fails(8, "NotADatabase");
    let parts: Vec<&str> = text.err.trim_end().split("; ").collect();
    assert_eq!(text.err.lines().count(), 1);
    assert!(parts.len() == 3 && parts[0].starts_with("error[NotADatabase]: "), "{parts:?}");
    assert!(parts[1].ends_with("data") && parts[2].contains("init"), "{parts:?}");

    let object = place.run("get k --output json").fails(8, "NotADatabase").error();
    for field in ["code", "category", "message", "action", "file", "offset"] {
        assert!(object.get(field).is_some(), "{field} is missing in {object}");
    }
    assert_eq!(object["category"], "invalid_input");
}

#[test]
fn a_wrong_command_line_exits_with_two_and_says_why() {
    let data = "--path=data";
    for arguments in [
        vec![],
        vec!["nonsense"],
        vec!["get", "k"],
        vec!["get", data],
        vec!["get", data, "k", "more"],
        vec!["scan", data, "--limit", "-1"],
        vec!["scan", data, "--limit", "many"],
        vec!["load", data, "--batch", "0", "-"],
        vec!["load", data, "--batch", "18446744073709551616", "-"],
        vec!["load", data, "--sync", "never", "-"],
        vec!["load", data, "--format", "xml", "-"],
        vec!["check", data, "--level", "deep"],
        vec!["bench", data, "--threads", "0"],
        vec!["bench", data, "--keys", "0"],
        vec!["bench", data, "--value-size", "33554433"],
        vec!["bench", data, "--workload", "fillrandom,juggle"],
        vec!["dump", "letter", "file"],
        vec!["get", data, "--output", "yaml", "k"],
    ] {
        let ended = esker(&arguments).fails(2, "error[Usage]: ");
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
    let ended = esker(["get", "--output", "json"]).fails(2, "Usage");
    assert_eq!(ended.error()["code"], "Usage");
}

#[test]
fn an_input_that_is_not_there_is_an_io_error() {
    let place = Place::new();
    let missing = place.path("missing.ndjson");
    place.run(&format!("load {}", missing.display())).fails(7, "missing.ndjson");
    assert!(!place.path("data").exists(), "nothing is created for a load that can not begin");
    std::fs::create_dir(place.path("folder")).unwrap();
    place.run(&format!("load {}", place.path("folder").display())).fails(7, "error[Io]: ");
    esker(["dump", "wal", &missing.display().to_string()]).fails(7, "error[Io]: ");
}

#[test]
fn a_directory_that_another_process_holds_names_it() {
    let place = Place::new();
    let mut holder = start(arguments("load --format tsv --batch 1 --ack -", &place.path("data")));
    let mut pipe = holder.stdin.take().unwrap();
    pipe.write_all(b"k\tv\n").unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");

    let process = format!("process {}", holder.id());
    for command in ["get k", "put k w", "scan", "stats", "check", "compact", "flush"] {
        let ended = place.run(command).fails(6, "error[Locked]: ");
        assert!(ended.err.contains(&process) && ended.err.contains("--url"), "{}", ended.err);
    }
    place.run("id").ok();

    drop(pipe);
    assert!(holder.wait().unwrap().success());
    assert_eq!(place.run("get k").ok().text(), "v\n");
}

#[test]
fn a_database_of_a_newer_version_is_refused_unchanged() {
    const DIGEST_AT: usize = 104;
    let place = Place::new();
    place.run("put k v").ok();
    let path = place.path("data/IDENTITY");
    let mut identity = std::fs::read(&path).unwrap();
    identity[7] += 1;
    let key = blake3::derive_key("esker identity v1", b"");
    let digest = *blake3::keyed_hash(&key, &identity[..DIGEST_AT]).as_bytes();
    identity[DIGEST_AT..].copy_from_slice(&digest);
    std::fs::write(&path, &identity).unwrap();
    let before = shell::content_of(&place.path("data"));
    for command in ["get k", "put k w", "scan", "id"] {
        place.run(command).fails(8, "error[FormatUnsupported]: ");
    }
    let after = shell::content_of(&place.path("data"));
    assert!(before == after, "a refused open changed a file");
}

#[test]
#[cfg(unix)]
fn a_directory_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    if is_root() {
        eprintln!("skipped: permission bits do not bind root");
        return;
    }
    let place = Place::new();
    place.run("put k v").ok();
    let data = place.path("data");
    let set =
        |mode| std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
    set(0o000);
    place.run("get k").fails(6, "error[Permission]: ");
    set(0o755);
    assert_eq!(place.run("get k").ok().text(), "v\n");
}

#[cfg(unix)]
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    ids.split_whitespace().nth(1) == Some("0")
}

#[test]
fn keyspaces_of_the_node_itself_are_not_written_by_users() {
    let place = Place::new();
    place.run("put known v").ok();
    let node = shell::Served::start(&place.path("data"));
    let line = br#"{"keyspace":"esker.quarantine","key":"k","value":"v"}"#;
    for command in ["put --keyspace esker.node k v", "delete --keyspace esker.node k"] {
        node.run(command).fails(5, "error[KeyspaceReserved]: ");
    }
    node.run_with("load -", line).fails(5, "error[KeyspaceReserved]: ");
    node.run_with("load --keyspace esker.roster -", b"").fails(5, "error[KeyspaceReserved]: ");
    assert_eq!(node.stop().0, Some(0));
    place.run("put --keyspace esker.node k v").fails(5, "error[KeyspaceReserved]: ");
    place.run_with("load -", line).fails(5, "error[KeyspaceReserved]: ");
    assert_eq!(place.run("keyspaces").ok().text(), "default\t1\t6\n");
}

/// What nodes keep for themselves differs, and is no difference of content.
#[test]
fn the_digest_of_all_leaves_out_what_the_node_keeps_for_itself() {
    let place = Place::new();
    place.run("put known v").ok();
    let digest = place.run("digest").ok().out;
    let db = engine::Db::open(place.path("data"), engine::Options::default()).unwrap();
    let local = engine::replicate::ScopeId::LOCAL;
    let own = db.replication().keyspace(local, "esker.node").unwrap();
    own.put("peer", "state").unwrap();
    db.close().unwrap();
    assert_eq!(place.run("digest").ok().out, digest);
    assert_eq!(place.run("keyspaces").ok().text(), "default\t1\t6\n");
    assert_eq!(place.run("export --all -").ok().text().lines().count(), 1);
    assert_eq!(place.run("get --keyspace esker.node peer").ok().text(), "state\n");
}

#[test]
fn keys_and_values_never_appear_in_errors() {
    let place = Place::new();
    place.run("put known v").ok();
    let secret = "hunter2";
    let ended = place.run(&format!("get {secret}")).fails(3, "NotFound");
    assert!(!ended.err.contains(secret));
    let line = format!("{{\"key\":\"{secret}\",\"{secret}\":\"{secret}\"}}\n");
    let ended = place.run_with("load -", line.as_bytes()).fails(5, "BadLine");
    assert!(!ended.err.contains(secret), "{}", ended.err);
}
