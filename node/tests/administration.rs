//! What operators do over HTTP, on real processes; and who may.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{ESKER, Place, Served, esker, exchange, request};
use std::fs;
use std::process::Command;

const ADA: &str = "/v1/keyspaces/default/records/ada";

/// A node with a file of settings that has `text` in it.
fn with_settings(place: &Place, text: &str) -> Served {
    let file = place.path("node.toml");
    fs::write(&file, text).unwrap();
    Served::start_with(&place.path("data"), &["--config", file.to_str().unwrap()])
}

#[test]
fn a_mode_says_what_users_may_ask_for() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    node.ask("PUT", ADA, &[], "1").is(200, "");
    let set = |mode: &str| {
        node.ask("POST", "/v1/mode", &[], &format!("{{\"mode\":\"{mode}\"}}")).is(200, "");
        assert_eq!(node.ask("GET", "/v1/mode", &[], "").json()["mode"], mode);
    };
    set("read-only");
    node.ask("PUT", ADA, &[], "2").is(403, "ReadOnlyMode");
    node.ask("POST", "/v1/batch", &[], "").is(403, "ReadOnlyMode");
    node.ask("POST", "/v1/load", &[], "").is(403, "ReadOnlyMode");
    assert_eq!(node.ask("GET", ADA, &[], "").is(200, "").body, b"1");
    node.ask("GET", "/health/ready", &[], "").is(200, "");
    set("maintenance");
    for path in [ADA, "/v1/keyspaces", "/v1/export", "/v1/digest"] {
        let refused = node.ask("GET", path, &[], "").is(503, "Maintenance");
        assert_eq!(refused.header("retry-after"), Some("1"), "{path}");
    }
    node.ask("GET", "/health/ready", &[], "").is(503, "");
    node.ask("GET", "/health/live", &[], "").is(200, "");
    node.ask("POST", "/v1/flush", &[], "").is(200, "");
    node.ask("GET", "/v1/stats", &[], "").is(200, "");
    set("normal");
    node.ask("PUT", ADA, &[], "2").is(200, "");
    node.ask("POST", "/v1/mode", &[], "{\"mode\":\"asleep\"}").is(400, "InvalidInput");
}

#[test]
fn a_mode_lasts_over_restarts_and_kills_until_it_is_changed() {
    let place = Place::new();
    let path = place.path("data");
    let mut node = Served::start(&path);
    node.ask("PUT", ADA, &[], "1").is(200, "");
    for (mode, code) in [("read-only", "ReadOnlyMode"), ("maintenance", "Maintenance")] {
        let body = format!("{{\"mode\":\"{mode}\"}}");
        assert_eq!(node.ask("POST", "/v1/mode", &[], &body).is(200, "").json()["kept"], true);
        node.kill();
        node = Served::start(&path);
        assert_eq!(node.ask("GET", "/v1/mode", &[], "").json()["mode"], mode);
        assert_eq!(node.ask("PUT", ADA, &[], "2").json()["code"], code);
    }
    node.ask("POST", "/v1/mode", &[], "{\"mode\":\"normal\"}").is(200, "");
    assert_eq!(node.stop().0, Some(0));
    let node = Served::start(&path);
    node.ask("PUT", ADA, &[], "2").is(200, "");
}

