//! Rules about what code may call, and where.

use super::Finding;
use super::crates::{ASYNC, ASYNC_FOLDERS};
use super::source::{Source, closing, lines_of};

/// The files that may hold `unsafe`, each with a proof beside every block.
pub(crate) const UNSAFE_FILES: &[&str] = &[
    "base/src/fs/os/map.rs",
    "benches/src/peers/lmdb.rs",
    "engine/src/memtable.rs",
    "engine/src/memtable/arena.rs",
    "engine/src/memtable/fingers.rs",
    "engine/src/memtable/list.rs",
];

/// The files that may touch the disk: the seam's implementation, and the node's door to files that
/// users name.
const FILE_FILES: [&str; 2] = ["base/src/fs/os", "node/src/files"];
/// Ways to the disk that bypass the seam.
const FILE_CALLS: [&str; 10] = [
    "std :: fs",
    "tokio :: fs",
    "rustix :: fs",
    "File :: open",
    "File :: create",
    "File :: options",
    "OpenOptions :: new",
    ". exists ( )",
    ". canonicalize ( )",
    ". read_dir ( )",
];

/// The only file that reads the wall clock.
const CLOCK_FILE: &str = "base/src/clock.rs";
const CLOCK_CALLS: [&str; 3] = ["SystemTime", "clock_gettime", "UNIX_EPOCH"];

/// Other types may have a method `expect`; that of results is given a message.
const PANICS: [&str; 8] = [
    ". unwrap ( )",
    ". expect ( \"",
    ". expect ( &",
    "panic !",
    "todo !",
    "unimplemented !",
    "dbg !",
    "unwrap_unchecked",
];

/// The only file that catches panics, so that a panic hook knows.
const CATCH_FILE: &str = "base/src/panics.rs";

/// The files that may remove files of a database: the one place for files that were current, and
/// those that clear away what they or a process before them left half made.
const REMOVAL_FILES: &[&str] = &[
    "base/src/fs",
    "engine/src/obsolete.rs",
    "recovery/src/archive.rs",
    "recovery/src/attempt.rs",
    "recovery/src/backup/clear.rs",
    "recovery/src/backup/courier.rs",
    "recovery/src/birth.rs",
    "recovery/src/identity.rs",
    "recovery/src/sweep.rs",
    "sstable/src/manifest/log.rs",
    "sstable/src/manifest/root.rs",
];
const REMOVALS: [&str; 5] =
    ["fs . remove (", "fs ( ) . remove (", "Fs :: remove", "remove_file", "remove_dir_all"];

/// What makes lines of the log.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The only files of the engine that know the database as a whole.
const WHOLE_FILES: [&str; 2] = ["engine/src/db", "engine/src/lib"];

fn find(source: &Source, patterns: &[&str]) -> Vec<Finding> {
    let lines = |pattern: &&str| {
        let found = format!("`{}`", pattern.replace(' ', ""));
        let lines = lines_of(&source.product, pattern).into_iter();
        lines.map(|line| format!("{}:{line}: {found}", source.path)).collect::<Vec<_>>()
    };
    patterns.iter().flat_map(lines).collect()
}

fn is_in(source: &Source, files: &[&str]) -> bool {
    files.iter().any(|file| {
        let rest = source.path.strip_prefix(file);
        rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
    })
}

/// File operations outside the seam.
pub(crate) fn file_operations(source: &Source) -> Vec<Finding> {
    if is_in(source, &FILE_FILES) {
        return Vec::new();
    }
    let mut findings = find(source, &FILE_CALLS);
    // use std::{fs, ..}
    for (at, window) in source.product.windows(3).enumerate() {
        if window.iter().map(|token| token.text.as_str()).eq(["std", "::", "{"]) {
            let group = &source.product[at + 3..closing(&source.product, at + 2)];
            let uses = group.iter().filter(|token| token.text == "fs");
            findings.extend(uses.map(|token| format!("{}:{}: `std::fs`", source.path, token.line)));
        }
    }
    findings
}

/// Readings of the wall clock outside its seam.
pub(crate) fn wall_clock(source: &Source) -> Vec<Finding> {
    if source.path == CLOCK_FILE { Vec::new() } else { find(source, &CLOCK_CALLS) }
}

/// Async packages where there is no async, tests included.
pub(crate) fn async_runtimes(source: &Source) -> Vec<Finding> {
    if ASYNC_FOLDERS.iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    let is_async = |text: &String| ASYNC.contains(&text.as_str());
    let tokens = source.all.iter().filter(|token| is_async(&token.text));
    tokens.map(|token| format!("{}:{}: {}", source.path, token.line, token.text)).collect()
}

/// Panics that are written down.
pub(crate) fn panics(source: &Source) -> Vec<Finding> {
    find(source, &PANICS)
}

