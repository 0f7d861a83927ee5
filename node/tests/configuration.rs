//! The configuration of a node: file, environment and command line, and what changes while it runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use rustix::process::Signal;
use shell::{Ended, Place, Served, esker, exchange, start, start_in};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

fn written(place: &Place, text: &str) -> PathBuf {
    let path = place.path("node.toml");
    fs::write(&path, text).unwrap();
    path
}

fn config(what: &str, file: &Path) -> Ended {
    let file = file.to_str().unwrap();
    esker(["config", what, "--config", file, "--output", "json"])
}

fn serve(file: &Path, variables: &[(&str, &str)], options: &[&str]) -> Child {
    let mut line = vec!["serve", "--config", file.to_str().unwrap()];
    line.extend(options);
    start_in(line, variables)
}

#[test]
fn the_file_that_init_prints_changes_nothing_and_passes_the_check() {
    let place = Place::new();
    let file = written(&place, esker(["config", "init"]).ok().text());
    let mistakes = config("check", &file).ok().json();
    assert_eq!(mistakes[0]["mistakes"], serde_json::json!([]));
    let shown = config("show", &file).ok().json();
    let settings = shown[0]["settings"].as_array().unwrap();
    assert!(settings.len() > 40);
    let set: Vec<_> = settings.iter().filter(|one| one["source"] != "default").collect();
    assert!(set.iter().all(|one| one["source"] == "ESKER_LOG_LEVEL"), "{set:?}");
}

#[test]
fn init_writes_a_file_that_is_not_there_and_never_replaces_one() {
    let place = Place::new();
    let file = place.path("new.toml");
    config("init", &file).ok();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.trim_end(), esker(["config", "init"]).ok().text().trim_end());
    fs::write(&file, "path = 'mine'\n").unwrap();
    config("init", &file).fails(4, "AlreadyExists");
    assert_eq!(fs::read_to_string(&file).unwrap(), "path = 'mine'\n");
}

/// `serve` would refuse it, and a supervisor would start it again and again.
#[test]
fn a_file_without_a_token_is_a_mistake_and_no_directory_is_worth_a_note() {
    let place = Place::new();
    let (secret, missing) = (place.path("secret"), place.path("missing"));
    fs::write(&secret, "tooshort\n").unwrap();
    for (path, words) in [(&secret, "at least 16 bytes"), (&missing, "No such file")] {
        let file = written(&place, &format!("[auth]\ntoken_file = {path:?}\n"));
        let checked = config("check", &file).fails(5, "ConfigInvalid").json();
        let mistake = &checked[0]["mistakes"][0];
        assert_eq!(mistake["key"], "auth.token_file");
        assert!(mistake["allowed"].as_str().unwrap().contains(words), "{mistake}");
    }
    fs::write(&secret, "0123456789abcdef\n").unwrap();
    let file = written(&place, &format!("[auth]\ntoken_file = {secret:?}\n"));
    let checked = config("check", &file).ok().json();
    assert!(checked[0]["notes"][0].as_str().unwrap().starts_with("path is not given"));
}

#[test]
fn every_mistake_is_named_at_once_and_nothing_starts() {
    let place = Place::new();
    let data = place.path("data");
    let text = format!(
        "path = {data:?}\nhttp = '0.0.0.0:1'\n[engine]\nsinc = 'async'\n\
                        [log]\nfilter = 'esker=loud'\n"
    );
    let file = written(&place, &text);
    let checked = config("check", &file).fails(5, "ConfigInvalid");
    let mistakes = checked.json()[0]["mistakes"].clone();
    assert_eq!(mistakes.as_array().unwrap().len(), 3, "{mistakes}");
    assert_eq!(mistakes[0]["key"], "engine.sinc");
    assert_eq!(mistakes[1]["key"], "log.filter");
    assert!(mistakes[1]["place"].as_str().unwrap().ends_with("node.toml line 6"), "{mistakes}");
    assert_eq!(mistakes[2]["key"], "http");
    assert_eq!(mistakes[2]["value"], "\"0.0.0.0:1\"");
    let mut child = serve(&file, &[("ESKER_ROLE", "king")], &["--listen", "here"]);
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    for word in ["5 mistakes", "line 2", "engine.sinc", "ESKER_ROLE", "--listen"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!data.exists());
}

