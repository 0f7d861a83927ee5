//! All sources and manifests of the workspace.

use super::crates::{HOUSE, Manifest};
use super::source::Source;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What there is to check.
pub(crate) struct Workspace {
    pub(crate) sources: Vec<Source>,
    pub(crate) manifests: Vec<Manifest>,
}

impl Workspace {
    /// The workspace that this test belongs to, read once.
    pub(crate) fn get() -> &'static Workspace {
        static WORKSPACE: OnceLock<Workspace> = OnceLock::new();
        WORKSPACE.get_or_init(Workspace::read)
    }

    fn read() -> Workspace {
        let root = root();
        let mut paths = Vec::new();
        HOUSE.iter().for_each(|house| walk(&root.join(house.folder), &mut paths));
        paths.sort();
        let mut workspace = Workspace { sources: Vec::new(), manifests: Vec::new() };
        for path in paths {
            let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            let text = || fs::read_to_string(&path).unwrap();
            if relative.ends_with(".rs") {
                workspace.sources.push(Source::parse(&relative, &text()));
            } else if relative.ends_with("/Cargo.toml") {
                workspace.manifests.push(Manifest { path: relative.clone(), text: text() });
            }
        }
        mark_test_modules(&mut workspace.sources);
        workspace
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Files of modules that are declared under `#[cfg(test)]` are tests, and so is all below them.
fn mark_test_modules(sources: &mut [Source]) {
    let modules: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            let folder = source.module_folder();
            source.test_modules.iter().map(move |name| format!("{folder}/{name}"))
        })
        .collect();
    for source in sources {
        let is_below = |module: &String| {
            source
                .path
                .strip_prefix(module)
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if modules.iter().any(is_below) {
            source.mark_as_test();
        }
    }
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() {
            paths.push(path);
        } else if name != "target" && !name.starts_with('.') {
            walk(&path, paths);
        }
    }
}

#[test]
fn a_file_of_a_test_module_is_a_test() {
    let mut sources = [
        Source::parse("base/src/fs.rs", "#[cfg(test)] mod sim; mod os;"),
        Source::parse("base/src/fs/sim.rs", "mod crash;"),
        Source::parse("base/src/fs/sim/crash.rs", ""),
        Source::parse("base/src/fs/simple.rs", ""),
        Source::parse("base/src/fs/os.rs", ""),
        Source::parse("base/tests/all.rs", ""),
    ];
    mark_test_modules(&mut sources);
    let is_test = sources.map(|source| source.is_test);
    assert_eq!(is_test, [false, true, true, false, false, true]);
}
