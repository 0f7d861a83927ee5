//! Nodes as processes that keep each other equal over real QUIC.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, is_online, peers, until, until_equal};
use shell::way::{Gate, Way};
use shell::{Place, Served, esker};
use std::time::Duration;

fn trio(place: &Place) -> ([Home; 3], [Served; 3]) {
    let homes = ["a", "b", "c"].map(|name| Home::new(place, name));
    let [a, b, c] = &homes;
    let nodes = [a.start(&[b, c]), b.start(&[a, c]), c.start(&[a, b])];
    (homes, nodes)
}

fn digest(node: &Served) -> String {
    node.run("digest").ok().text().to_owned()
}

/// All that the third of three processes says to the others, and they to it, goes over these.
struct Ways {
    /// From each of the others to the third.
    to_third: [Way; 2],
    /// From the third to each of the others.
    from_third: [Way; 2],
}

impl Ways {
    fn around([a, b, c]: &[Home; 3]) -> Ways {
        Ways {
            to_third: [c, c].map(|to| Way::to(&to.listen)),
            from_third: [a, b].map(|to| Way::to(&to.listen)),
        }
    }

    /// What becomes of what the third hears, and of what it says.
    fn set(&self, hears: Gate, says: Gate) {
        self.to_third.iter().for_each(|way| way.set(hears, says));
        self.from_third.iter().for_each(|way| way.set(says, hears));
    }

    /// Datagrams that the third did not hear, and those of it that nobody heard.
    fn lost(&self) -> (u64, u64) {
        let all = self.to_third.iter().map(Way::dropped);
        let turned = self.from_third.iter().map(Way::dropped).map(|(said, heard)| (heard, said));
        all.chain(turned).fold((0, 0), |sum, lost| (sum.0 + lost.0, sum.1 + lost.1))
    }

    /// Starts the node of this number.
    fn start(&self, homes: &[Home; 3], number: usize) -> Served {
        let [a, b, c] = homes;
        let at = |home: &Home, way: &Way| format!("{}@{}", home.id, way.address);
        let peers = match number {
            0 => [b.address(), at(c, &self.to_third[0])],
            1 => [a.address(), at(c, &self.to_third[1])],
            _ => [at(a, &self.from_third[0]), at(b, &self.from_third[1])],
        };
        let home = &homes[number];
        let [one, other] = &peers;
        let options = ["--listen", &home.listen, "--peer", one, "--peer", other];
        Served::start_with(&home.path, &options)
    }
}

/// Waits until neither side has a link to the other any more: both must notice that by themselves.
fn until_alone(third: &Served, others: &[&Served], homes: &[Home; 3]) {
    until("nobody has a link to the third", || {
        others.iter().all(|node| !is_online(node, &homes[2]))
            && homes[..2].iter().all(|home| !is_online(third, home))
    });
}

/// What `/health` of `node` says about those who confirm what it wrote.
fn has_confirmations_of(node: &Served, homes: [&Home; 2]) -> bool {
    let health = node.ask("GET", "/health", &[], "").json();
    assert_eq!(health["trackedPeerCount"], 2, "{health}");
    let confirmed = &health["lastSuccessfulConfirmationUpdateByPeer"];
    let has_one = |home: &&Home| confirmed[&home.id].as_u64().is_some_and(|at| at > 0);
    homes.iter().all(has_one)
        && health["peersWithNoConfirmation"] == serde_json::json!([])
        && health["laggingPeers"] == serde_json::json!([])
        && health["maxLagMs"].as_u64().is_some_and(|lag| lag < 30_000)
}

