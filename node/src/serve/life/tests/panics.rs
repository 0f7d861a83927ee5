//! Threads of a node that panic, under the panic hook of the command. A hook is of a whole process, so each story
//! is told in one of its own.

use super::*;
use esker_node::health::{Checks, Finding, Timing};
use std::process::{Command, Output};

/// Set where a story is told.
const STORY: &str = "ESKER_TEST_STORY";

/// A clock that thread `of` looks at in vain so many times.
struct Broken {
    clock: SystemClock,
    of: &'static str,
    looks: AtomicU32,
}

impl Broken {
    fn new(of: &'static str, looks: u32) -> Arc<Broken> {
        Arc::new(Broken { clock: SystemClock::default(), of, looks: looks.into() })
    }

    fn look(&self) {
        let take = |left: u32| left.checked_sub(1);
        if thread::current().name() == Some(self.of)
            && self.looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
        {
            panic!("a bug with a key in its words");
        }
    }
}

impl Clock for Broken {
    fn wall_ms(&self) -> u64 {
        self.look();
        self.clock.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.look();
        self.clock.monotonic()
    }
}

/// Tells `story` in a process of its own, as the test `name` of this file.
fn tell(name: &str, story: fn()) -> Output {
    if std::env::var_os(STORY).is_some() {
        tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
        crate::report_bugs(crate::output::Format::Text);
        story();
        std::process::exit(0);
    }
    let test = format!("serve::life::tests::panics::{name}");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &test, "--nocapture"]).env(STORY, name).output().unwrap()
}

#[track_caller]
fn assert_lived(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("a bug with a key"), "what a panic says may be data: {said}");
    said
}

/// The text at `path`.
fn text(slow: &Slow, path: &str) -> String {
    let (mut stream, mut text) = (slow.connect(), String::new());
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A node whose thread `of` panics so often goes on, once `remedy` was taken as often.
fn outlive(of: &'static str, remedy: &str, times: u32) {
    let (slow, disk) = (Slow::new(), SimFs::new(7));
    let node = serve_with(&[&disk], Broken::new(of, times), &slow);
    let taken = || ask(&mut slow.connect(), "/v1/remedies").2[remedy]["taken"].as_u64();
    slow.until(|| taken() == Some(times.into()));
    slow.until(|| put(&mut slow.connect(), "k").0 == 200);
    let (metrics, label) = (text(&slow, "/metrics"), format!("remedy=\"{remedy}\""));
    let mut counts = metrics.lines().filter(|line| line.starts_with("esker_remedies_taken_total"));
    let count = counts.find(|line| line.contains(&label)).unwrap();
    assert!(count.ends_with(&format!("}} {times}")), "{count}");
    stop();
    node.join().unwrap().unwrap();
}

#[test]
fn a_thread_that_scrubs_begins_anew_and_the_node_lives() {
    let name = "a_thread_that_scrubs_begins_anew_and_the_node_lives";
    let said = assert_lived(&tell(name, || outlive("esker-scrub", "restart", 2)));
    let panicked = "the thread esker-scrub panicked at node/src/serve/life/tests/panics.rs:";
    assert_eq!(said.matches(panicked).count(), 2, "{said}");
    assert!(said.contains("a remedy was taken remedy=\"restart\""), "{said}");
}

#[test]
fn a_thread_that_merges_poisons_the_database_and_the_node_opens_it_again() {
    let name = "a_thread_that_merges_poisons_the_database_and_the_node_opens_it_again";
    let said = assert_lived(&tell(name, || outlive("esker-compact", "reopen", 1)));
    assert!(said.contains("the thread esker-compact panicked at node/"), "{said}");
}

#[test]
fn a_check_that_panics_is_unhealthy_and_no_more() {
    let output = tell("a_check_that_panics_is_unhealthy_and_no_more", || {
        let mut checks = Checks::new(Arc::new(SystemClock::default()));
        let look = || -> Finding { panic!("a bug with a key in its words") };
        checks.add("buggy", Timing::default(), look).unwrap();
        let message = || checks.report().checks["buggy"].message.clone();
        while !message().starts_with("the check itself has failed: it panicked at node/") {
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert!(assert_lived(&output).contains("a check panicked at node/"));
}

#[test]
fn a_panic_that_nobody_catches_ends_the_process_as_a_bug() {
    let output = tell("a_panic_that_nobody_catches_ends_the_process_as_a_bug", || {
        let _ = thread::spawn(|| panic!("of nobody")).join();
    });
    assert_eq!(output.status.code(), Some(99));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("error[Bug]: of nobody (node/src/serve/life/tests/panics.rs:"), "{said}");
}
