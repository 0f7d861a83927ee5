//! Check, dump, stats: looking at a database without trusting it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{ESKER, Place, content_of, esker};
use std::path::PathBuf;
use std::process::Command;

/// A closed database with tables and a log.
fn filled() -> Place {
    let place = Place::new();
    let lines: String = (0..3000).map(|n| format!("key{n:05}\tvalue {n}\n")).collect();
    place.run_with("load --format tsv -", lines.as_bytes()).ok();
    place.run("flush").ok();
    place.run("put last one").ok();
    place
}

/// The files below `folder` of the database, newest last.
fn files(place: &Place, folder: &str) -> Vec<PathBuf> {
    content_of(&place.path("data").join(folder)).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn a_whole_database_has_no_findings_and_is_not_changed() {
    let place = filled();
    let before = content_of(&place.path("data"));
    for level in ["quick", "full", "paranoid"] {
        let ended = place.run(&format!("check --level {level}")).ok();
        assert!(ended.text().contains("0 damaged, 0 warnings"), "{}", ended.text());
    }
    let summary = place.run("check --output json").ok().json();
    assert_eq!(summary.last().unwrap()["damage"], 0);
    assert!(before == content_of(&place.path("data")), "a check changed a byte");
}

/// What the next open tidies up is told, and is not wrong: scripts that check go on.
#[test]
fn a_note_is_no_finding() {
    let place = filled();
    let number = files(&place, "tables").len() + 1000;
    let leftover = place.path(&format!("data/tables/{number:020}.sst"));
    std::fs::write(&leftover, "").unwrap();
    let ended = place.run("check").ok();
    let note = ended.text().lines().next().unwrap();
    assert!(note.starts_with(&format!("note[Leftover]: {}: ", leftover.display())), "{note}");
    assert!(ended.text().ends_with("0 damaged, 0 warnings, 1 notes\n"), "{}", ended.text());
    let lines = place.run("check --output json").ok().json();
    assert_eq!((&lines[0]["severity"], &lines[1]["notes"]), (&"note".into(), &1.into()));
}

#[test]
fn a_flipped_bit_in_a_table_is_found_and_named() {
    let place = filled();
    let table = files(&place, "tables").pop().unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    let ended = place.run("check --level paranoid").fails(10, "error[Integrity]: ");
    assert!(ended.text().contains("damage[TableCorrupt]: "), "{}", ended.text());
    assert!(ended.text().contains(table.to_str().unwrap()), "{}", ended.text());
    let ended = place.run("check --level paranoid --output json").fails(10, "Integrity");
    let finding = &ended.json()[0];
    assert_eq!(finding["severity"], "damage");
    assert_eq!(finding["code"], "TableCorrupt");
    let ended = place.run("scan").fails(8, "error[TableCorrupt]: ");
    assert!(ended.err.contains(" at byte "), "{}", ended.err);
}

#[test]
fn a_missing_table_refuses_to_open_and_says_which() {
    let place = filled();
    let table = files(&place, "tables").pop().unwrap();
    std::fs::remove_file(&table).unwrap();
    let ended = place.run("get last").fails(8, "error[TableMissing]: ");
    assert!(ended.err.contains(table.to_str().unwrap()) && ended.err.contains("repair"));
    place.run("check --level quick").fails(10, "Integrity");
}

#[test]
fn a_damaged_root_is_found_and_its_copy_opens() {
    let place = filled();
    let root = place.path("data/CURRENT");
    let mut bytes = std::fs::read(&root).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&root, bytes).unwrap();
    let ended = place.run("check").fails(10, "error[Integrity]: ");
    assert!(ended.text().contains("warning[RootCorrupt]: "), "{}", ended.text());
    assert_eq!(place.run("get last").ok().text(), "one\n");
    place.run("check").ok();
}

#[test]
fn every_kind_of_file_is_dumped_to_its_end() {
    let place = filled();
    for (kind, folder) in [("wal", "wal"), ("manifest", "manifest"), ("table", "tables")] {
        let file = files(&place, folder).pop().unwrap();
        let ended = esker(["dump", kind, file.to_str().unwrap()]).ok();
        let last = ended.text().lines().last().unwrap().to_owned();
        assert!(last.starts_with("ends at byte "), "{kind}: {last}");
        let ended = esker(["dump", kind, file.to_str().unwrap(), "--output", "json"]).ok();
        assert_eq!(ended.json().last().unwrap()["line"], last);
    }
    let dump = |table: &PathBuf| esker(["dump", "table", table.to_str().unwrap()]).ok();
    let tables = files(&place, "tables");
    let all: String = tables.iter().map(|table| dump(table).text().to_owned()).collect();
    assert!(all.contains("key02999") && all.contains("last"), "the entries are there");
}

#[test]
fn a_damaged_file_is_dumped_up_to_where_it_stops() {
    let place = filled();
    let table = files(&place, "tables").pop().unwrap();
    let bytes = std::fs::read(&table).unwrap();
    let copy = place.path("copy.bin");
    for len in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&copy, &bytes[..len]).unwrap();
        for kind in ["table", "wal", "manifest"] {
            let ended = esker(["dump", kind, copy.to_str().unwrap()]).fails(10, "Integrity");
            assert!(ended.text().lines().last().unwrap().starts_with("stops at byte "), "{kind}");
        }
    }
}

