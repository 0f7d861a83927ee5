//! Rules about manifests: who may depend on whom.

use super::Finding;

/// A crate of the workspace and those it may know, directly.
pub(crate) struct House {
    pub(crate) folder: &'static str,
    pub(crate) knows: &'static [&'static str],
    /// Those that its tests may know besides.
    pub(crate) tests_know: &'static [&'static str],
}

/// The arrows of the architecture. `wal` and `sstable` never meet; nobody below `node` and
/// `replication` knows a network.
pub(crate) const HOUSE: &[House] = &[
    House { folder: "base", knows: &[], tests_know: &[] },
    House { folder: "wal", knows: &["base"], tests_know: &[] },
    House { folder: "sstable", knows: &["base"], tests_know: &[] },
    // Its campaigns recover what whole databases leave behind.
    House { folder: "recovery", knows: &["base", "wal", "sstable"], tests_know: &["engine"] },
    House { folder: "engine", knows: &["base", "wal", "sstable", "recovery"], tests_know: &[] },
    // Its tests switch on its own simulated network.
    House { folder: "replication", knows: &["base", "engine"], tests_know: &["replication"] },
    House {
        folder: "node",
        knows: &["base", "recovery", "engine", "replication"],
        tests_know: &[],
    },
    House {
        folder: "benches",
        knows: &["base", "wal", "sstable", "engine", "replication"],
        // What a call of a breaker costs.
        tests_know: &["node"],
    },
    House {
        folder: "fuzz",
        knows: &["base", "wal", "sstable", "recovery", "engine", "replication", "fuzz"],
        tests_know: &[],
    },
];

/// Packages that are async, and whose users are.
pub(crate) const ASYNC: [&str; 2] = ["tokio", "quinn"];
/// Who may be async, and the benchmark that starts nodes.
pub(crate) const ASYNC_FOLDERS: [&str; 3] = ["replication/", "node/", "benches/"];

/// One name in a section of dependencies.
struct Dependency<'a> {
    name: &'a str,
    line: usize,
    is_of_tests: bool,
}

/// A `Cargo.toml`.
pub(crate) struct Manifest {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Manifest {
    /// The names in all sections of dependencies.
    fn dependencies(&self) -> Vec<Dependency<'_>> {
        let (mut is_inside, mut is_of_tests) = (false, false);
        let mut names = Vec::new();
        for (number, line) in self.text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()))
        {
            if let Some(section) = line.strip_prefix('[') {
                let section = section.trim_end_matches(']');
                is_inside = section.ends_with("dependencies");
                is_of_tests = section.contains("dev-dependencies");
                // [dependencies.name]
                let name = section.split_once("dependencies.").map(|(_, name)| name);
                names.extend(name.map(|name| Dependency { name, line: number, is_of_tests }));
            } else if is_inside && let Some((key, _)) = line.split_once('=') {
                let name = key.split('.').next().unwrap_or(key);
                names.push(Dependency { name: name.trim(), line: number, is_of_tests });
            }
        }
        names
    }
}

/// Dependencies of the house that the arrows do not allow.
pub(crate) fn against_arrows(manifest: &Manifest) -> Vec<Finding> {
    let folder = manifest.path.split('/').next().unwrap_or_default();
    let Some(house) = HOUSE.iter().find(|house| house.folder == folder) else {
        return vec![format!("{}: not a crate of the house", manifest.path)];
    };
    // A dependency may be named by folder or by package.
    let is_house = |name: &str| HOUSE.iter().find(|house| is_named(house, name));
    let against = |Dependency { name, line, is_of_tests }: &Dependency<'_>| {
        let other = is_house(name)?;
        let is_known = house.knows.contains(&other.folder)
            || *is_of_tests && house.tests_know.contains(&other.folder);
        (!is_known).then(|| format!("{}:{line}: {folder} must not know {name}", manifest.path))
    };
    manifest.dependencies().iter().filter_map(against).collect()
}

