//! One source file as tokens, with the parts that only tests see left out.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One token: an identifier, a literal, a bracket, one character of punctuation, or `::`.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A file of the workspace.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the workspace, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Whether the whole file is seen by tests or benchmarks only.
    pub(crate) is_test: bool,
    /// Everything.
    pub(crate) all: Vec<Token>,
    /// Everything but items under `#[cfg(test)]`; empty if the whole file is a test.
    pub(crate) product: Vec<Token>,
    /// Lines of items under `#[cfg(test)]`.
    pub(crate) test_lines: usize,
    /// Names of the modules under `#[cfg(test)]` that are files of their own.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    /// Reads `text`, the content of `path`.
    pub(crate) fn parse(path: &str, text: &str) -> Source {
        let stream: TokenStream = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut all = Vec::new();
        flatten(stream, &mut all);
        let mut source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
            is_test: false,
            all,
            product: Vec::new(),
            test_lines: 0,
            test_modules: Vec::new(),
        };
        source.leave_out_tests();
        // A fuzz target panics to report what it found.
        let is_test_folder = |part: &str| matches!(part, "tests" | "benches" | "fuzz");
        if path.split('/').any(is_test_folder) {
            source.mark_as_test();
        }
        source
    }

    /// The whole file turned out to be a test.
    pub(crate) fn mark_as_test(&mut self) {
        self.is_test = true;
        self.product.clear();
    }

    /// Whether an identifier stands anywhere in the file.
    pub(crate) fn has(&self, identifier: &str) -> bool {
        self.all.iter().any(|token| token.text == identifier)
    }

    /// Where the modules of this file are looked for.
    pub(crate) fn module_folder(&self) -> String {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let (folder, stem) = path.rsplit_once('/').unwrap_or(("", path));
        let is_folder_itself = matches!(stem, "lib" | "main" | "mod");
        if is_folder_itself { folder.to_owned() } else { path.to_owned() }
    }

    fn leave_out_tests(&mut self) {
        let mut at = 0;
        while at < self.all.len() {
            let end = if is_test_attribute(&self.all[at..]) { item_end(&self.all, at) } else { at };
            if end == at {
                self.product.push(self.all[at].clone());
                at += 1;
                continue;
            }
            let item = &self.all[at..end];
            self.test_lines += item[item.len() - 1].line - item[0].line + 1;
            if let [.., module, name, semicolon] = item
                && (module.text.as_str(), semicolon.text.as_str()) == ("mod", ";")
            {
                self.test_modules.push(name.text.clone());
            }
            at = end;
        }
    }
}

/// The index behind the bracket that closes the one at `open`.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The lines where `pattern`, tokens separated by spaces, begins. A quote is any string.
pub(crate) fn lines_of(tokens: &[Token], pattern: &str) -> Vec<usize> {
    let pattern: Vec<&str> = pattern.split(' ').collect();
    let is_token = |token: &Token, expected: &str| match expected {
        "\"" => token.text.starts_with('"'),
        _ => token.text == expected,
    };
    let is_match = |window: &&[Token]| {
        window.iter().zip(&pattern).all(|(token, expected)| is_token(token, expected))
    };
    tokens.windows(pattern.len()).filter(is_match).map(|window| window[0].line).collect()
}

/// Whether an attribute like `#[cfg(test)]` or `#[cfg(any(test, feature = ".."))]` begins here.
fn is_test_attribute(tokens: &[Token]) -> bool {
    if !starts_with(tokens, "# [ cfg (") {
        return false;
    }
    let attribute = &tokens[..closing(tokens, 1)];
    let has = |text| attribute.iter().any(|token| token.text == text);
    has("test") && !has("not")
}

/// The index behind the item whose first attribute is at `at`.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => return closing(tokens, at),
            ";" => return at + 1,
            "(" | "[" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

fn starts_with(tokens: &[Token], pattern: &str) -> bool {
    let mut tokens = tokens.iter();
    pattern.split(' ').all(|text| tokens.next().is_some_and(|token| token.text == text))
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                out.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), out);
                let line = group.span_close().end().line;
                out.push(Token { text: close.to_owned(), line });
            }
            TokenTree::Punct(punct) => push_punctuation(punct.as_char(), line, out),
            other => out.push(Token { text: other.to_string(), line }),
        }
    }
}

/// Adds a character of punctuation; two colons become one token.
fn push_punctuation(character: char, line: usize, out: &mut Vec<Token>) {
    match out.last_mut() {
        Some(last) if character == ':' && last.text == ":" => last.text.push(':'),
        _ => out.push(Token { text: character.to_string(), line }),
    }
}

#[test]
fn parts_under_cfg_test_are_left_out() {
    let text = "
        fn product() { one(); }
        #[cfg(test)]
        #[derive(Debug)]
        fn helper(a: [u8; 2]) { two(); }
        #[cfg(any(test, feature = \"sim\"))]
        mod sim;
        #[cfg(not(test))]
        fn also_product() {}
        #[cfg(test)]
        mod tests {
            fn three() {}
        }";
    let source = Source::parse("base/src/fs.rs", text);
    let names = |tokens: &[Token]| {
        let is_name = |text: &&str| ["one", "two", "three", "also_product"].contains(text);
        tokens.iter().map(|token| token.text.clone()).filter(|t| is_name(&t.as_str())).collect()
    };
    let product: Vec<String> = names(&source.product);
    assert_eq!(product, ["one", "also_product"]);
    assert_eq!(names(&source.all).len(), 4);
    assert_eq!(source.test_lines, 3 + 2 + 4);
    assert_eq!(source.test_modules, ["sim"]);
    assert_eq!(source.module_folder(), "base/src/fs");
}