#[test]
fn users_may_ask_so_often_store_so_much_and_delete_many_only_if_they_mean_it() {
    let place = Place::new();
    let text =
        "[limits]\nrequests_per_second = 5\nstorage_bytes = '1 MiB'\ndeletes_per_batch = 2\n";
    let node = with_settings(&place, text);
    let deletes = "{\"op\":\"delete\",\"key\":\"a\"}\n".repeat(3);
    node.ask("POST", "/v1/batch", &[], &deletes).is(400, "BulkDelete");
    node.ask("POST", "/v1/batch", &["esker-deletes: 3"], &deletes).is(200, "");
    let refused = (0..400).map(|_| node.ask("GET", ADA, &[], "")).find(|asked| asked.status == 429);
    let refused = refused.unwrap().is(429, "RateLimited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    node.ask("GET", "/health/ready", &[], "").is(200, "");
    node.ask("GET", "/v1/mode", &[], "").is(200, "");

    let pause = || std::thread::sleep(std::time::Duration::from_millis(300));
    let large = "x".repeat(300_000);
    let stored = |n: u32| {
        pause();
        node.ask("PUT", &format!("/v1/keyspaces/default/records/{n}"), &[], &large)
    };
    let refused = (0..50).map(stored).find(|asked| asked.status == 403).unwrap();
    refused.is(403, "QuotaExceeded");
    pause();
    node.ask("DELETE", ADA, &[], "").is(200, "");
}

#[test]
fn the_log_tells_more_when_it_is_told_to_and_every_change_is_in_the_audit() {
    let place = Place::new();
    let audit = place.path("audit.log");
    let node = with_settings(&place, &format!("[log]\naudit_file = {audit:?}\n"));
    assert_eq!(node.ask("GET", "/v1/log", &[], "").json()["level"], "error");
    let body = "{\"level\":\"debug\",\"filter\":\"esker=warn\"}";
    node.ask("POST", "/v1/log", &[], body).is(200, "");
    assert_eq!(node.ask("GET", "/v1/log", &[], "").json()["filter"], "esker=warn");
    let levels = ["loud", "off", "3"].map(|level| format!("{{\"level\":\"{level}\"}}"));
    let others = ["{\"filter\":\"a=b=c\"}", "{\"level\":1}", "{\"lvl\":\"info\"}"];
    for bad in levels.iter().map(String::as_str).chain(others) {
        assert_eq!(node.ask("POST", "/v1/log", &[], bad).status, 400, "{bad}");
    }
    assert_eq!(node.ask("GET", "/v1/log", &[], "").json()["level"], "debug");

    let before = node.ask("GET", "/v1/timeouts", &[], "").json();
    node.ask("POST", "/v1/timeouts", &[], "{\"drain\":1234,\"close\":0}").is(400, "InvalidInput");
    node.ask("POST", "/v1/timeouts", &[], "{\"drain\":1234,\"nap\":1}").is(400, "InvalidInput");
    assert_eq!(node.ask("GET", "/v1/timeouts", &[], "").json(), before, "all or none");
    let after = node.ask("POST", "/v1/timeouts", &[], "{\"drain\":1234}").is(200, "").json();
    assert_eq!((&after["drain"], &after["close"]), (&1234.into(), &before["close"]));
    let waiting = node.ask("POST", "/v1/reload", &[], "").is(200, "").json();
    assert_eq!(waiting["waiting"], serde_json::json!([]));
    assert_eq!(node.ask("GET", "/v1/log", &[], "").json()["level"], "error", "as configured");
    node.ask("PUT", ADA, &[], "1").is(200, "");
    assert_eq!(node.stop().0, Some(0));

    let text = fs::read_to_string(&audit).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let asked = |operation: &str, status: u64| {
        let is_it = |line: &&serde_json::Value| {
            let fields = &line["fields"];
            fields["operation"] == operation && fields["status"] == status
        };
        let found: Vec<_> = lines.iter().filter(is_it).collect();
        assert!(found.iter().all(|line| line["fields"]["caller"] == "loopback"), "{found:?}");
        found.len()
    };
    assert_eq!((asked("/v1/log", 200), asked("/v1/log", 400)), (1, 6));
    assert_eq!((asked("/v1/timeouts", 200), asked("/v1/reload", 200)), (1, 1));
    assert!(!text.contains("ada"), "{text}");
    let drain = |line: &serde_json::Value| line["fields"]["name"] == "drain";
    assert_eq!(lines.iter().filter(|line| drain(line)).count(), 1, "{text}");
}

#[test]
fn checkpoints_backups_and_scrubs_are_made_where_the_configuration_says() {
    let place = Place::new();
    let bare = Served::start(&place.path("data"));
    let checkpoint = |node: &Served, name: &str| {
        node.ask("POST", "/v1/checkpoint", &[], &format!("{{\"name\":{name:?}}}"))
    };
    checkpoint(&bare, "one").is(400, "NotConfigured");
    bare.ask("POST", "/v1/backup", &[], "").is(400, "NotConfigured");
    assert_eq!(bare.stop().0, Some(0));

    let (copies, store) = (place.path("copies"), place.path("store"));
    fs::create_dir(&copies).unwrap();
    let text = format!("[checkpoint]\nto = {copies:?}\n[backup]\nto = {store:?}\n");
    let node = with_settings(&place, &text);
    node.run("put ada 1815").ok();
    for bad in ["", ".", "..", "a/b", "/tmp/x", ".hidden", "a/", "./a"] {
        checkpoint(&node, bad).is(400, "InvalidInput");
    }
    let made = checkpoint(&node, "one").is(200, "").json();
    assert_eq!(made["path"], copies.join("one").to_str().unwrap());
    checkpoint(&node, "one").is(409, "AlreadyExists");
    let copy =
        esker(["get".as_ref(), "--path".as_ref(), copies.join("one").as_os_str(), "ada".as_ref()]);
    assert_eq!(copy.ok().text(), "1815\n");

    let full = node.ask("POST", "/v1/backup?kind=full", &[], "").is(200, "").json();
    assert_eq!(full["kind"], "full");
    node.ask("POST", "/v1/backup?kind=half", &[], "").is(400, "InvalidInput");
    node.ask("POST", "/v1/backup", &[], "{\"kind\":\"full\"}").is(400, "InvalidInput");
    node.ask("POST", "/v1/backup", &[], "").is(200, "");
    let all = node.ask("GET", "/v1/backups", &[], "").is(200, "").json();
    let has_full =
        |one: &serde_json::Value| one["number"] == full["number"] && one["kind"] == "full";
    assert!(all["backups"].as_array().unwrap().iter().any(has_full), "{all}");
    assert_eq!(all["damaged"], serde_json::json!([]));
    let scrubbed = node.ask("POST", "/v1/scrub", &[], "").is(200, "").json();
    assert_eq!(scrubbed["findings"], serde_json::json!([]));
}

#[test]
fn a_store_that_fails_again_and_again_is_left_alone_until_the_breaker_is_reset() {
    let place = Place::new();
    let store = place.path("store");
    fs::write(&store, "not a directory").unwrap();
    let node = with_settings(&place, &format!("[backup]\nto = {store:?}\n"));
    let mut last = String::new();
    for _ in 0..10 {
        let failed = node.ask("POST", "/v1/backup", &[], "");
        assert!(failed.status >= 400, "{}", failed.status);
        last = failed.json()["code"].as_str().unwrap().to_owned();
        if last == "BreakerOpen" {
            break;
        }
    }
    assert_eq!(last, "BreakerOpen");
    let state = |node: &Served| node.ask("GET", "/v1/breakers", &[], "").json()["backup"].clone();
    assert_eq!(state(&node)["state"], 1);
    fs::remove_file(&store).unwrap();
    node.ask("POST", "/v1/breakers/nobody/reset", &[], "").is(404, "BreakerNotFound");
    node.ask("POST", "/v1/breakers/backup/reset", &[], "").is(200, "");
    assert_eq!(state(&node)["state"], 0);
    node.ask("POST", "/v1/backup", &[], "").is(200, "");
}

#[test]
fn with_tokens_nobody_is_answered_without_one_but_probes() {
    let place = Place::new();
    let made = esker(["config", "token", "ada", "--output", "json"]).ok().json();
    let (token, hash) =
        (made[0]["token"].as_str().unwrap(), made[0]["tokens"][0].as_str().unwrap());
    let secret = place.path("secret");
    fs::write(&secret, "a-secret-of-a-cluster\n").unwrap();
    let audit = place.path("audit.log");
    let file = place.path("node.toml");
    let with = |tokens: &str| {
        let text = format!(
            "[auth]\ntokens = [{tokens}]\ntoken_file = {secret:?}\n[log]\naudit_file = {audit:?}\n"
        );
        fs::write(&file, text).unwrap();
    };
    with(&format!("{hash:?}"));
    let data = place.path("data");
    let words = ["serve", "--path", data.to_str().unwrap(), "--config", file.to_str().unwrap()];
    let words = words.into_iter().chain(["--http", "0.0.0.0:0", "--listen", "127.0.0.1:0"]);
    let mut node = Served::of(shell::start(words));
    node.http = node.http.replace("0.0.0.0", "127.0.0.1");

    let named = "GET /health/ready HTTP/1.1\r\nhost: node.example\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(&node.http, named.as_bytes()).status, 200);
    let refused = node.ask("GET", ADA, &[], "").is(401, "Unauthenticated");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    for path in ["/metrics", "/health", "/openapi.json", "/v1/stats", "/nothing"] {
        node.ask("GET", path, &[], "").is(401, "Unauthenticated");
    }
    let ada = format!("authorization: Bearer {token}");
    node.ask("PUT", ADA, &[&ada], "1").is(200, "");
    let file_token = "authorization: Bearer a-secret-of-a-cluster";
    node.ask("POST", "/v1/flush", &[file_token], "").is(200, "");
    node.ask("POST", "/v1/flush", &[], "").is(401, "Unauthenticated");
    let run = |token: &str| {
        let mut command = Command::new(ESKER);
        command.args(["get", "--url", &node.url(), "ada"]).env("ESKER_TOKEN", token);
        command.output().unwrap()
    };
    assert_eq!(run(token).stdout, b"1\n");
    assert_eq!(run("wrong").status.code(), Some(6));

    with("");
    node.ask("POST", "/v1/reload", &[file_token], "").is(200, "");
    node.ask("GET", ADA, &[&ada], "").is(401, "Unauthenticated");
    let slow = request("GET", ADA, &[file_token], b"");
    assert_eq!(exchange(&node.http, &slow).status, 200);
    assert_eq!(node.stop().0, Some(0));
    let text = fs::read_to_string(&audit).unwrap();
    assert!(text.contains("\"caller\":\"file\""), "{text}");
    // Strangers can not push out of it what operators have done.
    let flushes =
        text.lines().filter(|line| line.contains("/v1/flush") || line.contains("stranger"));
    assert_eq!(flushes.count(), 1, "{text}");
    assert!(!text.contains("a-secret") && !text.contains(token), "{text}");
}

/// What it listens at changes at its next start only, so its tokens have to stay as well.
#[test]
fn a_node_that_others_reach_keeps_its_tokens_whatever_its_file_says_now() {
    let place = Place::new();
    let (data, secret, file) = (place.path("data"), place.path("secret"), place.path("node.toml"));
    fs::write(&secret, "a-secret-of-a-cluster").unwrap();
    let path = format!("path = {data:?}\nlisten = '127.0.0.1:0'\n");
    let open = format!("{path}http = '0.0.0.0:0'\n[auth]\ntoken_file = {secret:?}\n");
    fs::write(&file, &open).unwrap();
    let mut node = Served::of(shell::start(["serve", "--config", file.to_str().unwrap()]));
    node.http = node.http.replace("0.0.0.0", "127.0.0.1");
    let token = ["authorization: Bearer a-secret-of-a-cluster"];
    fs::write(&file, format!("{path}http = '127.0.0.1:0'\n")).unwrap();
    let refused = node.ask("POST", "/v1/reload", &token, "").is(400, "ConfigInvalid").json();
    assert!(refused["message"].as_str().unwrap().contains("without tokens"), "{refused}");
    node.ask("GET", ADA, &[], "").is(401, "Unauthenticated");
    fs::write(&file, &open).unwrap();
    node.ask("POST", "/v1/reload", &token, "").is(200, "");
    node.ask("GET", ADA, &token, "").is(404, "NotFound");
}

/// What `ask` gives once it is as wanted.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1200 {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    unreachable!("it never came");
}