fn is_named(house: &House, name: &str) -> bool {
    let package = name.strip_prefix("esker-").unwrap_or(name);
    house.folder == package || (house.folder == "engine" && name == "esker")
}

/// Async packages where there is no async.
pub(crate) fn async_dependencies(manifest: &Manifest) -> Vec<Finding> {
    if ASYNC_FOLDERS.iter().any(|folder| manifest.path.starts_with(folder)) {
        return Vec::new();
    }
    let names = manifest.dependencies().into_iter();
    let is_async = |name: &str| ASYNC.iter().any(|package| name.starts_with(package));
    let findings = names.filter(|dependency| is_async(dependency.name));
    let describe = |Dependency { name, line, .. }| format!("{}:{line}: {name}", manifest.path);
    findings.map(describe).collect()
}

/// Libraries and binaries that `cargo bench` would run.
pub(crate) fn benched_targets(manifest: &Manifest) -> Vec<Finding> {
    let mut open = None;
    let mut findings = Vec::new();
    let end = [("[", 0)];
    let lines = manifest.text.lines().enumerate().map(|(at, line)| (line.trim(), at + 1));
    for (line, number) in lines.chain(end) {
        if line.starts_with('[') {
            let finding = |(section, at)| format!("{}:{at}: {section}", manifest.path);
            findings.extend(open.take().map(finding));
            open = matches!(line, "[lib]" | "[[bin]]").then_some((line, number));
        } else if line.replace(' ', "") == "bench=false" {
            open = None;
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str, text: &str) -> Manifest {
        Manifest { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn wal_and_sstable_may_not_meet() {
        let text = "[dependencies]\nbase.workspace = true\nsstable = { workspace = true }\n";
        assert_eq!(against_arrows(&manifest("wal/Cargo.toml", text)).len(), 1);
        let text = "[dev-dependencies.esker-wal]\npath = \"../wal\"\n";
        assert_eq!(against_arrows(&manifest("sstable/Cargo.toml", text)).len(), 1);
        let text = "[dependencies]\nbase.workspace = true\n[features]\nwal = []\n";
        assert_eq!(against_arrows(&manifest("sstable/Cargo.toml", text)), [""; 0]);
    }

    #[test]
    fn the_engine_may_not_know_what_is_above_it() {
        let text = "[target.'cfg(unix)'.dependencies]\nesker-replication = \"1\"\n";
        assert_eq!(against_arrows(&manifest("engine/Cargo.toml", text)).len(), 1);
    }

    #[test]
    fn only_tests_of_recovery_may_know_the_engine() {
        let text = "[dev-dependencies]\nengine = { workspace = true }\n";
        assert_eq!(against_arrows(&manifest("recovery/Cargo.toml", text)), [""; 0]);
        assert_eq!(against_arrows(&manifest("wal/Cargo.toml", text)).len(), 1);
        let text = "[dev-dependencies]\n[dependencies]\nengine.workspace = true\n";
        assert_eq!(against_arrows(&manifest("recovery/Cargo.toml", text)).len(), 1);
    }

    #[test]
    fn an_unknown_crate_is_found() {
        assert_eq!(against_arrows(&manifest("shared/Cargo.toml", "")).len(), 1);
    }

    #[test]
    fn the_engine_may_not_be_async() {
        let text = "[dependencies]\ntokio = \"1\"\nquinn-proto.workspace = true\n";
        assert_eq!(async_dependencies(&manifest("engine/Cargo.toml", text)).len(), 2);
        assert_eq!(async_dependencies(&manifest("node/Cargo.toml", text)).len(), 0);
    }

    #[test]
    fn a_library_without_bench_false_is_found() {
        let good = "[lib]\nname = \"wal\"\nbench = false\n[features]\n";
        assert_eq!(benched_targets(&manifest("wal/Cargo.toml", good)), [""; 0]);
        let bad = "[lib]\nname = \"wal\"\n[[bin]]\nname = \"a\"\n";
        assert_eq!(benched_targets(&manifest("wal/Cargo.toml", bad)).len(), 2);
    }
}
