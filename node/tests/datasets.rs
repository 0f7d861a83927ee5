//! Several databases in one process: apart from each other, and served, drained and watched together.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use serde_json::{Value, json};
use shell::group::{Home, until};
use shell::{Ended, Place, Served, answer_of, esker, esker_with, start, start_in};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// A process with the main database `data` and the datasets `orders` and `users`.
fn serve(place: &Place) -> Served {
    let [orders, users] = ["orders", "users"].map(|name| option(place, name));
    let options = ["--dataset", &orders, "--dataset", &users];
    Served::start_with(&place.path("data"), &options)
}

fn option(place: &Place, name: &str) -> String {
    format!("{name}={}", place.path(name).display())
}

/// Runs `line` on the dataset `name` of `node`.
fn run(node: &Served, name: &str, line: &str) -> Ended {
    run_with(node, name, line, b"")
}

fn run_with(node: &Served, name: &str, line: &str, input: &[u8]) -> Ended {
    let url = format!("{}/v1/datasets/{name}", node.url());
    let mut words = line.split(' ');
    let command = words.next().unwrap();
    esker_with([command, "--url", &url].into_iter().chain(words), input)
}

/// The content of the directory at `path`, which nobody holds.
fn kept(path: &Path) -> String {
    esker(["scan", "--path", path.to_str().unwrap()]).ok().text().to_owned()
}

#[test]
fn datasets_with_the_same_keyspaces_do_not_see_each_other() {
    let place = Place::new();
    let node = serve(&place);
    node.run("put k of-main").ok();
    run(&node, "orders", "put k of-orders").ok();
    run_with(&node, "users", "load --format tsv -", b"a\t1\nb\t2\n").ok();
    assert_eq!(node.run("get k").ok().text(), "of-main\n");
    assert_eq!(run(&node, "orders", "get k").ok().text(), "of-orders\n");
    run(&node, "users", "get k").fails(3, "NotFound");
    assert_eq!(run(&node, "users", "scan").ok().text(), "a\t1\nb\t2\n");
    run(&node, "orders", "put --keyspace other k 1").ok();
    assert_eq!(run(&node, "orders", "keyspaces").ok().text(), "default\t1\t10\nother\t1\t2\n");
    assert_eq!(node.run("keyspaces").ok().text(), "default\t1\t8\n");
    run(&node, "orders", "delete k").ok();
    run(&node, "orders", "flush").ok();
    assert_eq!(node.run("get k").ok().text(), "of-main\n");
    let digest = |name| run(&node, name, "digest").ok().text().to_owned();
    assert_ne!(digest("orders"), digest("users"));
    assert_eq!(run(&node, "users", "export --all -").ok().text().lines().count(), 2);

    let listed = node.ask("GET", "/v1/datasets", &[], "").is(200, "").json();
    let named: Vec<_> =
        listed.as_array().unwrap().iter().map(|one| one["dataset"].clone()).collect();
    assert_eq!(named, ["orders", "users"]);
    assert_eq!(listed[0]["url"], "/v1/datasets/orders");
    assert_eq!(listed[0]["status"], "open");
    let one = |path: &str| node.ask("GET", path, &[], "");
    assert_eq!(one("/v1/datasets/orders").is(200, "").json(), listed[0]);
    assert_eq!(one("/v1/datasets/main").is(200, "").json()["status"], "open");
    assert_eq!(run(&node, "main", "get k").ok().text(), "of-main\n");
    one("/v1/datasets/orders?x").is(400, "InvalidInput");
    one("/v1/datasets/nobody").is(404, "DatasetNotFound");
    node.ask("POST", "/v1/datasets/orders", &[], "").is(405, "UnknownMethod");
    let page = String::from_utf8(one("/v1/datasets/orders/").is(200, "").body).unwrap();
    assert!(page.starts_with("<!doctype html>"), "{page}");
    let nodes = [&listed[0]["node"], &listed[1]["node"], &json!(node.node)];
    assert!(nodes[0] != nodes[1] && nodes[1] != nodes[2] && nodes[0] != nodes[2], "{listed}");
    let inside = node.ask("GET", "/v1/datasets/orders/v1/datasets", &[], "").is(200, "").json();
    assert_eq!(inside, json!([]), "they are not nested");
    run(&node, "nobody", "get k").fails(3, "DatasetNotFound");
    node.ask("GET", "/v1/datasets/nobody/health/live", &[], "").is(404, "DatasetNotFound");
    node.ask("GET", "/v1/datasets/orders/v1/nothing", &[], "").is(404, "UnknownPath");

    assert_eq!(node.stop(), (Some(0), String::new()));
    assert_eq!(kept(&place.path("data")), "k\tof-main\n");
    assert_eq!(kept(&place.path("orders")), "");
    assert_eq!(kept(&place.path("users")), "a\t1\nb\t2\n");
}