#[test]
fn three_processes_agree_after_cuts_and_kills() {
    let place = Place::new();
    let homes = ["a", "b", "c"].map(|name| Home::new(&place, name));
    let ways = Ways::around(&homes);
    let [a, b, c] = [0, 1, 2].map(|number| ways.start(&homes, number));
    let records: String = (0..2000).map(|n| format!("k{n:04}\tvalue {n}\n")).collect();
    a.run_with("load --format tsv -", records.as_bytes()).ok();
    until("c has what a loaded", || c.run("scan --keys-only").ok().text().lines().count() == 2000);
    until_equal("all hold what a loaded", &[&a, &b, &c]);
    assert_eq!(ways.lost(), (0, 0));

    ways.set(Gate::Cut, Gate::Cut);
    until_alone(&c, &[&a, &b], &homes);
    c.run("put contested earlier").ok();
    c.run("put alone c").ok();
    std::thread::sleep(Duration::from_millis(5));
    a.run("put contested later").ok();
    b.run("delete k0001").ok();
    until_equal("a and b agree", &[&a, &b]);
    assert_ne!(digest(&a), digest(&c));
    c.run("get k0001").ok();

    b.kill();
    a.run("put while-b-is-dead 1").ok();
    let b = ways.start(&homes, 1);
    let lost = ways.lost();
    assert!(lost.0 > 0 && lost.1 > 0, "{lost:?}");
    ways.set(Gate::Open, Gate::Open);
    until("c has what was written meanwhile", || {
        c.run("get while-b-is-dead").text() == "1\n" && a.run("get alone").text() == "c\n"
    });
    until_equal("all agree", &[&a, &b, &c]);
    assert_eq!(c.run("get contested").ok().text(), "later\n");
    c.run("get k0001").fails(3, "error[NotFound]: ");

    // The third hears the others, and nobody hears it.
    let before = ways.lost();
    ways.set(Gate::Open, Gate::Cut);
    until_alone(&c, &[&a, &b], &homes);
    a.run("put unheard-by-c 1").ok();
    c.run("put said-by-c 1").ok();
    until_equal("a and b agree", &[&a, &b]);
    a.run("get said-by-c").fails(3, "error[NotFound]: ");
    c.run("get unheard-by-c").fails(3, "error[NotFound]: ");
    let lost = ways.lost();
    assert!(lost.0 == before.0 && lost.1 > before.1, "{lost:?} after {before:?}");
    ways.set(Gate::Open, Gate::Open);
    until("c and the others have met again", || {
        c.run("get unheard-by-c").text() == "1\n" && a.run("get said-by-c").text() == "1\n"
    });
    until_equal("all agree again", &[&a, &b, &c]);
    let health = esker(["status", "--url", &a.url(), "--output", "json"]).ok().json();
    assert_eq!(health[0]["peers"].as_array().unwrap().len(), 2);
    until("both others have confirmed all", || has_confirmations_of(&a, [&homes[1], &homes[2]]));

    let held = digest(&a);
    for (node, home) in [a, b, c].into_iter().zip(&homes) {
        assert_eq!(node.stop(), (Some(0), String::new()));
        let directory = home.path.display().to_string();
        assert_eq!(esker(["digest", "--path", &directory]).ok().text(), held);
        esker(["check", "--path", &directory, "--level", "paranoid"]).ok();
    }
}

#[test]
fn a_process_joins_with_a_token_once() {
    let place = Place::new();
    let (_, [a, b, _c]) = trio(&place);
    b.run("put old 1").ok();
    until("a has it", || a.run("get old").text() == "1\n");
    let invited = peers(&a, &["invite", "--output", "json"]).ok().json();
    let token = invited[0]["token"].as_str().unwrap();
    let join = format!("{token}@{}", a.listen);
    let joiner = Served::start_with(&place.path("d"), &["--join", &join]);
    until("the joiner has what was there", || joiner.run("get old").text() == "1\n");
    until("the joiner may write", || joiner.run("put new 2").code == Some(0));
    until("b has what the joiner wrote", || b.run("get new").text() == "2\n");
    let path = place.path("e").display().to_string();
    let second = esker(["serve", "--path", &path, "--http", "127.0.0.1:0", "--join", &join]);
    assert!(second.code != Some(0), "a token is good for one node");
}

/// An invitation and its end last over restarts, orderly or not.
#[test]
fn invitations_outlive_the_process_that_made_them() {
    let place = Place::new();
    let a = Home::new(&place, "a");
    let node = a.start(&[]);
    node.run("put k 1").ok();
    let [spent, open] = [0, 1].map(|_| {
        let token = peers(&node, &["invite"]).ok().text().trim().to_owned();
        format!("{token}@{}", a.listen)
    });
    assert_eq!(node.stop().0, Some(0));
    let node = a.start(&[]);
    let first = Served::start_with(&place.path("first"), &["--join", &spent]);
    until("the first has what was there", || first.run("get k").text() == "1\n");
    node.kill();
    let _node = a.start(&[]);
    let path = place.path("late").display().to_string();
    let late = esker(["serve", "--path", &path, "--http", "127.0.0.1:0", "--join", &spent]);
    assert!(late.code != Some(0) && late.err.contains("refuses to join"), "{}", late.err);
    let second = Served::start_with(&place.path("second"), &["--join", &open]);
    until("the second has it too", || second.run("get k").text() == "1\n");
}

#[test]
fn an_unknown_node_is_kept_out_and_the_others_go_on() {
    let place = Place::new();
    let (homes, [a, b, _c]) = trio(&place);
    let stranger = Home::new(&place, "stranger");
    let path = stranger.path.display().to_string();
    esker(["put", "--path", &path, "mine", "1"]).ok();
    let stranger = stranger.start(&[&homes[0]]);
    a.run("put ours 1").ok();
    until("b has what a wrote", || b.run("get ours").text() == "1\n");
    until("the stranger was refused", || {
        let status = esker(["status", "--url", &stranger.url(), "--output", "json"]).ok().json();
        !status[0]["errors"].as_array().unwrap().is_empty()
    });
    a.run("get mine").fails(3, "error[NotFound]: ");
    stranger.run("get ours").fails(3, "error[NotFound]: ");
}