/// A peer at whose address somebody listens and never answers: its name, and what keeps the port.
fn silent_peer() -> (String, String, std::net::UdpSocket) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = "000102030405060708090a0b0c0d0eff";
    (name.to_owned(), format!("{name}@{}", socket.local_addr().unwrap()), socket)
}

#[test]
fn how_long_a_peer_may_take_changes_while_the_node_runs() {
    let place = Place::new();
    let (_, peer, _silence) = silent_peer();
    let text = format!("peers = [{peer:?}]\n[timeouts]\npeer_dial_ms = 41\npeer_hello_ms = 43\n");
    let node = with_settings(&place, &text);
    let timeouts = node.ask("GET", "/v1/timeouts", &[], "").json();
    assert_eq!((&timeouts["peer_dial"], &timeouts["peer_hello"]), (&41.into(), &43.into()));
    assert_eq!(timeouts["backup"], 600_000);
    let says = |words: &str| {
        let peers = node.ask("GET", "/v1/peers", &[], "").json();
        let error = peers[0]["lastError"]["message"].as_str().unwrap_or_default().to_owned();
        error.contains(words).then_some(())
    };
    until(|| says("within 41 ms"));
    node.ask("POST", "/v1/timeouts", &[], "{\"peer_dial\":57}").is(200, "");
    until(|| says("within 57 ms"));
}