#[test]
fn a_dataset_that_can_not_be_opened_is_named_and_nothing_is_served() {
    let place = Place::new();
    fs::write(place.path("users"), "no directory").unwrap();
    let (orders, users) = (option(&place, "orders"), option(&place, "users"));
    let data = place.path("data");
    let line = ["serve", "--path", data.to_str().unwrap(), "--http", "127.0.0.1:0"];
    let line =
        [&line[..], &["--output", "json", "--dataset", &orders, "--dataset", &users]].concat();
    let ended = esker(line).fails(8, "NotADatabase");
    let error = ended.error();
    assert!(error["message"].as_str().unwrap().starts_with("dataset users: "), "{error}");
    assert_eq!(error["metadata"]["dataset"], "users");
    assert_eq!(ended.text(), "", "it never said that it is ready");
    fs::remove_file(place.path("users")).unwrap();
    // What was open meanwhile is closed and free.
    assert_eq!(serve(&place).stop(), (Some(0), String::new()));
}

#[test]
fn all_datasets_are_drained_at_a_signal_and_survive_a_kill() {
    let place = Place::new();
    let node = serve(&place);
    let put = |path: &str| {
        let mut put = TcpStream::connect(&node.http).unwrap();
        let head =
            format!("PUT {path}/v1/keyspaces/default/records/ada HTTP/1.1\r\nhost: localhost\r\n");
        write!(put, "{head}content-length: 8\r\n\r\nhalf").unwrap();
        put
    };
    let mut puts = ["", "/v1/datasets/orders", "/v1/datasets/users"].map(put);
    // Answered after those before it were accepted.
    node.run("get nobody").fails(3, "NotFound");
    node.terminate();
    while TcpStream::connect(&node.http).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for put in &mut puts {
        write!(put, "half").unwrap();
        let mut answer = Vec::new();
        put.read_to_end(&mut answer).unwrap();
        assert_eq!(answer_of(&answer).status, 200);
    }
    assert_eq!(node.wait(), (Some(0), String::new()));

    let node = serve(&place);
    for name in ["orders", "users"] {
        run(&node, name, &format!("put killed {name}")).ok();
    }
    node.run("put killed main").ok();
    node.kill();
    let node = serve(&place);
    for name in ["orders", "users"] {
        let all = format!("ada\thalfhalf\nkilled\t{name}\n");
        assert_eq!(run(&node, name, "scan").ok().text(), all);
    }
    assert_eq!(node.run("scan").ok().text(), "ada\thalfhalf\nkilled\tmain\n");
}

