//! The demonstration and the benchmark run, check themselves, and clean up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, esker};

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
    let main = format!("{kept}/main");
    let got = esker(["get", "--path", &main, "--keyspace", "characters", "U+01F9C0"]).ok();
    assert!(got.text().contains("CHEESE WEDGE") || got.text().contains("overwritten"));
    esker(["demo", "--keep", kept]).fails(4, "error[AlreadyExists]: ");
}

#[test]
fn the_demonstration_leaves_nothing_behind() {
    let place = Place::new();
    let output = std::process::Command::new(shell::ESKER)
        .arg("demo")
        .env("TMPDIR", place.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with(" 1. load: 34924 characters"), "{text}");
    assert!(text.trim_end().lines().last().unwrap().contains("checks, 0 failed"), "{text}");
    assert!(shell::content_of(&place.path("")).is_empty(), "something was left");
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