#[test]
fn the_breaker_of_a_peer_is_set_listed_and_reset_with_the_others() {
    let place = Place::new();
    let (name, peer, _silence) = silent_peer();
    let text = |failures: u32| {
        format!(
            "peers = [{peer:?}]\n[timeouts]\npeer_dial_ms = 20\n\
             [breakers]\npeer_failures = {failures}\npeer_pause_ms = 86400000\n"
        )
    };
    let node = with_settings(&place, &text(1));
    let name = format!("peer-{name}");
    let open_after = |failures: u32| {
        until(|| {
            let all = node.ask("GET", "/v1/breakers", &[], "").is(200, "").json();
            let found = &all[&name];
            (found["state"] == 1).then(|| assert_eq!(found["failures"], failures, "{found}"))
        });
    };
    open_after(1);
    let reset = format!("/v1/breakers/{name}/reset");
    let after = node.ask("POST", &reset, &[], "").is(200, "").json();
    assert!(after[&name]["failures"].as_u64().unwrap() >= 1, "{after}");
    until(|| {
        let all = node.ask("GET", "/v1/breakers", &[], "").json();
        (all[&name]["failures"] == 2).then_some(())
    });
    fs::write(place.path("node.toml"), text(3)).unwrap();
    let reloaded = node.ask("POST", "/v1/reload", &[], "").is(200, "").json();
    assert_eq!(reloaded["waiting"], serde_json::json!([]));
    node.ask("POST", &reset, &[], "").is(200, "");
    open_after(5);
    let nobody = "/v1/breakers/peer-ffffffffffffffffffffffffffffffff/reset";
    node.ask("POST", nobody, &[], "").is(404, "BreakerNotFound");
}