#[test]
fn the_process_is_ready_and_well_when_all_datasets_are() {
    let place = Place::new();
    // It has data, so it does not wait for a peer. Nobody is there who would confirm anything.
    let path = place.path("orders");
    esker(["put", "--path", path.to_str().unwrap(), "k", "v"]).ok();
    let peer = "000102030405060708090a0b0c0d0eff@127.0.0.1:9";
    let file = place.path("node.toml");
    fs::write(&file, format!("[datasets.orders]\npath = {path:?}\npeers = [{peer:?}]\n")).unwrap();
    let users = option(&place, "users");
    let options = ["--config", file.to_str().unwrap(), "--dataset", &users];
    let node = Served::start_with(&place.path("data"), &options);
    let ask = |path: &str| node.ask("GET", path, &[], "");
    let orders = "/v1/datasets/orders";
    ask("/health/ready").is(200, "");
    let health = ask("/health").is(200, "").json();
    assert_eq!(health["datasets"], json!({ "orders": "degraded", "users": "healthy" }));
    assert_eq!((&health["status"], &health["trackedPeerCount"]), (&json!("degraded"), &json!(0)));
    let set = |to: &str| {
        let body = format!("{{\"mode\":\"{to}\"}}");
        node.ask("POST", &format!("{orders}/v1/mode"), &[], &body).is(200, "");
    };
    set("maintenance");
    let ready = ask("/health/ready").is(503, "").json();
    assert_eq!(ready["reasons"], json!(["dataset orders: the node is being maintained"]));
    ask(&format!("{orders}/health/ready")).is(503, "");
    ask("/v1/datasets/users/health/ready").is(200, "");
    run(&node, "orders", "put k v").fails(1, "Maintenance");
    run(&node, "users", "put k v").ok();
    node.run("put k v").ok();
    let checks = ask("/health/detailed").json()["checks"].clone();
    for name in ["engine", "orders.engine", "users.replication"] {
        assert!(checks[name]["status"].is_string(), "{name}: {checks}");
    }
    set("normal");
    ask("/health/ready").is(200, "");
}

#[test]
fn a_token_is_good_for_all_datasets_and_without_one_none_answers() {
    let place = Place::new();
    let (file, secret) = (place.path("node.toml"), place.path("token"));
    fs::write(&secret, "a token that nobody guesses\n").unwrap();
    let text = format!(
        "path = {:?}\nhttp = '127.0.0.1:0'\n[auth]\ntoken_file = {secret:?}\n[datasets.orders]\npath = {:?}\n",
        place.path("data"),
        place.path("orders"),
    );
    fs::write(&file, text).unwrap();
    let node = Served::of(start(["serve", "--config", file.to_str().unwrap()]));
    let token = ["authorization: Bearer a token that nobody guesses"];
    for path in [
        "/v1/datasets",
        "/v1/datasets/orders",
        "/v1/datasets/orders/v1/stats",
        "/v1/datasets/nobody/v1/stats",
    ] {
        node.ask("GET", path, &[], "").is(401, "Unauthenticated");
        assert_ne!(node.ask("GET", path, &token, "").status, 401, "{path}");
    }
    node.ask("GET", "/v1/datasets/orders/health/ready", &[], "").is(200, "");
}

/// A process with two databases, each with its own place among its peers.
struct Double {
    main: Home,
    orders: Home,
}

impl Double {
    fn new(place: &Place, name: &str) -> Double {
        let orders = Home::new(place, &format!("{name}-orders"));
        Double { main: Home::new(place, name), orders }
    }

    /// Starts it with these others.
    fn start(&self, place: &Place, others: &[&Double]) -> Served {
        let table = |home: &Home, others: &[&Home]| {
            let peers: Vec<String> = others.iter().map(|other| other.address()).collect();
            format!("path = {:?}\nlisten = {:?}\npeers = {peers:?}\n", home.path, home.listen)
        };
        let main: Vec<&Home> = others.iter().map(|other| &other.main).collect();
        let orders: Vec<&Home> = others.iter().map(|other| &other.orders).collect();
        let file = place.path(&format!("{}.toml", self.main.id));
        let text = format!(
            "http = '127.0.0.1:0'\n{}[datasets.orders]\n{}",
            table(&self.main, &main),
            table(&self.orders, &orders),
        );
        fs::write(&file, text).unwrap();
        Served::of(start(["serve", "--config", file.to_str().unwrap()]))
    }
}

/// Runs `esker peers` on the dataset `orders` of `node`.
fn peers_of_orders(node: &Served, words: &[&str]) -> Ended {
    let url = format!("{}/v1/datasets/orders", node.url());
    esker([&["peers"], words, &["--url", &url]].concat())
}

