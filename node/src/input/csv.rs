//! Comma-separated values as records: one column is the key, all columns as a JSON object the value.

use super::Parsed;
use super::lines::{LINE_LEN_MAX, unreadable};
use crate::error::{Failure, Outcome};
use crate::record::Record;
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// The records of one csv input.
pub(crate) struct CsvRecords {
    reader: Reader<Bounded>,
    /// Bytes that the record being read may still take.
    left: Rc<Cell<usize>>,
    /// Each column's name, as a JSON string.
    names: Vec<String>,
    key_column: usize,
    row: ByteRecord,
}

impl CsvRecords {
    /// The records of `input`, whose header line has the column `key`.
    pub(super) fn new(input: Box<dyn BufRead>, key: &str) -> Outcome<CsvRecords> {
        let left = Rc::new(Cell::new(LINE_LEN_MAX));
        let mut reader = ReaderBuilder::new().from_reader(Bounded { input, left: left.clone() });
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
        Ok(CsvRecords { reader, left, names, key_column, row: ByteRecord::new() })
    }

    /// The next record or bad row; `None` at the end.
    pub(super) fn next(&mut self) -> Outcome<Option<Parsed>> {
        self.left.set(LINE_LEN_MAX);
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

/// An input that refuses to hand out a record without end: a quote that is never closed.
struct Bounded {
    input: Box<dyn BufRead>,
    left: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        let len = buffer.len().min(left);
        let (Some(buffer), 1..) = (buffer.get_mut(..len), left) else {
            let message = format!("a record has more than {LINE_LEN_MAX} bytes; is a quote open?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        let read = self.input.read(buffer)?;
        self.left.set(left - read);
        Ok(read)
    }
}

/// `text` as a JSON string.
fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The input could not be read, or is no csv at all.
fn refuse(error: csv::Error) -> Failure {
    match error.into_kind() {
        ErrorKind::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            Failure::input(source.to_string())
        }
        ErrorKind::Io(source) => unreadable(source),
        _ => Failure::input("it is not csv"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_never_closed_is_refused() {
        let endless = b"a,b\n\"".chain(io::repeat(b'x').take(2 * LINE_LEN_MAX as u64));
        let input = Box::new(io::BufReader::with_capacity(1 << 20, endless));
        let mut records = CsvRecords::new(input, "a").unwrap();
        let failure = records.next().unwrap_err();
        assert!(failure.to_text().contains("is a quote open?"), "{}", failure.to_text());
    }
}
