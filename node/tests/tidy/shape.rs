//! Rules about the shape of files: lengths, headers, names.

use super::Finding;
use super::source::{Source, Token, closing};

/// Lines of a file at most, tests at its end not counted.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function at most.
const FUNCTION_LINES_MAX: usize = 100;
/// Lines of a function from which on it is worth a look.
const FUNCTION_LINES_RED: usize = 70;
/// Words that say nothing in the name of a file or a type.
const EMPTY_WORDS: [&str; 7] =
    ["manager", "util", "helper", "common", "misc", "unified", "optimized"];
/// Crates whose bytes reach the disk.
const FORMAT_FOLDERS: [&str; 4] = ["base/", "wal/", "sstable/", "recovery/"];

/// The file, if it is too long.
pub(crate) fn long_files(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count() - source.test_lines;
    let is_long = lines > FILE_LINES_MAX && !source.is_test;
    is_long.then(|| format!("{}: {lines} lines", source.path)).into_iter().collect()
}

/// Functions that are too long.
pub(crate) fn long_functions(source: &Source) -> Vec<Finding> {
    functions_over(source, FUNCTION_LINES_MAX)
}

/// Functions that are nearly too long.
pub(crate) fn red_zone(source: &Source) -> Vec<Finding> {
    functions_over(source, FUNCTION_LINES_RED)
}

fn functions_over(source: &Source, max: usize) -> Vec<Finding> {
    let is_long = |(_, _, lines): &(&str, usize, usize)| *lines > max;
    let describe = |(name, at, lines)| format!("{}:{at}: {name}, {lines} lines", source.path);
    functions(&source.product).into_iter().filter(is_long).map(describe).collect()
}

/// The functions with a body: name, line, lines.
fn functions(tokens: &[Token]) -> Vec<(&str, usize, usize)> {
    let mut functions = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let [keyword, name] = pair else { continue };
        if keyword.text != "fn" || !name.text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let mut body = at;
        while body < tokens.len() && !matches!(tokens[body].text.as_str(), "{" | ";") {
            let is_bracket = matches!(tokens[body].text.as_str(), "(" | "[");
            body = if is_bracket { closing(tokens, body) } else { body + 1 };
        }
        if tokens.get(body).is_some_and(|token| token.text == "{") {
            let last = &tokens[closing(tokens, body) - 1];
            functions.push((name.text.as_str(), keyword.line, last.line - keyword.line + 1));
        }
    }
    functions
}

/// The file, if its first line does not say what it is.
pub(crate) fn missing_headers(source: &Source) -> Vec<Finding> {
    let has_header = source.text.starts_with("//! ");
    (!has_header).then(|| format!("{}:1: no header", source.path)).into_iter().collect()
}

/// The file, if it writes bytes to the disk without drawing them.
pub(crate) fn missing_diagrams(source: &Source) -> Vec<Finding> {
    let is_format = FORMAT_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
    let mut header = source.text.lines().take_while(|line| line.starts_with("//!"));
    if !is_format || header.any(|line| line.contains("```text")) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for triple in source.product.windows(3) {
        let [visibility, keyword, name] = triple else { continue };
        let is_public = matches!(visibility.text.as_str(), "pub" | ")");
        let is_encoder = name.text == "encode" || is_public && name.text.starts_with("encode_");
        if keyword.text == "fn" && is_encoder {
            findings.push(format!("{}:{}: {}", source.path, name.line, name.text));
        }
    }
    findings
}

/// Names of files and types that say nothing.
pub(crate) fn empty_names(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path.trim_end_matches(".rs").split(['/', '_', '-']).any(is_empty_word) {
        findings.push(source.path.clone());
    }
    for pair in source.all.windows(2) {
        let [keyword, name] = pair else { continue };
        let is_type =
            matches!(keyword.text.as_str(), "struct" | "enum" | "trait" | "type" | "union");
        if is_type && words(&name.text).iter().any(|word| is_empty_word(word)) {
            findings.push(format!("{}:{}: {}", source.path, name.line, name.text));
        }
    }
    findings
}

fn is_empty_word(word: &str) -> bool {
    let word = word.to_lowercase();
    let word = word.strip_suffix('s').unwrap_or(&word);
    EMPTY_WORDS.contains(&word)
}

/// The words of a name in camel case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for character in name.chars() {
        match words.last_mut() {
            Some(word) if !character.is_uppercase() => word.push(character),
            _ => words.push(character.to_string()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse("wal/src/sample.rs", text)
    }

    #[test]
    fn a_file_of_501_lines_is_found() {
        assert_eq!(long_files(&source(&"//\n".repeat(500))), [""; 0]);
        assert_eq!(long_files(&source(&"//\n".repeat(501))).len(), 1);
        let with_tests = format!("//\n#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(501));
        assert_eq!(long_files(&source(&with_tests)), [""; 0]);
    }

    #[test]
    fn a_function_of_101_lines_is_found() {
        let function =
            |lines: usize| source(&format!("fn f() {{\n{}}}", "a();\n".repeat(lines - 2)));
        assert_eq!(long_functions(&function(100)), [""; 0]);
        assert_eq!(long_functions(&function(101)), ["wal/src/sample.rs:1: f, 101 lines"]);
        assert_eq!((red_zone(&function(70)).len(), red_zone(&function(71)).len()), (0, 1));
    }

    #[test]
    fn types_of_functions_and_declarations_are_no_functions() {
        let text = "trait T { fn a(x: [u8; 2]); } type F = fn(u8) -> u8; fn b() -> [u8; 3] {}";
        assert_eq!(functions(&source(text).all), [("b", 1, 1)]);
    }

    #[test]
    fn a_module_without_a_header_is_found() {
        assert_eq!(missing_headers(&source("//! A log.\n")), [""; 0]);
        assert_eq!(missing_headers(&source("// A log.\n")).len(), 1);
    }

    #[test]
    fn an_encoder_without_a_diagram_is_found() {
        let encoder = "pub fn encode_header() {}\nfn encode_part() {}";
        let drawn = format!("//! A log.\n//!\n//! ```text\n//! 8 magic\n//! ```\n{encoder}");
        assert_eq!(missing_diagrams(&source(&drawn)), [""; 0]);
        assert_eq!(missing_diagrams(&source(encoder)).len(), 1);
        assert_eq!(missing_diagrams(&Source::parse("node/src/a.rs", encoder)), [""; 0]);
        assert_eq!(missing_diagrams(&source("#[cfg(test)] mod t { fn encode() {} }")), [""; 0]);
        assert_eq!(missing_diagrams(&source("impl A { fn encode() {} }")).len(), 1);
    }

    #[test]
    fn empty_names_are_found() {
        for bad in ["struct LogManager;", "enum Helpers {}", "trait CommonParts {}"] {
            assert_eq!(empty_names(&source(bad)).len(), 1, "{bad}");
        }
        assert_eq!(empty_names(&source("fn common_prefix() {} struct Commons;")).len(), 1);
        assert_eq!(empty_names(&source("struct Uncommon; fn help() {}")), [""; 0]);
        assert_eq!(empty_names(&Source::parse("wal/src/log_utils.rs", "")).len(), 1);
    }
}