/// Panics that are caught without the hook's knowledge.
pub(crate) fn catches(source: &Source) -> Vec<Finding> {
    if source.path == CATCH_FILE { Vec::new() } else { find(source, &["catch_unwind"]) }
}

/// `unsafe` in files that are not listed, tests included.
pub(crate) fn unsafe_code(source: &Source) -> Vec<Finding> {
    if UNSAFE_FILES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let lines = lines_of(&source.all, "unsafe").into_iter();
    lines.map(|line| format!("{}:{line}: `unsafe`", source.path)).collect()
}

/// Files removed elsewhere than in the one place.
pub(crate) fn removals(source: &Source) -> Vec<Finding> {
    let may_remove = is_in(source, REMOVAL_FILES) || is_in(source, &FILE_FILES);
    if may_remove { Vec::new() } else { find(source, &REMOVALS) }
}

/// The whole database named by one of its parts: each takes only what it needs.
pub(crate) fn names_of_the_whole(source: &Source) -> Vec<Finding> {
    let is_part = source.path.starts_with("engine/src/") && !is_in(source, &WHOLE_FILES);
    if is_part { find(source, &["Db"]) } else { Vec::new() }
}

/// Tests that do not run, except the long profiles of campaigns, which say so and are run by their
/// name.
pub(crate) fn ignored_tests(source: &Source) -> Vec<Finding> {
    let text: Vec<&str> = source.text.lines().collect();
    let is_long_profile = |line: &usize| {
        let around = text.get(line - 1..text.len().min(line + 3)).unwrap_or_default().concat();
        let name = around.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
        around.contains("#[ignore = \"the long profile\"]")
            && name.is_some_and(|(name, _)| name.contains("campaign"))
    };
    let lines = lines_of(&source.all, "# [ ignore").into_iter();
    let lines = lines.filter(|line| !is_long_profile(line));
    lines.map(|line| format!("{}:{line}: ignored", source.path)).collect()
}

/// Lines of the log about errors that do not say their code.
pub(crate) fn untold_codes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, window) in source.product.windows(5).enumerate() {
        let [name, colons, level, exclamation, _] = window else { continue };
        let is_line = name.text == "tracing" && colons.text == "::" && exclamation.text == "!";
        if !is_line || !LEVELS.contains(&level.text.as_str()) {
            continue;
        }
        let line = &source.product[at + 4..closing(&source.product, at + 4)];
        let has = |names: &[&str]| line.iter().any(|token| names.contains(&token.text.as_str()));
        if has(&["error", "failure", "found"]) && !has(&["code"]) {
            findings.push(format!("{}:{}: no code", source.path, name.line));
        }
    }
    findings
}

