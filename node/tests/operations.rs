//! Single operations, scans and what they print.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, esker};
use std::process::Command;

#[test]
fn what_is_put_is_got_until_it_is_deleted() {
    let place = Place::new();
    place.run("put ada 1815").ok();
    assert_eq!(place.run("get ada").ok().text(), "1815\n");
    place.run("put ada 1816").ok();
    assert_eq!(place.run("get ada").ok().text(), "1816\n");
    place.run("delete ada").ok();
    place.run("get ada").fails(3, "error[NotFound]: ");
    place.run("delete ada").ok();
}

#[test]
fn init_creates_once_and_prints_who_it_is() {
    let place = Place::new();
    let created = place.run("init --output json").ok();
    let identity = &created.json()[0];
    let asked = place.run("id --output json").ok();
    assert_eq!(asked.json()[0], *identity);
    assert!(
        identity["fingerprint"].as_str().unwrap().starts_with(identity["node"].as_str().unwrap())
    );
    place.run("init").fails(4, "error[AlreadyExists]: ");
    assert_eq!(place.run("scan").ok().text(), "");
    place.run("get ada").fails(3, "NotFound");
}

#[test]
fn keyspaces_are_apart() {
    let place = Place::new();
    place.run("put k default-value").ok();
    place.run("put --keyspace users k user-value").ok();
    assert_eq!(place.run("get k").ok().text(), "default-value\n");
    assert_eq!(place.run("get --keyspace users k").ok().text(), "user-value\n");
    place.run("get --keyspace nobody k").fails(3, "error[KeyspaceNotFound]: ");
    place.run("scan --keyspace nobody").fails(3, "error[KeyspaceNotFound]: ");
    assert_eq!(place.run("keyspaces").ok().text(), "default\t1\t14\nusers\t1\t11\n");
    let objects = place.run("keyspaces --output json").ok().json();
    assert_eq!(objects[1]["keyspace"], "users");
    assert_eq!(objects[1]["records"], 1);
}

#[test]
fn a_value_from_standard_input_is_taken_as_it_is() {
    let place = Place::new();
    let value = b"\0\xff line\n\tend\n";
    place.run_with("put blob -", value).ok();
    assert_eq!(place.run("get --raw blob").ok().out, value);
    let object = &place.run("get blob --output json").ok().json()[0];
    assert_eq!(object["key"], "blob");
    assert_eq!(object["value_b64"], "AP8gbGluZQoJZW5kCg==");
    place.run_with("put empty -", b"").ok();
    assert_eq!(place.run("get --raw empty").ok().out, b"");
}

#[test]
fn a_range_is_cut_by_prefix_start_end_limit_and_direction() {
    let place = Place::new();
    place.fill(&[("a", "1"), ("ab", "2"), ("abc", "3"), ("b", "4"), ("ba", "5")]);
    let keys = |line: &str| {
        let line = format!("scan --keys-only {line}");
        place.run(line.trim_end()).ok().text().replace('\n', " ").trim_end().to_owned()
    };
    assert_eq!(keys(""), "a ab abc b ba");
    assert_eq!(keys("--reverse"), "ba b abc ab a");
    assert_eq!(keys("--prefix ab"), "ab abc");
    assert_eq!(keys("--prefix ab --reverse"), "abc ab");
    assert_eq!(keys("--start ab --end ba"), "ab abc b");
    assert_eq!(keys("--start ab --prefix b"), "b ba");
    assert_eq!(keys("--end abc --prefix ab"), "ab");
    assert_eq!(keys("--limit 2"), "a ab");
    assert_eq!(keys("--limit 2 --reverse"), "ba b");
    assert_eq!(keys("--limit 0"), "");
    assert_eq!(keys("--start b --end b"), "");
    assert_eq!(keys("--prefix zebra"), "");
    place.run("scan --start b --end a").fails(5, "error[InvalidInput]: ");
}

#[test]
fn text_is_escaped_so_that_a_line_is_a_record() {
    let place = Place::new();
    let line = r#"{"key_b64":"YQn/","value":"tab\tline\nback\\slash\u0000 käse"}"#;
    place.run_with("load -", line.as_bytes()).ok();
    assert_eq!(place.run("scan").ok().text(), "a\\t\\xff\ttab\\tline\\nback\\\\slash\\x00 käse\n");
}

#[test]
fn json_lines_of_a_scan_load_again() {
    let place = Place::new();
    let line = r#"{"key_b64":"YQn/","value":"tab\tline\n"}"#;
    place.run_with("load -", line.as_bytes()).ok();
    place.fill(&[("plain", "text")]);
    let lines = place.run("scan --output json").ok();
    let copy = Place::new();
    copy.run_with("load -", &lines.out).ok();
    assert_eq!(copy.run("scan --output json").ok().out, lines.out);
    let keys = place.run("scan --output json --keys-only").ok().json();
    assert_eq!(keys[1], serde_json::json!({ "key": "plain" }));
}

