//! The demonstration and the benchmark run, check themselves, and clean up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use rustix::process::{Pid, Signal, kill_process};
use shell::{Place, esker};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_demonstration_holds_and_what_it_keeps_can_be_read() {
    let place = Place::new();
    let kept = place.path("kept");
    let kept = kept.to_str().unwrap();
    let ended = esker(["demo", "--keep", kept, "--output", "json"]).ok();
    let lines = ended.json();
    let (summary, steps) = lines.split_last().unwrap();
    assert_eq!(summary["failed"], 0);
    assert!(summary["checks"].as_u64().unwrap() > 100_000, "{summary}");
    for (number, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], number + 1);
        assert!(step["checks"].as_u64().unwrap() > 0, "{step}");
    }
    let measured = |name: &str| {
        let found = steps.iter().find_map(|step| step["measured"][name].as_f64());
        assert!(found.is_some_and(|number| number > 0.0), "{name}");
    };
    ["ops_per_second", "lag_p50_ms", "lag_p99_ms", "wire_bytes_per_op"]
        .into_iter()
        .for_each(measured);
    ["heal_ms", "catch_up_mb_per_second", "come_back_ms"].into_iter().for_each(measured);
    let digest = |name: &str| esker(["digest", "--path", &format!("{kept}/{name}")]).ok().out;
    assert_eq!(digest("a"), digest("b"));
    assert_eq!(digest("a"), digest("c"));
    let main = format!("{kept}/main");
    let got = esker(["get", "--path", &main, "--keyspace", "characters", "U+01F9C0"]).ok();
    assert!(got.text().contains("CHEESE WEDGE") || got.text().contains("overwritten"));
    esker(["demo", "--keep", kept]).fails(4, "error[AlreadyExists]: ");
}

#[test]
fn the_demonstration_leaves_nothing_behind() {
    let place = Place::new();
    let output =
        Command::new(shell::ESKER).arg("demo").env("TMPDIR", place.path("")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with(" 1. load: 34924 characters"), "{text}");
    assert_eq!(processes_in(&place.path("")), [""; 0]);
    assert!(text.trim_end().lines().last().unwrap().contains("checks, 0 failed"), "{text}");
    assert!(shell::content_of(&place.path("")).is_empty(), "something was left");
}

/// A demonstration under way, in a place of its own.
struct Demo {
    place: Place,
    child: Child,
}

impl Demo {
    /// Starts one, and waits until its three nodes run. Returns what it said of them, too.
    fn with_nodes() -> (Demo, String) {
        let place = Place::new();
        let mut command = Command::new(shell::ESKER);
        command.arg("demo").env("TMPDIR", place.path(""));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.find(|line| line.as_ref().unwrap().contains("three nodes:"));
        // What it says from now on is read and thrown away, so that it does not stop.
        std::thread::spawn(move || lines.count());
        (Demo { place, child }, told.unwrap().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// How it ended and what it said on standard error, once none of its processes is left.
    fn end(mut self) -> (ExitStatus, String, Place) {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut said).unwrap();
        let status = self.child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !processes_in(&self.place.path("")).is_empty() {
            assert!(Instant::now() < deadline, "a process was left behind");
            std::thread::sleep(Duration::from_millis(20));
        }
        (status, said, self.place)
    }
}

/// The command lines of running processes that name something in `path`.
fn processes_in(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(path.to_str().unwrap()) {
            found.push(line);
        }
    }
    found
}

/// A write that nobody acknowledged to the demonstration is one that must not be there.
#[test]
fn a_check_that_does_not_hold_ends_the_demonstration_with_11() {
    let (demo, told) = Demo::with_nodes();
    let url = told.split([' ', ',', ';']).find(|word| word.starts_with("http://")).unwrap();
    assert_eq!(processes_in(&demo.place.path("")).len(), 3, "{told}");
    esker(["put", "--url", url, "--keyspace", "characters", "smuggled", "in"]).ok();
    let (status, said, place) = demo.end();
    assert_eq!(status.code(), Some(11), "{said}");
    assert!(said.contains("error[CheckFailed]: "), "{said}");
    assert!(shell::content_of(&place.path("")).is_empty(), "something was left");
}

#[test]
fn a_demonstration_that_is_stopped_leaves_no_process_and_no_file() {
    for signal in [Signal::TERM, Signal::INT] {
        let (demo, _) = Demo::with_nodes();
        assert_eq!(processes_in(&demo.place.path("")).len(), 3);
        demo.signal(signal);
        let (status, said, place) = demo.end();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("error[Interrupted]: "), "{said}");
        assert!(shell::content_of(&place.path("")).is_empty(), "something was left");
    }
}

#[test]
fn the_nodes_of_a_demonstration_that_is_killed_stop_by_themselves() {
    let (demo, _) = Demo::with_nodes();
    assert_eq!(processes_in(&demo.place.path("")).len(), 3);
    demo.signal(Signal::KILL);
    assert_eq!(demo.end().0.code(), None);
}

#[test]
fn every_workload_runs_on_several_threads_and_checks_what_it_reads() {
    let place = Place::new();
    let workloads = "fillseq,readrandom,readmissing,readseq,seekrandom,overwrite,readrandom,\
                     deleterandom,fillrandom,readseq";
    let line = format!(
        "bench --workload {workloads} --keys 500 --threads 3 --value-size 40 --output json"
    );
    let lines = place.run(&line).ok().json();
    assert_eq!(lines.len(), 10);
    for line in &lines {
        assert_eq!(line["failed_checks"], 0, "{line}");
        assert!(line["ops_per_second"].as_f64().unwrap() > 0.0, "{line}");
        for field in ["p50_us", "p99_us", "p999_us", "bytes_written", "disk_bytes"] {
            assert!(line[field].is_number(), "{field} in {line}");
        }
    }
    assert_eq!((&lines[0]["ops"], &lines[3]["ops"]), (&500.into(), &1500.into()));
    assert_eq!((&lines[1]["found"], &lines[2]["found"]), (&500.into(), &0.into()));
    assert!(lines[0]["bytes_written"].as_u64().unwrap() > 500 * 40);
}

/// The benchmark looks at values, not only at keys.
#[test]
fn a_benchmark_that_reads_something_else_fails() {
    let place = Place::new();
    place.run("bench --workload fillseq --keys 100 --value-size 20").ok();
    place.run("put --keyspace bench 0000000000000007 tampered").ok();
    let line = "bench --workload readseq,readrandom --keys 100 --value-size 20";
    place.run(line).fails(11, "error[CheckFailed]: ");
}