/// Lints that are switched off without a word: neither a reason in the attribute nor a comment
/// beside it or above it.
pub(crate) fn unexplained_allows(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let is_comment = |line: &str| line.trim_start().starts_with("// ");
    let mut findings = Vec::new();
    for (at, window) in source.all.windows(2).enumerate() {
        let [bracket, name] = window else { continue };
        let is_switch = bracket.text == "[" && matches!(name.text.as_str(), "allow" | "expect");
        let is_attribute = at > 0 && matches!(source.all[at - 1].text.as_str(), "#" | "!");
        if !is_switch || !is_attribute {
            continue;
        }
        let attribute = &source.all[at..closing(&source.all, at)];
        let has_reason = attribute.iter().any(|token| token.text == "reason");
        let is_beside = lines[name.line - 1].contains("// ");
        let is_above = name.line > 1 && is_comment(lines[name.line - 2]);
        if !(has_reason || is_beside || is_above) {
            findings.push(format!("{}:{}: no reason", source.path, name.line));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That `rule` finds `bad` in an ordinary file, and nothing in the file where it is allowed.
    #[track_caller]
    fn assert_finds(rule: fn(&Source) -> Vec<Finding>, bad: &str, allowed: &str) {
        assert_eq!(rule(&Source::parse("engine/src/sample.rs", bad)).len(), 1, "{bad}");
        assert_eq!(rule(&Source::parse(allowed, bad)), [""; 0], "{bad}");
    }

    #[test]
    fn a_file_operation_is_found() {
        let bad = [
            "use std::fs;",
            "use std::{collections::HashMap, fs, io};",
            "fn f() { let file = File::open(path)?; }",
            "fn f() { std :: fs :: read(path); }",
            "fn f() -> bool { assert!(path.exists()) }",
        ];
        for bad in bad {
            assert_finds(file_operations, bad, "base/src/fs/os/append.rs");
            assert_finds(file_operations, bad, "base/src/fs/os.rs");
            assert_finds(file_operations, bad, "node/src/files.rs");
            assert_finds(file_operations, bad, "engine/tests/sample.rs");
        }
        let seam = Source::parse("engine/src/a.rs", "use base::fs::Fs; // std::fs\n");
        assert_eq!(file_operations(&seam), [""; 0]);
    }

    #[test]
    fn a_look_at_the_wall_clock_is_found() {
        assert_finds(wall_clock, "fn f() { SystemTime::now(); }", CLOCK_FILE);
        assert_finds(wall_clock, "use rustix::time::clock_gettime;", CLOCK_FILE);
    }

    #[test]
    fn an_async_runtime_is_found() {
        assert_finds(async_runtimes, "fn f() { tokio::spawn(g); }", "node/src/a.rs");
        assert_finds(
            async_runtimes,
            "#[cfg(test)] mod t { use quinn::A; }",
            "replication/src/a.rs",
        );
    }

    #[test]
    fn a_panic_is_found() {
        let bad = [
            "fn f() { g().unwrap(); }",
            "fn f() { assert!(g()\n.expect(\"no\")); }",
            "fn f() { panic!(\"no\") }",
            "fn f() { todo!() }",
            "fn f() { dbg!(1); }",
            "fn f() { unimplemented!() }",
        ];
        bad.iter().for_each(|bad| assert_finds(panics, bad, "engine/tests/a.rs"));
        let good = "// .unwrap()\nfn f() { g(\"panic!\"); h.unwrap_or(1); progress.expect(0); }";
        assert_eq!(panics(&Source::parse("engine/src/a.rs", good)), [""; 0]);
    }

    #[test]
    fn a_panic_that_is_caught_behind_the_hook_is_found() {
        assert_finds(catches, "fn f() { std::panic::catch_unwind(g); }", CATCH_FILE);
    }

    #[test]
    fn unsafe_is_found() {
        assert_finds(unsafe_code, "fn f() { unsafe { g() } }", UNSAFE_FILES[0]);
        assert_finds(unsafe_code, "unsafe impl Send for A {}", UNSAFE_FILES[0]);
    }

    #[test]
    fn a_removal_is_found() {
        assert_finds(removals, "fn f() { self.fs.remove(path)?; }", "engine/src/obsolete.rs");
        assert_finds(removals, "fn f() { self.fs().remove(path)?; }", "recovery/src/sweep.rs");
        let map = Source::parse("engine/src/a.rs", "fn f() { self.tables.remove(&id); }");
        assert_eq!(removals(&map), [""; 0]);
    }

    #[test]
    fn a_part_that_names_the_whole_is_found() {
        assert_finds(names_of_the_whole, "fn flush(db: &Db) {}", "engine/src/db.rs");
        assert_finds(names_of_the_whole, "fn flush(db: &Db) {}", "node/src/a.rs");
        let docs = Source::parse("engine/src/flush.rs", "/// See `Db`.\nfn flush() {}");
        assert_eq!(names_of_the_whole(&docs), [""; 0]);
    }

    #[test]
    fn an_ignored_test_is_found() {
        let bad = "#[test]\n#[ignore = \"slow\"]\nfn f() {}";
        assert_eq!(ignored_tests(&Source::parse("engine/tests/a.rs", bad)).len(), 1);
        let long = "#[test]\n#[ignore = \"the long profile\"]\nfn campaign_long() {}";
        assert_eq!(ignored_tests(&Source::parse("engine/tests/a.rs", long)), [""; 0]);
        let other = "#[test]\n#[ignore = \"the long profile\"]\nfn other() {}";
        assert_eq!(ignored_tests(&Source::parse("engine/tests/a.rs", other)).len(), 1);
    }

    #[test]
    fn a_line_without_the_code_of_its_error_is_found() {
        let find = |text| untold_codes(&Source::parse("engine/src/a.rs", text)).len();
        let bad =
            ["%error, \"no\"", "error = %e.1, \"no\"", "%found, \"{}\", g()", "failure, \"code\""];
        bad.iter().for_each(|bad| {
            assert_finds(
                untold_codes,
                &format!("fn f() {{ tracing::warn!({bad}); }}"),
                "engine/tests/a.rs",
            );
        });
        assert_eq!(
            find("fn f() { tracing::warn!(code = error.code(), %error, \"no\"); error(); }"),
            0
        );
        assert_eq!(find("fn f() { tracing::error!(\"an error\"); other::warn!(error); }"), 0);
    }

    #[test]
    fn an_allowed_lint_without_a_reason_is_found() {
        let find = |text| unexplained_allows(&Source::parse("engine/src/a.rs", text)).len();
        assert_eq!(find("#[allow(dead_code)]\nfn f() {}"), 1);
        assert_eq!(find("#![expect(dead_code)]\n"), 1);
        assert_eq!(find("#[allow(dead_code, reason = \"later\")]\nfn f() {}"), 0);
        assert_eq!(find("// The trait wants it.\n#[allow(dead_code)]\nfn f() {}"), 0);
        assert_eq!(find("#[allow(dead_code)] // The trait wants it.\nfn f() {}"), 0);
        assert_eq!(find("fn f() { [allow, b]; }"), 0);
    }
}