#[test]
fn keys_and_values_have_limits_that_are_named() {
    let place = Place::new();
    let data = place.path("data");
    let put = |key: &str, value: &str| {
        esker(["put".as_ref(), "--path".as_ref(), data.as_os_str(), key.as_ref(), value.as_ref()])
    };
    put("", "v").fails(5, "1 to 65535 bytes");
    put(&"k".repeat(65_535), "v").ok();
    put(&"k".repeat(65_536), "v").fails(5, "65536");
    place.run_with("put k -", &vec![7; 32 << 20]).ok();
    place.run_with("put k -", &vec![7; (32 << 20) + 1]).fails(5, "33554432");
    assert_eq!(place.run("get --raw k").ok().out.len(), 32 << 20);
    place.run(&format!("put --keyspace {} k v", "n".repeat(256))).fails(5, "255");
    place.run("get  ").fails(2, "error[Usage]: ");
}

#[test]
fn flushing_and_compacting_change_nothing_that_is_read() {
    let place = Place::new();
    place.fill(&[("a", "1"), ("b", "2"), ("c", "3")]);
    place.run("delete b").ok();
    let before = place.run("digest").ok();
    place.run("flush").ok();
    assert_eq!(place.run("digest").ok().text(), before.text());
    place.run("compact").ok();
    place.run("compact --keyspace default --quiet").ok();
    assert_eq!(place.run("digest").ok().text(), before.text());
    assert_eq!(place.run("scan").ok().text(), "a\t1\nc\t3\n");
}

#[test]
fn equal_content_has_an_equal_digest_whatever_its_history() {
    let (one, other) = (Place::new(), Place::new());
    one.fill(&[("a", "1"), ("b", "2")]);
    other.fill(&[("b", "0"), ("x", "9")]);
    other.run("delete x").ok();
    other.fill(&[("b", "2")]);
    other.run("compact").ok();
    other.run("put a 1").ok();
    let digest = one.run("digest").ok();
    assert_eq!(other.run("digest").ok().text(), digest.text());
    assert_eq!(other.run("digest --keyspace default").ok().text(), digest.text());
    let object = &one.run("digest --output json").ok().json()[0];
    assert_eq!(object["digest"], digest.text().trim_end());
    assert_eq!(object["records"], 2);
    other.run("put --keyspace more a 1").ok();
    assert_ne!(other.run("digest").ok().text(), digest.text());
    assert_eq!(other.run("digest --keyspace default").ok().text(), digest.text());
}

#[test]
fn every_command_helps_with_an_example() {
    let help = esker(["--help"]).ok();
    for command in [
        "init",
        "demo",
        "load",
        "put",
        "get",
        "delete",
        "scan",
        "export",
        "digest",
        "keyspaces",
        "stats",
        "check",
        "compact",
        "flush",
        "bench",
        "dump",
        "id",
        "serve",
        "status",
        "peers",
        "node",
    ] {
        assert!(help.text().contains(command), "{command}");
        let help = esker([command, "--help"]).ok();
        assert!(help.text().contains("Example") && help.text().contains("--output"), "{command}");
    }
    assert!(esker(["--version"]).ok().text().starts_with("esker "));
}

#[test]
fn quiet_says_nothing_but_results() {
    let place = Place::new();
    assert_eq!(place.run("init --quiet").ok().text(), "");
    assert_eq!(place.run_with("load --quiet --format tsv -", b"a\t1\n").ok().text(), "");
    assert_eq!(place.run("get --quiet a").ok().text(), "1\n");
    let ended = place.run("get a").ok();
    assert_eq!(ended.err, "", "no noise on standard error");
}

/// A reader that has seen enough is no error, and no noise.
#[test]
#[cfg(unix)]
fn a_closed_standard_output_ends_it_quietly() {
    let place = Place::new();
    let lines: String =
        (0..50_000).map(|n| format!("key{n}\tvalue of some length {n}\n")).collect();
    place.run_with("load --format tsv -", lines.as_bytes()).ok();
    let data = place.path("data");
    for command in ["scan", "export"] {
        let file = if command == "export" { "-" } else { "" };
        let line = format!(
            "'{}' {command} --path '{}' {file} | head -n 1; echo ${{PIPESTATUS[0]}}",
            shell::ESKER,
            data.display()
        );
        let output = Command::new("bash").arg("-c").arg(line).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(text.lines().last(), Some("0"), "{text}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
