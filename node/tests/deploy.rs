//! What `node/deploy` says of a node is so: its metrics, routes, commands, settings and runbooks exist.
//!
//! The tools of those files are run by `node/deploy/check`; what they can not know is here.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, Served, esker};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(folder().join(path)).unwrap_or_else(|e| unreachable!("{path}: {e}"))
}

/// All files below `node/deploy` that are text, with their content.
fn files() -> Vec<(PathBuf, String)> {
    let (mut all, mut folders) = (Vec::new(), vec![folder()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                all.push((path, text));
            }
        }
    }
    assert!(all.len() >= 18, "{}", all.len());
    all
}

/// The words of `text` that start with `prefix` and consist of characters that `is_inside` takes.
fn words(text: &str, prefix: &str, is_inside: impl Fn(char) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let is_begin = !text[..at].ends_with(&is_inside);
        let rest = &text[at..];
        let end = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
        if is_begin && end > prefix.len() {
            found.insert(rest[..end].to_owned());
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The documented metrics: name, kind and labels.
fn metrics() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`').to_owned();
        let kind = cells.next()?.trim().to_owned();
        let labels = cells.next()?.split(',').map(|label| label.trim().to_owned());
        Some((name, (kind, labels.filter(|label| !label.is_empty()).collect())))
    };
    let all: BTreeMap<_, _> = text("METRICS.md").lines().filter_map(row).collect();
    assert!(all.len() > 40);
    all
}

/// Names of metrics in `text` that a node does not show, or not with such samples.
fn unknown_metrics(text: &str) -> Vec<String> {
    let known = metrics();
    let is_known = |name: &str| match known.get(name) {
        Some((kind, _)) => kind != "histogram",
        None => ["_bucket", "_sum", "_count"].iter().any(|suffix| {
            let base = name.strip_suffix(suffix).and_then(|base| known.get(base));
            base.is_some_and(|(kind, _)| kind == "histogram")
        }),
    };
    let named = ["esker_", "process_"].map(|prefix| words(text, prefix, is_name));
    named.into_iter().flatten().filter(|name| !is_known(name)).collect()
}

/// Gauges whose rate is asked for, which says nothing.
fn rates_of_gauges(text: &str) -> Vec<String> {
    let known = metrics();
    let rated = ["rate(", "increase(", "resets("].iter().flat_map(|call| text.split(*call).skip(1));
    let rated = rated.map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or_default().to_owned());
    rated.filter(|name| known.get(name).is_some_and(|(kind, _)| kind == "gauge")).collect()
}

/// The expressions of the dashboard.
fn expressions(dashboard: &serde_json::Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap()).collect()
}

fn dashboard() -> serde_json::Value {
    serde_json::from_str(&text("grafana/esker.json")).unwrap()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let (rules, dashboard) = (text("prometheus/rules.yml"), dashboard());
    // The tests of the rules, too: a series that no node has proves nothing.
    let series = text("prometheus/rules.test.yml");
    let series: String =
        series.lines().filter(|line| line.contains("series:")).collect::<Vec<_>>().join("\n");
    let panels = expressions(&dashboard).join("\n");
    for (what, text) in [("rules", rules), ("tests of the rules", series), ("dashboard", panels)] {
        let unknown = unknown_metrics(&text);
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
        let rates = rates_of_gauges(&text);
        assert!(rates.is_empty(), "rates of gauges in {what}: {rates:?}");
    }
    assert_eq!(unknown_metrics("rate(esker_made_up_total[5m])"), ["esker_made_up_total"]);
    let bucket = "esker_engine_status_bucket";
    assert_eq!(unknown_metrics(bucket), [bucket], "a gauge has no buckets");
    let bare = "esker_log_sync_duration_seconds";
    assert_eq!(unknown_metrics(bare), [bare], "a histogram has no sample of its own name");
    assert_eq!(rates_of_gauges("rate(esker_engine_status[5m])"), ["esker_engine_status"]);
}

#[test]
fn labels_that_are_chosen_or_grouped_by_exist() {
    let known: BTreeSet<String> = metrics().into_values().flat_map(|(_, labels)| labels).collect();
    let always = ["instance", "job", "le"].map(str::to_owned);
    let known: BTreeSet<String> = known.into_iter().chain(always).collect();
    let dashboard = dashboard();
    let all = [expressions(&dashboard).join("\n"), text("prometheus/rules.yml")].join("\n");
    let mut seen = 0;
    for group in all.split("by (").skip(1).chain(all.split(" on (").skip(1)) {
        let group = group.split(')').next().unwrap();
        for label in group.split(',').map(str::trim) {
            assert!(known.contains(label), "{label} in {group}");
            seen += 1;
        }
    }
    for selector in all.split('{').skip(1).filter(|rest| rest.starts_with(is_name)) {
        let selector = selector.split('}').next().unwrap();
        for matcher in selector.split(',').map(str::trim) {
            let label: String = matcher.chars().take_while(|c| is_name(*c)).collect();
            assert!(known.contains(&label), "{label} in {{{selector}}}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

/// Each metric with a label and the value that has to be equal, of all selectors in `text`.
fn chosen_values(text: &str) -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for (at, _) in text.match_indices('{') {
        let name: String = text[..at].chars().rev().take_while(|c| is_name(*c)).collect();
        let name: String = name.chars().rev().collect();
        let selector = text[at + 1..].split('}').next().unwrap();
        for matcher in selector.split(',').map(str::trim).filter(|_| name.starts_with("esker_")) {
            let Some((label, value)) = matcher.split_once('=') else { continue };
            let value = value.replace('\\', "");
            let is_exact = value.starts_with('"') && is_name(label.chars().last().unwrap_or('!'));
            if is_exact && !["instance", "job"].contains(&label) {
                all.insert((name.clone(), label.to_owned(), value.trim_matches('"').to_owned()));
            }
        }
    }
    all
}

/// A value that no node shows chooses nothing, and its alert never fires.
#[test]
fn values_of_labels_that_are_chosen_are_shown_by_a_node() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    node.run("put k v").ok();
    let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let shown = String::from_utf8(shell::exchange(&node.http, request).body).unwrap();
    let is_shown = |(metric, label, value): &(String, String, String)| {
        let pair = format!("{label}=\"{value}\"");
        shown.lines().any(|line| line.starts_with(&format!("{metric}{{")) && line.contains(&pair))
    };
    let dashboard = dashboard();
    let chosen = chosen_values(
        &[expressions(&dashboard).join("\n"), text("prometheus/rules.yml")].join("\n"),
    );
    for (label, value) in
        [("stage", "switch the root"), ("remedy", "reopen"), ("op", "transaction")]
    {
        assert!(
            chosen.iter().any(|(_, l, v)| (l.as_str(), v.as_str()) == (label, value)),
            "{label}"
        );
    }
    let unknown: Vec<_> = chosen.iter().filter(|one| !is_shown(one)).collect();
    assert!(unknown.is_empty(), "no node shows {unknown:?}");
    let made_up = chosen_values("rate(esker_operations_total{op=\"dance\"}[5m])");
    assert_eq!(made_up.iter().filter(|one| is_shown(one)).count(), 0);
    assert_eq!(made_up.len(), 1);
}

/// The names behind `field` in YAML.
fn fields<'a>(yaml: &'a str, field: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.trim().strip_prefix(field).map(str::trim);
    yaml.lines().filter_map(value).collect()
}

#[test]
fn every_alert_is_tested_and_leads_to_a_runbook_that_names_it() {
    let (rules, tests) = (text("prometheus/rules.yml"), text("prometheus/rules.test.yml"));
    let runbooks = text("RUNBOOKS.md");
    let alerts = fields(&rules, "- alert:");
    let leads = fields(&rules, "runbook:");
    assert!(alerts.len() >= 20 && alerts.len() == leads.len(), "{alerts:?}");
    assert_eq!(fields(&rules, "summary:").len(), alerts.len());
    assert_eq!(fields(&rules, "labels: { severity:").len(), alerts.len());
    let section = |title: &str| title.to_lowercase().replace(' ', "-");
    let sections: BTreeMap<String, &str> = runbooks
        .split("\n## ")
        .skip(1)
        .map(|text| (section(text.lines().next().unwrap()), text))
        .collect();
    for (alert, lead) in alerts.iter().zip(&leads) {
        let anchor = lead.strip_prefix("node/deploy/RUNBOOKS.md#").expect("a runbook");
        let named = format!("`{alert}`");
        let found = sections.get(anchor).is_some_and(|text| text.contains(&named));
        assert!(found, "{alert} leads to {lead}, which does not name it");
        let fires = [
            format!("alertname=\"{alert}\",alertstate=\"firing\""),
            format!("- alertname: {alert}\n"),
        ];
        assert!(fires.iter().any(|line| tests.contains(line)), "no test shows {alert} firing");
    }
    let named = words(&runbooks, "Esker", is_name);
    let gone: Vec<_> = named.iter().filter(|name| !alerts.contains(&name.as_str())).collect();
    assert!(gone.is_empty(), "the runbooks name alerts that are none: {gone:?}");
    for link in runbooks.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        assert!(sections.contains_key(anchor), "a link leads to #{anchor}");
    }
    for (title, text) in &sections {
        let has = |words: &str| text.contains(words);
        assert!(has("\n1. "), "{title} says what to do");
        assert!(has("Stop and ask"), "{title} says when to stop");
    }
}

#[test]
fn probes_and_gates_ask_for_paths_that_a_node_answers() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
    let mut paths = BTreeSet::new();
    for (file, text) in files().iter().filter(|(file, _)| !file.ends_with("rules.test.yml")) {
        for host in ["127.0.0.1:8080/", "127.0.0.1:9180/", "location = /", "$U/"] {
            for rest in text.split(host).skip(1) {
                let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
                paths.insert((format!("/{}", &rest[..end]), file.clone()));
            }
        }
    }
    for (path, file) in &paths {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let status = shell::exchange(&node.http, request.as_bytes()).status;
        assert_eq!(status, 200, "{path} in {}", file.display());
    }
    let asked: BTreeSet<&str> = paths.iter().map(|(path, _)| path.as_str()).collect();
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert!(asked.contains(path), "nobody asks {path}: {asked:?}");
    }
}

/// The lines of `esker` in `text`, in code of any kind: words behind `esker` up to the end of the code.
fn commands(text: &str) -> BTreeSet<Vec<String>> {
    let code = text.lines().flat_map(|line| match line.contains('`') {
        true => line.split('`').skip(1).step_by(2).collect::<Vec<_>>(),
        false => vec![line.trim()],
    });
    let behind = |code: &str| {
        let code = code.trim_start_matches(['#', ' ']);
        let at = ["esker ", "sudo -u esker esker ", "docker compose exec ", "kubectl exec "]
            .iter()
            .find(|start| code.starts_with(**start))?;
        let rest = if at.starts_with("esker") { code } else { &code[code.find(" esker ")? + 1..] };
        let rest = rest.strip_prefix("esker esker ").or(rest.strip_prefix("esker "))?;
        Some(rest.split_whitespace().map(str::to_owned).collect())
    };
    code.filter_map(behind).collect()
}