#[test]
fn each_dataset_replicates_with_its_own_peers_and_one_that_is_cut_off_holds_up_no_other() {
    let place = Place::new();
    let doubles = ["a", "b", "c"].map(|name| Double::new(&place, name));
    let [a, b, c] = &doubles;
    let nodes = [a.start(&place, &[b, c]), b.start(&place, &[a, c]), c.start(&place, &[a, b])];
    let [one, two, three] = nodes;
    until("the main databases have met", || one.run("put k of-main").code == Some(0));
    until("the orders have met", || run(&two, "orders", "put k of-orders").code == Some(0));
    until("all have both", || {
        [&one, &two, &three].iter().all(|node| {
            let of_orders = run(node, "orders", "get k");
            node.run("get k").text() == "of-main\n" && of_orders.text() == "of-orders\n"
        })
    });
    let listed = peers_of_orders(&one, &["list", "--output", "json"]).ok().text().to_owned();
    assert!(listed.contains(&b.orders.id) && !listed.contains(&b.main.id), "{listed}");

    for node in [&one, &two] {
        peers_of_orders(node, &["disable", &c.orders.id]).ok();
    }
    until("the orders of c are alone", || {
        let listed = peers_of_orders(&three, &["list", "--output", "json"]).ok();
        !listed.text().contains("\"online\":true")
    });
    run(&one, "orders", "put later 1").ok();
    one.run("put later 2").ok();
    until("c has what concerns its main database", || three.run("get later").text() == "2\n");
    until("b has the order", || run(&two, "orders", "get later").text() == "1\n");
    run(&three, "orders", "get later").fails(3, "NotFound");

    two.kill();
    run(&one, "orders", "put without-b 1").ok();
    one.run("put without-b 2").ok();
    let two = b.start(&place, &[a, c]);
    for node in [&one, &two] {
        peers_of_orders(node, &["enable", &c.orders.id]).ok();
    }
    until("all agree on both", || {
        let all = [&one, &two, &three];
        let main = all.map(|node| node.run("digest").ok().text().to_owned());
        let orders = all.map(|node| run(node, "orders", "digest").ok().text().to_owned());
        [main, orders].iter().all(|of| of.windows(2).all(|pair| pair[0] == pair[1]))
    });
    assert_eq!(run(&three, "orders", "scan").ok().text(), "k\tof-orders\nlater\t1\nwithout-b\t1\n");
    assert_eq!(two.run("scan").ok().text(), "k\tof-main\nlater\t2\nwithout-b\t2\n");
    for node in [one, two, three] {
        assert_eq!(node.stop(), (Some(0), String::new()));
    }
}

#[test]
fn what_is_counted_has_the_name_of_its_dataset() {
    let place = Place::new();
    let node = serve(&place);
    node.run("put k v").ok();
    (0..3).for_each(|n| drop(run(&node, "orders", &format!("put k{n} v")).ok()));
    let text =
        |path: &str| String::from_utf8(node.ask("GET", path, &[], "").is(200, "").body).unwrap();
    let (all, own) = (text("/metrics"), text("/v1/datasets/orders/metrics"));
    let commits = |text: &str, labels: &str| {
        let name = format!("esker_operations_total{{{labels}op=\"commit\"}} ");
        let mut found = text.lines().filter_map(|line| line.strip_prefix(&name));
        let count: Option<u64> = found.next().map(|count| count.parse().unwrap());
        assert_eq!(found.next(), None, "{name} is there twice");
        count
    };
    let orders = "dataset=\"orders\",";
    let rise = commits(&all, orders).unwrap() - commits(&all, "dataset=\"users\",").unwrap();
    assert_eq!(rise, 3);
    assert!(commits(&all, "").is_some());
    assert_eq!((commits(&own, orders), commits(&own, "")), (commits(&all, orders), None));
    for text in [&all, &own] {
        let helps: Vec<&str> = text.lines().filter(|line| line.starts_with("# HELP ")).collect();
        let unique: std::collections::BTreeSet<&&str> = helps.iter().collect();
        assert_eq!(unique.len(), helps.len(), "a family is there twice");
    }
    for of_process in ["\nesker_log_lines_dropped_total", "\nesker_audit_lines_dropped_total"] {
        assert_eq!((all.matches(of_process).count(), own.matches(of_process).count()), (1, 0));
    }
    assert!(all.contains("\nprocess_cpu_seconds_total ") && !own.contains("process_"));
}

