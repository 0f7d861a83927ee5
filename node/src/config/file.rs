//! TOML to settings, each with its line.

use super::datasets;
use super::value::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A setting as a file has it.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Its name, with the table in front of it.
    pub(super) name: String,
    /// Its value; none if no setting has values like it.
    pub(super) value: Option<Value>,
    /// The value as it is written.
    pub(super) words: String,
    /// Its line, from 1.
    pub(super) line: u64,
}

/// A place where a file is not TOML.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// What is wrong.
    pub(super) message: String,
    /// Its line, from 1.
    pub(super) line: u64,
}

/// Reads `text`: what is in it, and every place where it is not TOML.
pub(super) fn read(text: &str) -> (Vec<Written>, Vec<Broken>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = errors.iter().map(|error| Broken {
        message: error.message().trim_end().replace('\n', "; "),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
    });
    let mut all = Vec::new();
    collect(text, "", table.get_ref(), &mut all);
    all.sort_by_key(|one| one.line);
    (all, broken.collect())
}

fn collect(text: &str, prefix: &str, table: &DeTable<'_>, all: &mut Vec<Written>) {
    for (name, value) in table {
        let full = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            // A table that says nothing matters only if it makes a dataset.
            DeValue::Table(inner) if prefix != datasets::PREFIX || !inner.is_empty() => {
                collect(text, &format!("{full}."), inner, all);
            }
            _ => all.push(Written {
                name: full,
                value: value_of(value),
                words: text.get(value.span()).unwrap_or_default().to_owned(),
                line: line_of(text, name.span().start),
            }),
        }
    }
}

fn value_of(value: &Spanned<DeValue<'_>>) -> Option<Value> {
    match value.get_ref() {
        DeValue::String(words) => Some(Value::Text(words.to_string())),
        DeValue::Integer(number) => {
            u64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Number)
        }
        DeValue::Boolean(is_set) => Some(Value::Flag(*is_set)),
        DeValue::Array(list) => {
            let texts = list.iter().map(|one| one.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map(Value::List)
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, at: usize) -> u64 {
    text.get(..at).unwrap_or_default().matches('\n').count() as u64 + 1
}