#[test]
fn every_command_of_the_runbooks_is_one_with_its_options() {
    let compose = text("compose/compose.yaml");
    let all = [text("RUNBOOKS.md"), compose, text("kubernetes/esker.yaml")].join("\n");
    let commands = commands(&all);
    assert!(commands.len() >= 20, "{commands:#?}");
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for command in commands {
        let is_nested = ["peers", "backup", "config", "node"].contains(&command[0].as_str());
        let name = command[..if is_nested { 2 } else { 1 }].to_vec();
        let ask =
            || esker(name.iter().map(String::as_str).chain(["--help"])).ok().text().to_owned();
        let help = helps.entry(name.clone()).or_insert_with(ask);
        for option in command.iter().filter(|word| word.starts_with("--")) {
            let found = help.split([' ', '\n', ',']).any(|word| word == option);
            assert!(found, "`esker {}` has no {option}", command.join(" "));
        }
    }
}

#[test]
fn nodes_start_with_the_settings_that_are_shipped() {
    let manifest = text("kubernetes/esker.yaml");
    let inner = manifest.split("  node.toml: |\n").nth(1).unwrap();
    let inner: String =
        inner.lines().map_while(|line| line.strip_prefix("    ")).collect::<Vec<_>>().join("\n");
    for (name, settings) in [("systemd", text("systemd/node.toml")), ("kubernetes", inner)] {
        let place = Place::new();
        let data = place.path("data").display().to_string();
        // Only places are other ones here.
        let mut settings = settings;
        for (key, value) in [("path", &*data), ("listen", "127.0.0.1:0"), ("http", "127.0.0.1:0")] {
            let begin = format!("\n{key} = \"");
            let text = format!("\n{settings}");
            let (before, behind) = text.split_once(&begin).expect(name);
            let rest = behind.split_once('"').expect(name).1;
            settings = format!("{before}{begin}{value}\"{rest}");
        }
        let file = place.path("node.toml");
        std::fs::write(&file, settings).unwrap();
        let node = Served::of(shell::start(["serve", "--config", &file.display().to_string()]));
        node.run("put k v").ok();
    }
}