/// One breaker for backups, whoever asks for them.
#[test]
fn a_schedule_that_fails_opens_the_breaker_that_operators_meet() {
    let place = Place::new();
    let store = place.path("store");
    fs::write(&store, "not a directory").unwrap();
    // Two rounds of three tries.
    let breakers = "[breakers]\nfailures = 6\npause_ms = 86400000\n";
    let text = format!("[backup]\nto = {store:?}\nevery_seconds = 1\n{breakers}");
    let node = with_settings(&place, &text);
    let breaker = || node.ask("GET", "/v1/breakers", &[], "").json()["backup"].clone();
    until(|| (breaker()["state"] == 1).then_some(()));
    let metrics = node.ask("GET", "/metrics", &[], "").is(200, "").body;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("esker_breaker_state{breaker=\"backup\"} 1"), "{metrics}");
    node.ask("POST", "/v1/backup", &[], "").is(503, "BreakerOpen");

    fs::remove_file(&store).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let waits = breaker();
    assert_eq!((&waits["failures"], &waits["rejected"]), (&6.into(), &1.into()), "it waits");
    assert!(!store.exists(), "it is left alone");
    node.ask("POST", "/v1/breakers/backup/reset", &[], "").is(200, "");
    until(|| (breaker()["successes"].as_u64()? >= 1).then_some(()));
    assert!(store.is_dir());
    node.ask("POST", "/v1/backup", &[], "").is(200, "");
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn the_schedule_of_backups_and_what_health_checks_call_short_change_while_it_runs() {
    let place = Place::new();
    let (file, [one, other]) =
        (place.path("node.toml"), ["one", "other"].map(|name| place.path(name)));
    let node = with_settings(&place, "");
    node.run("put ada 1815").ok();
    let reload = |text: String| {
        fs::write(&file, text).unwrap();
        let reloaded = node.ask("POST", "/v1/reload", &[], "").is(200, "").json();
        assert_eq!(reloaded["waiting"], serde_json::json!([]));
    };
    let kinds = || {
        let listed = node.ask("GET", "/v1/backups", &[], "");
        let kind = |backup: &serde_json::Value| backup["kind"].as_str().unwrap().to_owned();
        let all = (listed.status == 200).then(|| listed.json()["backups"].clone())?;
        Some(all.as_array().unwrap().iter().map(kind).collect())
    };
    reload(format!("[backup]\nto = {one:?}\n"));
    until(|| kinds().filter(|kinds: &Vec<String>| *kinds == ["incremental"]));
    // As SIGHUP does it.
    fs::write(
        &file,
        format!("[backup]\nto = {other:?}\nkind = 'full'\nevery_seconds = 1\nkeep = 2\n"),
    )
    .unwrap();
    node.signal(rustix::process::Signal::HUP);
    until(|| kinds().filter(|kinds| kinds.len() >= 2 && kinds.iter().all(|kind| kind == "full")));
    until(|| {
        let all = node.ask("GET", "/v1/backups", &[], "").json();
        (all["backups"][0]["number"].as_u64()? > 1).then_some(()) // it keeps two
    });

    let checks = || node.ask("GET", "/health/detailed", &[], "").json()["checks"].clone();
    let limits = |checks: &serde_json::Value| {
        ["cpu", "memory", "disk"].map(|name| checks[name]["details"]["limit_ratio"].as_f64())
    };
    until(|| (limits(&checks()) == [Some(0.8), Some(0.85), Some(0.9)]).then_some(()));
    // A day between two looks: they look at once when that changes, and again after a tenth of a second.
    let health = |every: u32| {
        format!(
            "[health]\nevery_ms = {every}\ncpu_percent = 71\nmemory_percent = 72\ndisk_percent = 73\n"
        )
    };
    reload(health(86_400_000));
    until(|| (limits(&checks()) == [Some(0.71), Some(0.72), Some(0.73)]).then_some(()));
    reload(health(100));
    let (mut age, mut looks) = (0, 0);
    until(|| {
        let before = std::mem::replace(&mut age, checks()["disk"]["ageMs"].as_u64()?);
        looks += u32::from(age < before);
        (looks >= 3).then_some(())
    });
    let stays = checks()["backups"]["message"].clone();
    assert_eq!(stays, "no backups are made by themselves");
}
