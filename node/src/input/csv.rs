//! Comma-separated values as records: one column is the key, all columns as a JSON object the value.

use super::Parsed;
use super::lines::unreadable;
use crate::error::{Failure, Outcome};
use crate::record::Record;
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use std::io::BufRead;

/// The records of one csv input.
pub(crate) struct CsvRecords {
    reader: Reader<Box<dyn BufRead>>,
    /// Each column's name, as a JSON string.
    names: Vec<String>,
    key_column: usize,
    row: ByteRecord,
}

impl CsvRecords {
    /// The records of `input`, whose header line has the column `key`.
    pub(super) fn new(input: Box<dyn BufRead>, key: &str) -> Outcome<CsvRecords> {
        let mut reader = ReaderBuilder::new().from_reader(input);
        let header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(refuse(error)),
        };
        let mut names: Vec<&str> = Vec::with_capacity(header.len());
        for name in &header {
            let name = std::str::from_utf8(name)
                .map_err(|_| Failure::input("a column's name is not UTF-8").line(1))?;
            if names.contains(&name) {
                return Err(Failure::input(format!("two columns are named {name:?}")).line(1));
            }
            names.push(name);
        }
        let Some(key_column) = names.iter().position(|name| *name == key) else {
            return Err(Failure::input(format!("the header has no column {key:?}")).line(1));
        };
        let names = names.iter().map(|name| json_text(name)).collect();
        Ok(CsvRecords { reader, names, key_column, row: ByteRecord::new() })
    }

    /// The next record or bad row; `None` at the end.
    pub(super) fn next(&mut self) -> Outcome<Option<Parsed>> {
        match self.reader.read_byte_record(&mut self.row) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = self.row.position().map_or(0, csv::Position::line);
                Ok(Some(Parsed { line, record: self.record() }))
            }
            Err(error) => match error.kind() {
                ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    let line = pos.as_ref().map_or(0, csv::Position::line);
                    let reason = format!("it has {len} columns; the header has {expected_len}");
                    Ok(Some(Parsed { line, record: Err(reason) }))
                }
                _ => Err(refuse(error)),
            },
        }
    }

    /// The row as a record.
    fn record(&self) -> Result<Record, String> {
        let mut value = String::from("{");
        for (name, field) in self.names.iter().zip(&self.row) {
            let field = std::str::from_utf8(field).map_err(|_| "it is not UTF-8")?;
            if value.len() > 1 {
                value.push(',');
            }
            value.push_str(name);
            value.push(':');
            value.push_str(&json_text(field));
        }
        value.push('}');
        let key = self.row.get(self.key_column).ok_or("it has no key column")?.to_vec();
        Ok(Record { keyspace: None, key, value: value.into_bytes() })
    }
}

/// `text` as a JSON string.
fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The input could not be read, or is no csv at all.
fn refuse(error: csv::Error) -> Failure {
    match error.into_kind() {
        ErrorKind::Io(source) => unreadable(source),
        _ => Failure::input("it is not csv"),
    }
}
