//! Every code of every crate: listed, unique, and explained in `deploy/ERRORS.md`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use base::codes::{CODES, Family, Retrying, code_named};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Words in quotes that look like codes.
fn quoted(text: &str) -> BTreeSet<String> {
    let is_code = |word: &&str| {
        word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    text.split('"').skip(1).step_by(2).filter(is_code).map(str::to_owned).collect()
}

/// The codes in the function `name` of the file at `path`.
fn codes_in(path: &str, name: &str) -> BTreeSet<String> {
    let text = source(path);
    let from = text.find(&format!("fn {name}(&self)")).unwrap();
    let body = &text[from..];
    quoted(&body[..body.find("\n    }\n").unwrap()])
}

/// What a conversation notes about its peer while it goes on.
fn codes_of_troubles() -> BTreeSet<String> {
    let text = source("replication/src/replica/talk.rs");
    let noted = text.split("trouble(").skip(1);
    let codes = noted.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    codes.map(str::to_owned).collect()
}

/// The text of all sources of the node, without their tests.
fn sources_of_the_node(folder: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_of_the_node(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            all.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

/// What the node calls its own failures: the second argument wherever one is made.
fn codes_of_the_node() -> BTreeSet<String> {
    let mut sources = Vec::new();
    sources_of_the_node(&root().join("node/src"), &mut sources);
    let mut constants = BTreeMap::new();
    for line in sources.iter().flat_map(|text| text.lines()) {
        let Some((_, rest)) = line.split_once("const ") else { continue };
        let Some((name, value)) = rest.split_once(": &str = \"") else { continue };
        constants.insert(name.to_owned(), value.trim_end_matches("\";").to_owned());
    }
    let mut codes = BTreeSet::new();
    for text in &sources {
        for made in text.split("Failure::new(").skip(1) {
            let code = made.split(',').nth(1).unwrap().trim();
            match code.strip_prefix('"') {
                Some(literal) => drop(codes.insert(literal.trim_end_matches('"').to_owned())),
                // The argument of a function that is given a literal itself, found below; or that of another crate.
                None if matches!(code, "code" | "error.code()") => {}
                None => drop(codes.insert(constants[code].clone())),
            }
        }
        for made in text.split(" refused(\"").skip(1) {
            codes.insert(made.split('"').next().unwrap().to_owned());
        }
    }
    codes
}

#[test]
fn every_code_in_the_sources_is_listed_and_every_listed_one_is_in_use() {
    let engine = codes_in("base/src/error.rs", "code");
    let conversations = codes_in("replication/src/error.rs", "row");
    let links = codes_in("replication/src/link/error.rs", "code");
    for (one, other) in [(&engine, &conversations), (&engine, &links), (&conversations, &links)] {
        assert_eq!(one.intersection(other).collect::<Vec<_>>(), [""; 0], "one code, two meanings");
    }
    let node = codes_of_the_node();
    let troubles = codes_of_troubles();
    assert!(troubles.len() >= 5, "{troubles:?}");
    for other in [&engine, &conversations, &links, &node] {
        assert_eq!(troubles.intersection(other).collect::<Vec<_>>(), [""; 0]);
    }
    assert!(engine.len() > 35 && conversations.len() > 20 && links.len() > 15 && node.len() > 25);
    for foreign in [&conversations, &links] {
        assert_eq!(node.intersection(foreign).collect::<Vec<_>>(), [""; 0]);
    }
    let found: BTreeSet<String> =
        [engine, conversations, links, node, troubles].into_iter().flatten().collect();
    let listed: BTreeSet<String> = CODES.iter().map(|code| code.name.to_owned()).collect();
    let missing: Vec<_> = found.difference(&listed).collect();
    let unused: Vec<_> = listed.difference(&found).collect();
    assert!(missing.is_empty() && unused.is_empty(), "missing {missing:?}, unused {unused:?}");
}

#[test]
fn every_code_is_explained_with_its_family_and_category() {
    let document = source("node/deploy/ERRORS.md");
    let mut explained = BTreeSet::new();
    for line in document.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
        let [code, family, category, meaning] = cells[..] else { continue };
        let (code, family) = (code.trim_end_matches('`'), family.trim_matches('`'));
        let known = code_named(code).unwrap_or_else(|| panic!("{code} does not exist"));
        assert_eq!((known.family.name(), known.category.name()), (family, category), "{code}");
        assert!(meaning.len() > 10 && !meaning.ends_with('.'), "{code}: {meaning}");
        assert!(explained.insert(code), "{code} is explained twice");
    }
    let missing: Vec<_> =
        CODES.iter().map(|code| code.name).filter(|name| !explained.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for family in Family::ALL {
        assert!(document.contains(&format!("`{family}`")), "{family}");
    }
    for category in ["critical", "retryable", "recoverable", "invalid_input", "unknown"] {
        assert!(document.contains(&format!("\n| `{category}` | ")), "{category}");
    }
}

/// The one table that says whether it helps to try again covers every code, once, and says what nodes say.
#[test]
fn whether_it_helps_to_try_again_is_told_of_every_code_as_the_table_has_it() {
    let document = source("node/deploy/ERRORS.md");
    let words =
        |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<String>>();
    let (mut rows, mut named) = (0, BTreeSet::new());
    let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let table = document.split("| `retrying` | of | |").nth(1).unwrap();
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let retrying = words(cells[0]).remove(0);
        let (families, categories): (Vec<_>, Vec<_>) =
            words(cells[1]).into_iter().partition(|word| word.ends_with("_ERROR"));
        rows += 1;
        for code in CODES {
            let is_of_category = categories.iter().any(|name| name == code.category.name());
            let is_of_family =
                families.is_empty() || families.iter().any(|name| name == code.family.name());
            if is_of_category && is_of_family {
                told.entry(code.name).or_default().push(retrying.clone());
            }
        }
        named.insert(retrying);
    }
    assert_eq!(rows, 5);
    for code in CODES {
        let told = told.get(code.name).cloned().unwrap_or_default();
        assert_eq!(told, [code.retrying().name()], "{}", code.name);
    }
    for retrying in Retrying::ALL {
        assert!(
            named.contains(retrying.name()) && CODES.iter().any(|code| code.retrying() == retrying)
        );
    }
}

#[test]
fn the_families_of_the_guides_have_codes() {
    for family in
        [Family::Network, Family::Persistence, Family::Sync, Family::Config, Family::Timeout]
    {
        assert!(CODES.iter().any(|code| code.family == family), "{family}");
    }
}