#[test]
fn stats_tell_what_the_database_holds() {
    let place = filled();
    let stats = &place.run("stats --output json").ok().json()[0];
    assert!(stats["table_bytes"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["disk_bytes"].as_u64() >= stats["table_bytes"].as_u64(), "{stats}");
    assert_eq!(stats["keyspaces"], 1);
    assert!(!stats["runs"].as_array().unwrap().is_empty(), "{stats}");
    let text = place.run("stats").ok();
    assert!(text.text().contains("table_bytes: ") && text.text().contains("run: level "));
}

/// Bytes of the keys and values of `records`.
fn raw_len(records: &[(String, String)]) -> usize {
    records.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Of a closed database everything is known that does not come from a process that writes.
#[test]
fn stats_tell_how_much_space_goes_to_what_and_nothing_that_was_not_done() {
    let place = Place::new();
    let records = |many: usize, len: usize| -> Vec<(String, String)> {
        (0..many).map(|n| (format!("key-{n}"), format!("{n:0len$}"))).collect()
    };
    let load = |keyspace: &str, records: &[(String, String)]| {
        let lines: String =
            records.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect();
        let line = format!("load --format tsv --keyspace {keyspace} -");
        place.run_with(&line, lines.as_bytes()).ok();
    };
    let stats = || place.run("stats --output json").ok().json().remove(0);
    let (few, many) = (records(10, 20), records(500, 100));
    load("few", &few);
    load("many", &many);
    place.run("compact").ok();
    let compact = stats();
    let by_keyspace = compact["by_keyspace"].as_array().unwrap();
    let told: Vec<_> = by_keyspace
        .iter()
        .map(|of| (of["keyspace"].as_str(), of["entries"].as_u64(), of["raw_bytes"].as_u64()))
        .collect();
    let of = |name, records: &[(String, String)]| {
        (Some(name), Some(records.len() as u64), Some(raw_len(records) as u64))
    };
    assert_eq!(told, [of("many", &many), of("few", &few)], "the largest first");
    let number = |stats: &serde_json::Value, name: &str| stats[name].as_f64().unwrap();
    let files = std::fs::read_dir(place.path("data/tables")).unwrap();
    let files: u64 = files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    // The node itself has a few records as well.
    let live = number(&compact, "live_bytes");
    let written = (raw_len(&few) + raw_len(&many)) as f64;
    assert!((written..written + 1000.0).contains(&live), "{compact}");
    // JSON is not read to the last bit.
    let off = number(&compact, "space_amplification") - files as f64 / live;
    assert!(off.abs() < 1e-9, "{compact} of {files}");
    assert!(number(&compact, "raw_bytes") >= live);

    // Another version of each: as many live bytes, and more of others.
    load("many", &many);
    let again = stats();
    assert!(number(&again, "raw_bytes") > live + 0.9 * raw_len(&many) as f64);
    assert!((0.6..1.4).contains(&(number(&again, "live_bytes") / live)), "{again}");
    assert!(number(&again, "space_amplification") > 1.5 * number(&compact, "space_amplification"));
    assert_eq!(again["read_amplification_max"], again["runs"].as_array().unwrap().len());

    let text = place.run("stats").ok();
    let of_few = format!("keyspace: few, 10 entries, {} raw bytes, ", raw_len(&few));
    assert!(text.text().contains(&of_few), "{}", text.text());
    let unknown = "read_amplification: unknown, nothing was read since the open\n";
    assert!(text.text().contains(unknown), "{}", text.text());
}

/// What the command `line` writes to standard error, which is a terminal.
fn on_a_terminal(place: &Place, line: &str) -> String {
    let (folder, typescript) = (place.path("data"), place.path("typescript"));
    let command = format!("'{ESKER}' {line} --path '{}' >/dev/null", folder.display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command]).env("TERM", "xterm");
    let status = script.arg(&typescript).stdout(std::process::Stdio::null()).status().unwrap();
    let text = String::from_utf8_lossy(&std::fs::read(&typescript).unwrap()).into_owned();
    assert!(status.success(), "{line}: {text}");
    // Its first and its last line say when.
    let lines: Vec<&str> = text.lines().collect();
    lines[1..lines.len() - 1].join("\n")
}

/// Progress of long work is for a person who watches: nobody else sees it.
#[test]
fn long_work_shows_its_progress_on_a_terminal_only() {
    let place = filled();
    for (line, shown) in [
        ("check", "checking"),
        ("repair", "repairing"),
        ("flush", "opening"),
        ("flush", "flushing"),
        ("compact", "opening"),
        ("compact", "compacting"),
    ] {
        let text = on_a_terminal(&place, line);
        assert!(text.contains(shown), "{line}: {text:?}");
        assert_eq!(on_a_terminal(&place, &format!("{line} --quiet")).trim(), "", "{line}");
        assert_eq!(on_a_terminal(&place, &format!("{line} --output json")).trim(), "", "{line}");
        assert_eq!(place.run(line).ok().err, "", "{line}");
    }
}