#[test]
fn lines_of_a_dataset_name_it_whoever_writes_them() {
    let place = Place::new();
    let (file, log, audit) = (place.path("node.toml"), place.path("log"), place.path("audit"));
    let text = format!(
        "path = {:?}\nhttp = '127.0.0.1:0'\n[log]\nlevel = 'trace'\nformat = 'json'\nfile = {log:?}\n\
         audit_file = {audit:?}\n[datasets.orders]\npath = {:?}\n[datasets.orders.backup]\nto = {:?}\n\
         every_seconds = 1\n",
        place.path("data"),
        place.path("orders"),
        file.join("is no directory"),
    );
    fs::write(&file, text).unwrap();
    let line = ["serve", "--config", file.to_str().unwrap()];
    let node = Served::of(start_in(line, &[("ESKER_LOG_LEVEL", "")]));
    let failed = "a backup failed; it will be tried again";
    until("a backup fails", || fs::read_to_string(&log).unwrap().contains(failed));
    let body = "{\"mode\":\"read-only\"}";
    node.ask("POST", "/v1/datasets/orders/v1/mode", &[], body).is(200, "");
    node.ask("POST", "/v1/log", &[], "{\"level\":\"debug\"}").is(200, "");
    assert_eq!(node.stop(), (Some(0), String::new()));
    let lines = |path: &Path| -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for path in [&log, &audit] {
        let all = lines(path);
        let said = |words: &str| {
            let found = all.iter().find(|line| line["fields"]["message"] == words);
            found.unwrap_or_else(|| unreachable!("{words} is not in {all:#?}"))
        };
        assert_eq!(said("the mode was set")["dataset"], "orders");
        assert_eq!(said("the mode was set")["operation"], "/v1/mode");
        assert_eq!(said("the level of the log was set").get("dataset"), None);
        assert_eq!(said("the level of the log was set")["component"], "audit");
    }
    let told = lines(&log);
    let failed = told.iter().find(|line| line["fields"]["message"] == failed).unwrap();
    let named = ["component", "operation", "dataset"].map(|name| failed[name].as_str());
    assert_eq!(named, [Some("engine"), Some("backup"), Some("orders")]);
    assert!(failed["fields"]["code"].is_string(), "{failed}");
    let of = |target: &str, dataset: Option<&str>| {
        let is_of = |line: &&Value| line["target"].as_str().unwrap().starts_with(target);
        told.iter().filter(is_of).any(|line| line.get("dataset").and_then(Value::as_str) == dataset)
    };
    for target in ["replication::", "esker::audit"] {
        assert!(of(target, Some("orders")) && of(target, None), "{target}: {told:#?}");
    }
}