/// A service that systemd starts again in vain hides what is wrong; one that it leaves alone for nothing is down.
#[test]
fn a_service_is_started_again_unless_a_restart_can_not_help() {
    let unit = text("systemd/esker.service");
    let [codes] = fields(&unit, "RestartPreventExitStatus=")[..] else { unreachable!("one line") };
    let codes: BTreeSet<i32> = codes.split(' ').map(|code| code.parse().unwrap()).collect();

    let place = Place::new();
    let (data, file) = (place.path("data"), place.path("node.toml"));
    let serve = |more: &[&str]| {
        let words = ["serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
        esker(words.iter().chain(more)).code.unwrap()
    };
    std::fs::write(&file, "lag_threshold_ms = 'long'\n").unwrap();
    let (path, file) = (data.display().to_string(), file.display().to_string());
    let mut helpless =
        vec![serve(&["--loud"]), serve(&[]), serve(&["--path", &path, "--config", &file])];
    let holder = Served::start(&data);
    helpless.push(serve(&["--path", &path]));
    holder.kill();
    for name in ["CURRENT", "CURRENT.copy"] {
        std::fs::write(data.join(name), "nonsense").unwrap();
    }
    helpless.push(serve(&["--path", &path]));
    assert_eq!(helpless, [2, 2, 5, 6, 8]);
    assert!(helpless.iter().all(|code| codes.contains(code)), "{codes:?}");
    // What is not told apart, the disk, and a bug may be over.
    for code in [0, 1, 7, 99] {
        assert!(!codes.contains(&code), "{code}");
    }
}

#[test]
fn what_is_written_twice_is_the_same() {
    let gate = text("gate/gate.conf");
    let manifest = text("kubernetes/esker.yaml");
    let shipped = manifest.split("  gate.conf: |\n").nth(1).unwrap().split("\n---").next().unwrap();
    let shipped: Vec<&str> =
        shipped.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    assert_eq!(shipped.join("\n").trim_end(), gate.trim_end());

    let toolchain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rust-toolchain.toml");
    let toolchain: toml::Table = std::fs::read_to_string(toolchain).unwrap().parse().unwrap();
    let version = toolchain["toolchain"]["channel"].as_str().unwrap();
    let docker = text("Dockerfile");
    assert!(docker.contains(&format!("FROM rust:{version}-")), "the image of rust {version}");
    assert!(docker.contains(&format!("RUSTUP_TOOLCHAIN={version}\n")));

    let image = format!("image: esker:{}", env!("CARGO_PKG_VERSION"));
    for file in ["compose/compose.yaml", "kubernetes/esker.yaml"] {
        assert!(text(file).contains(&image), "{file}: {image}");
    }
}

/// Everything that Grafana would stumble over, or show wrongly.
fn faults(dashboard: &serde_json::Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut wrong = |what: String, is_so: bool| {
        if is_so {
            faults.push(what);
        }
    };
    for key in ["uid", "title"] {
        wrong(format!("no {key}"), dashboard[key].as_str().is_none_or(str::is_empty));
    }
    wrong("an old schema".into(), dashboard["schemaVersion"].as_u64() < Some(36));
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let variables: BTreeSet<&str> = variables.filter_map(|of| of["name"].as_str()).collect();
    let empty = Vec::new();
    let panels = dashboard["panels"].as_array().unwrap_or(&empty);
    wrong("no panels".into(), panels.is_empty());
    let (mut ids, mut titles, mut cells) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        let kind = panel["type"].as_str().unwrap_or_default();
        wrong(format!("{title}: no title, or twice"), title.is_empty() || !titles.insert(title));
        wrong(
            format!("{title}: no id, or twice"),
            !panel["id"].as_u64().is_some_and(|id| ids.insert(id)),
        );
        wrong(format!("{title}: a {kind}"), !["row", "stat", "timeseries"].contains(&kind));
        let place = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap_or(99));
        let [x, y, w, h] = place;
        wrong(format!("{title}: at {place:?}"), w == 0 || h == 0 || x + w > 24 || h > 30);
        for cell in (x..x + w.min(24)).flat_map(|x| (y..y + h.min(30)).map(move |y| (x, y))) {
            wrong(format!("{title}: over another at {cell:?}"), !cells.insert(cell));
        }
        if kind != "row" {
            wrong_panel(panel, title, &variables, &mut wrong);
        }
    }
    faults
}