#[test]
fn the_command_line_is_over_the_environment_and_that_over_the_file() {
    let place = Place::new();
    let (one, two, three) = (place.path("one"), place.path("two"), place.path("three"));
    let file = written(&place, &format!("path = {one:?}\nhttp = '127.0.0.1:0'\n"));
    let two_text = two.to_str().unwrap();
    let node = Served::of(serve(&file, &[("ESKER_PATH", two_text)], &[]));
    assert!(two.exists() && !one.exists());
    assert_eq!(node.stop().0, Some(0));
    let path = ["--path", three.to_str().unwrap()];
    let node = Served::of(serve(&file, &[("ESKER_PATH", two_text)], &path));
    assert!(three.exists() && !one.exists());
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn a_profile_of_timeouts_changes_while_the_node_runs() {
    let place = Place::new();
    let data = place.path("data");
    let text = |profile: &str| {
        let of_checks = if profile == "test" { "health_check_ms = 70\n" } else { "" };
        format!(
            "path = {data:?}\nhttp = '127.0.0.1:0'\n[timeouts]\nprofile = {profile:?}\n{of_checks}"
        )
    };
    let file = written(&place, &text("default"));
    let node = Served::of(without_level(&file));
    fs::write(&file, text("test")).unwrap();
    let reloaded = node.ask("POST", "/v1/reload", &[], "").is(200, "").json();
    assert_eq!(reloaded["waiting"], serde_json::json!([]), "what waits has not changed yet");
    let timeouts = node.ask("GET", "/v1/timeouts", &[], "").json();
    assert_eq!((&timeouts["drain"], &timeouts["health_check"]), (&2000.into(), &70.into()));
}

#[test]
fn sighup_changes_what_can_change_and_says_what_can_not() {
    let place = Place::new();
    let (data, log) = (place.path("data"), place.path("node.log"));
    let text = |level: &str, memory: &str| {
        format!(
            "path = {data:?}\nhttp = '127.0.0.1:0'\n[log]\nlevel = {level:?}\nfile = {log:?}\n\
             format = 'json'\n[engine]\nmemory_bytes = {memory:?}\n"
        )
    };
    let file = written(&place, &text("error", "256 MiB"));
    let node = Served::of(without_level(&file));
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
    fs::write(&file, text("info", "512 MiB")).unwrap();
    node.signal(Signal::HUP);
    let lines = until(&log, "when the node starts again");
    assert!(lines.contains("\"key\":\"engine.memory_bytes\""), "{lines}");
    fs::write(&file, "path = \n").unwrap();
    node.signal(Signal::HUP);
    until(&log, "the configuration stays as it is");
    let answer = exchange(
        &node.http,
        b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(node.stop().0, Some(0));
}

/// A node whose level only the file says.
fn without_level(file: &Path) -> Child {
    start_in(["serve", "--config", file.to_str().unwrap()], &[("ESKER_LOG_LEVEL", "")])
}

/// What is in the file at `path`, once `words` are.
fn until(path: &Path, words: &str) -> String {
    for _ in 0..600 {
        let text = fs::read_to_string(path).unwrap();
        if text.contains(words) {
            return text;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    unreachable!("{words} never came: {}", fs::read_to_string(path).unwrap());
}

#[test]
fn a_log_is_lines_of_json_without_keys_and_the_audit_is_apart() {
    let place = Place::new();
    let (data, log, audit) = (place.path("data"), place.path("node.log"), place.path("audit.log"));
    let text = format!(
        "path = {data:?}\nhttp = '127.0.0.1:0'\n[log]\nlevel = 'trace'\nfile = {log:?}\nformat = 'json'\n\
         audit_file = {audit:?}\n"
    );
    let file = written(&place, &text);
    let node = Served::of(without_level(&file));
    node.run("put the-secret-key the-secret-value").ok();
    node.run("get the-secret-key").ok();
    esker(["peers", "invite", "--url", &node.url()]).ok();
    let peer = "000102030405060708090a0b0c0d0eff@127.0.0.1:9";
    esker(["peers", "add", "--url", &node.url(), peer]).ok();
    assert_eq!(node.stop().0, Some(0));
    let text = fs::read_to_string(&log).unwrap();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in ["timestamp", "level", "target", "component", "fields"] {
            assert!(!line[field].is_null(), "{field} in {line}");
        }
    }
    assert!(text.contains("\"message\":\"serving\""), "{text}");
    assert!(!text.contains("secret"), "a key or a value is in the log");
    let text = fs::read_to_string(&audit).unwrap();
    let operations: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named: Vec<_> = operations.iter().map(|one| one["fields"]["operation"].as_str()).collect();
    assert_eq!(named, [Some("/v1/invitations"), Some("/v1/peers")]);
    assert!(operations.iter().all(|one| one["fields"]["status"] == 200));
}

#[test]
fn a_directory_is_needed_from_somewhere() {
    let mut child = start(["serve"]);
    assert_eq!(child.wait().unwrap().code(), Some(2));
}