#[test]
fn each_dataset_has_its_own_settings_and_takes_over_those_that_change() {
    let place = Place::new();
    let file = place.path("node.toml");
    let [data, orders, store] = ["data", "orders", "store"].map(|name| place.path(name));
    let write = |orders_settings: &str, more: &str| {
        let text = format!(
            "path = {data:?}\nhttp = '127.0.0.1:0'\n[datasets.orders]\npath = {orders:?}\n\
             [datasets.orders.backup]\nto = {store:?}\n{orders_settings}{more}"
        );
        fs::write(&file, text).unwrap();
    };
    write("", "");
    let line = ["--output", "json", "config", "show", "--config", file.to_str().unwrap()];
    let shown = esker(line).ok().json();
    let settings = shown[0]["settings"].as_array().unwrap();
    let path = settings.iter().find(|one| one["key"] == "datasets.orders.path").unwrap();
    assert!(path["source"].as_str().unwrap().ends_with("line 4"), "{path}");
    assert!(!settings.iter().any(|one| one["key"] == "datasets.orders.log.level"));

    let node = Served::of(start(["serve", "--config", file.to_str().unwrap()]));
    run(&node, "orders", "put k v").ok();
    node.ask("POST", "/v1/backup", &[], "").is(400, "NotConfigured");
    node.ask("POST", "/v1/datasets/orders/v1/backup", &[], "").is(200, "");
    esker(["backup", "verify", "--to", store.to_str().unwrap()]).ok();

    write(
        "[datasets.orders.limits]\nstorage_bytes = 1\n[datasets.orders.engine]\nmemory_bytes = '1 GiB'\n",
        "[datasets.late]\npath = 'late'\n",
    );
    let reloaded = node.ask("POST", "/v1/reload", &[], "").is(200, "").json();
    let waiting = json!(["datasets.late", "datasets.orders.engine.memory_bytes"]);
    assert_eq!(reloaded["waiting"], waiting);
    until("the quota is seen", || run(&node, "orders", "put k w").code == Some(6));
    node.run("put k v").ok();
    run(&node, "orders", "get k").ok();
    write("", "");
    node.ask("POST", "/v1/datasets/orders/v1/reload", &[], "").is(200, "");
    until("there is room again", || run(&node, "orders", "put k w").code == Some(0));
    fs::write(&file, format!("path = {data:?}\nhttp = '127.0.0.1:0'\n")).unwrap();
    node.ask("POST", "/v1/datasets/orders/v1/reload", &[], "").is(400, "ConfigInvalid");
    let reloaded = node.ask("POST", "/v1/reload", &[], "").is(200, "").json();
    assert_eq!(reloaded["waiting"], json!(["datasets.orders"]));
}

#[test]
fn budgets_that_memory_does_not_hold_together_are_told_and_served() {
    let place = Place::new();
    let (file, log) = (place.path("node.toml"), place.path("log"));
    let write = |bytes: &str| {
        let text = format!(
            "path = {:?}\nhttp = '127.0.0.1:0'\n[log]\nfile = {log:?}\n[datasets.orders]\npath = {:?}\n\
             [datasets.orders.engine]\nmemory_bytes = '{bytes}'\n",
            place.path("data"),
            place.path("orders"),
        );
        fs::write(&file, text).unwrap();
    };
    let check = ["--output", "json", "config", "check", "--config", file.to_str().unwrap()];
    write("256 MiB");
    assert_eq!(esker(check).ok().json()[0], json!({"mistakes": [], "notes": []}));
    write("1 TiB");
    let told = "engine.memory_bytes of 2 databases is 1048832 MiB together";
    let checked = esker(check).ok().json();
    assert!(checked[0]["notes"][0].as_str().unwrap().starts_with(told), "{checked:?}");
    let line = ["serve", "--config", file.to_str().unwrap()];
    let node = Served::of(start_in(line, &[("ESKER_LOG_LEVEL", "")]));
    run(&node, "orders", "put k v").ok();
    assert_eq!(node.stop(), (Some(0), String::new()));
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches(told).count(), 1, "{text}");
}

#[test]
fn mistakes_about_datasets_are_refused_before_anything_is_opened() {
    let place = Place::new();
    let data = place.path("data");
    let (inside, outside) = (data.join("inside"), place.path("outside"));
    let line = ["serve", "--path", data.to_str().unwrap(), "--http", "127.0.0.1:0"];
    let inside = format!("a={}", inside.display());
    let wrong = ["--dataset", &inside, "--dataset", "no/name=x", "--dataset", "main=x"];
    let ended = esker([&line[..], &wrong].concat()).fails(5, "ConfigInvalid");
    for words in ["3 mistakes", "datasets.a.path", "no/name=x", "main=x"] {
        assert!(ended.err.contains(words), "{words}: {}", ended.err);
    }
    assert!(!data.exists());
    let outside = format!("a={}", outside.display());
    let mut child = start([&["--output", "json"], &line[..], &["--dataset", &outside]].concat());
    let mut ready = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut ready).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["datasets"][0]["dataset"], "a", "{ready}");
    assert_ne!(ready["datasets"][0]["node"], ready["node"]);
}