/// The same for a panel that shows numbers.
fn wrong_panel(
    panel: &serde_json::Value,
    title: &str,
    variables: &BTreeSet<&str>,
    wrong: &mut impl FnMut(String, bool),
) {
    const UNITS: [&str; 7] = ["none", "s", "ops", "reqps", "percentunit", "bytes", "Bps"];
    let source = serde_json::json!({ "type": "prometheus", "uid": "${datasource}" });
    let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
    wrong(format!("{title}: unit {unit:?}"), !UNITS.contains(&unit));
    let description = panel["description"].as_str().unwrap_or_default();
    wrong(format!("{title}: says nothing"), description.is_empty());
    wrong(format!("{title}: source"), panel["datasource"] != source);
    let empty = Vec::new();
    let targets = panel["targets"].as_array().unwrap_or(&empty);
    wrong(format!("{title}: asks nothing"), targets.is_empty());
    let mut names = BTreeSet::new();
    for target in targets {
        let name = target["refId"].as_str().unwrap_or_default();
        wrong(format!("{title}: target {name:?}"), name.is_empty() || !names.insert(name));
        wrong(format!("{title}: source of {name}"), target["datasource"] != source);
        let expression = target["expr"].as_str().unwrap_or_default();
        wrong(format!("{title}: {name} asks nothing"), expression.is_empty());
        for variable in expression.split('$').skip(1) {
            let variable: String = variable.chars().take_while(|c| is_name(*c)).collect();
            let is_known = variable == "__rate_interval" || variables.contains(variable.as_str());
            wrong(format!("{title}: ${variable}"), !is_known);
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_reads() {
    let good = dashboard();
    assert_eq!(faults(&good), Vec::<String>::new());
    for (place, value) in [
        ("/uid", serde_json::json!("")),
        ("/schemaVersion", serde_json::json!(16)),
        ("/templating/list/1/name", serde_json::json!("node")),
        ("/panels/3/id", good["panels"][2]["id"].clone()),
        ("/panels/3/title", good["panels"][2]["title"].clone()),
        ("/panels/3/type", serde_json::json!("graph")),
        ("/panels/3/gridPos/x", serde_json::json!(20)),
        ("/panels/3/gridPos", good["panels"][2]["gridPos"].clone()),
        ("/panels/3/fieldConfig/defaults/unit", serde_json::json!("sceonds")),
        ("/panels/3/description", serde_json::json!("")),
        ("/panels/3/datasource/uid", serde_json::json!("abc123")),
        ("/panels/3/targets", serde_json::json!([])),
        ("/panels/7/targets/1/refId", serde_json::json!("A")),
        ("/panels/7/targets/1/expr", serde_json::json!("")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).expect(place) = value;
        assert!(!faults(&bad).is_empty(), "{place} may be anything");
    }
}
