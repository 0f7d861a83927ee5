//! A group that goes back in time with one of its nodes, as processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, until, until_equal, until_met};
use shell::{Ended, Place, Served, esker};

fn words(place: &Place, line: &str) -> Ended {
    let all = line.split(' ').map(|word| match word.strip_prefix('@') {
        Some(name) => place.path(name).into_os_string(),
        None => word.into(),
    });
    esker(all)
}

fn stop(node: Served) {
    assert_eq!(node.stop(), (Some(0), String::new()));
}

fn load(node: &Served, keyspace: &str, keys: std::ops::Range<u32>, value: &str) {
    let lines: String = keys.map(|n| format!("key {n:05}\t{value} {n}\n")).collect();
    let line = format!("load --format tsv --keyspace {keyspace} -");
    node.run_with(&line, lines.as_bytes()).ok();
}

fn digest(place: &Place, name: &str) -> String {
    words(place, &format!("digest --path @{name}")).ok().text().to_owned()
}

fn digest_of(node: &Served) -> String {
    node.run("digest").ok().text().to_owned()
}

/// All nodes have what the backup has, and what was written after it came back; and go on.
#[test]
fn three_nodes_go_back_in_time_with_the_one_that_is_restored() {
    let place = Place::new();
    let homes = ["a", "b", "c"].map(|name| Home::new(&place, name));
    let [a, b, c] = &homes;
    let (one, two, three) = (a.start(&[b, c]), b.start(&[a, c]), c.start(&[a, b]));
    until_met(&one, &[b, c]);
    until_met(&three, &[a, b]);
    load(&one, "default", 0..3000, "first");
    load(&two, "more", 0..100, "first");
    until_equal("all have what was first", &[&one, &two, &three]);
    until("all keyspaces are there", || three.run("keyspaces").text().contains("more"));
    stop(three);
    words(&place, "backup create --path @c --to @store").ok();
    let backup = digest(&place, "c");

    let three = c.start(&[a, b]);
    load(&one, "default", 1000..4000, "second");
    load(&two, "more", 50..200, "second");
    for n in (0..200).step_by(10) {
        esker(["delete", "--url", &one.url(), &format!("key {n:05}")]).ok();
    }
    until_equal("all have what was second", &[&one, &two, &three]);
    assert_ne!(digest_of(&one), backup);
    stop(three);
    load(&two, "default", 4000..4500, "while it is away");
    std::fs::rename(&c.path, place.path("before")).unwrap();

    // Alone it would get all of that back.
    let restored = words(&place, "restore --from @store --path @c --as-new-writes --output json");
    let said = restored.ok().json().remove(0);
    let written = &said["new_writes"];
    assert_eq!(written["entries"], 3100, "{said}");
    assert_eq!((&written["keyspaces"], &written["commits"]), (&2.into(), &1.into()));
    assert!(!place.path("c.anew").exists());
    assert_eq!(digest(&place, "c"), backup);
    words(&place, "check --path @c --level paranoid").ok();

    let three = c.start(&[a, b]);
    until("a has gone back", || digest_of(&one) == backup);
    until("b has gone back", || digest_of(&two) == backup);
    until("c takes writes", || three.run("put later 1").code == Some(0));
    one.run("put later-still 2").ok();
    until_equal("all agree", &[&one, &two, &three]);
    assert_eq!(two.run("get later").ok().text(), "1\n");
    assert_eq!(three.run("get later-still").ok().text(), "2\n");
    stop(three);
    stop(one);
    stop(two);
    for name in ["a", "b", "c"] {
        words(&place, &format!("check --path @{name} --level paranoid")).ok();
    }
}

#[test]
fn a_reader_restores_no_new_writes_and_a_plain_restore_makes_none() {
    let place = Place::new();
    let [a, r] = ["a", "r"].map(|name| Home::new(&place, name));
    let (writer, reader) = (a.start(&[&r]), r.start_with(&[&a], &["--role", "replica"]));
    writer.run("put k 1").ok();
    until("the reader has it", || reader.run("get k").code == Some(0));
    until("its directory says that it only reads", || {
        reader.run("scan --keyspace esker.roster --keys-only").text().lines().count() >= 4
    });
    stop(reader);
    stop(writer);
    words(&place, "backup create --path @r --to @of-reader").ok();
    words(&place, "backup create --path @a --to @of-writer").ok();
    words(&place, "restore --from @of-reader --path @new --as-new-writes")
        .fails(5, "error[InvalidInput]: ");
    words(&place, "restore --from @of-writer --path @a --as-new-writes").fails(4, "AlreadyExists");
    assert!(!place.path("new").exists() && !place.path("new.anew").exists());
    let plain = words(&place, "restore --from @of-reader --path @plain --output json").ok().json();
    assert!(plain[0].get("new_writes").is_none());
    let anew = words(&place, "restore --from @of-writer --path @new --as-new-writes").ok();
    assert!(anew.text().contains("1 entries of 1 keyspaces are new writes"), "{}", anew.text());
}
