//! The rules of the house, read from the sources themselves.
//!
//! Each rule is a function from a source (or a manifest) to findings, with a small bad sample that
//! shows that it can find something. The tests of this file hold the rules for the workspace.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calls;
mod crates;
mod shape;
mod source;
mod workspace;

use source::Source;
use workspace::Workspace;

/// Something that breaks a rule, as `path:line: what`.
type Finding = String;

#[track_caller]
fn hold(rule: &str, check: impl Fn(&Source) -> Vec<Finding>) {
    let workspace = Workspace::get();
    report(rule, workspace.sources.iter().flat_map(check).collect());
}

#[track_caller]
fn report(rule: &str, findings: Vec<Finding>) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

#[test]
fn the_whole_workspace_is_read() {
    let workspace = Workspace::get();
    for house in crates::HOUSE {
        let folder = format!("{}/", house.folder);
        let is_read = |source: &Source| source.path.starts_with(&folder);
        assert!(workspace.sources.iter().any(is_read), "{folder}");
    }
    assert!(workspace.sources.iter().any(|source| source.is_test));
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let findings = Workspace::get().manifests.iter().flat_map(crates::against_arrows).collect();
    report("a crate depends on one that it must not know", findings);
}

#[test]
fn only_replication_and_node_are_asynchronous() {
    let findings = Workspace::get().manifests.iter().flat_map(crates::async_dependencies).collect();
    report("tokio and quinn live in replication/, node/ and benches/", findings);
    hold("tokio and quinn live in replication/, node/ and benches/", calls::async_runtimes);
}

#[test]
fn every_target_leaves_plain_cargo_bench_alone() {
    let findings = Workspace::get().manifests.iter().flat_map(crates::benched_targets).collect();
    report("libraries and binaries say bench = false", findings);
}

#[test]
fn files_are_short() {
    hold("a file hides a second concept", shape::long_files);
}

#[test]
fn functions_are_short() {
    for source in &Workspace::get().sources {
        shape::red_zone(source).iter().for_each(|function| println!("red zone: {function}"));
    }
    hold("a function hides a second one", shape::long_functions);
}

#[test]
fn every_module_says_what_it_is() {
    hold("a module opens with a //! header", shape::missing_headers);
}

#[test]
fn every_encoder_draws_its_bytes() {
    hold("a file that encodes has a ```text diagram in its header", shape::missing_diagrams);
}

#[test]
fn names_say_something() {
    hold("a name says nothing", shape::empty_names);
}

#[test]
fn files_are_reached_through_the_seam() {
    hold("only base/src/fs/os touches the disk", calls::file_operations);
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    hold("only base/src/clock.rs reads the wall clock", calls::wall_clock);
}

#[test]
fn nothing_panics_on_purpose() {
    hold("outside tests, errors are returned", calls::panics);
}

#[test]
fn panics_are_caught_in_one_place() {
    hold("only base/src/panics.rs catches panics", calls::catches);
}

#[test]
fn unsafe_stays_where_it_is_listed() {
    hold("unsafe outside the listed files", calls::unsafe_code);
    let workspace = Workspace::get();
    let is_used = |listed: &&&str| {
        workspace.sources.iter().any(|source| source.path == **listed && source.has("unsafe"))
    };
    let stale: Vec<_> = calls::UNSAFE_FILES.iter().filter(|listed| !is_used(listed)).collect();
    assert!(stale.is_empty(), "listed, but without unsafe: {stale:?}");
}

#[test]
fn files_are_deleted_in_one_place() {
    hold("only the obsolete files and the sweep of recovery remove files", calls::removals);
}

#[test]
fn no_part_of_the_engine_names_the_whole() {
    hold("only engine/src/db.rs and lib.rs name Db", calls::names_of_the_whole);
}

#[test]
fn no_test_is_ignored() {
    hold("an ignored test tests nothing", calls::ignored_tests);
}

#[test]
fn lines_about_errors_say_their_codes() {
    hold("a line of the log about an error has its code", calls::untold_codes);
}

#[test]
fn every_allowed_lint_has_its_reason() {
    hold("say beside an allowed lint why", calls::unexplained_allows);
}
