//! Records from a file or a pipe, in one of three formats, streamed.
//!
//! ```text
//! ndjson            {"key":"ada","value":"1815"}, see `record`; an empty line is skipped
//! ndjson, --key F   any JSON object; the key is its field F, the value the object as it stands
//! tsv               key TAB value LF, raw bytes, no escapes; further TABs belong to the value
//! csv, --key F      a header line, then records; the key is column F, the value a JSON object of
//!                   all columns
//! ```
//!
//! A line that is no record is handed out as such, with its number, and reading goes on behind it.

mod csv;
mod keyed;
mod lines;

use self::csv::CsvRecords;
use self::lines::{Line, Lines};
use crate::error::{Failure, Outcome};
use crate::record::{Record, RecordLine};
use base::limits;
use clap::ValueEnum;
use std::io::BufRead;

/// How records are written in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// One JSON object a line.
    Ndjson,
    /// Key, TAB, value.
    Tsv,
    /// A header line, then comma-separated values.
    Csv,
}

/// One record of the input, or what is wrong with its line.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The line it starts on; the first is 1.
    pub(crate) line: u64,
    /// The record, or a sentence about the line.
    pub(crate) record: Result<Record, String>,
}

/// The records of one input.
pub(crate) enum Records {
    /// Objects of key and value.
    Ndjson(Lines),
    /// Any objects, with the field that is the key.
    Keyed(Lines, String),
    /// Key, TAB, value.
    Tsv(Lines),
    /// Comma-separated values.
    Csv(Box<CsvRecords>),
}

impl Records {
    /// The records of `input`.
    pub(crate) fn new(
        input: Box<dyn BufRead>,
        format: InputFormat,
        key: Option<&str>,
    ) -> Outcome<Records> {
        match (format, key) {
            (InputFormat::Ndjson, None) => Ok(Records::Ndjson(Lines::new(input))),
            (InputFormat::Ndjson, Some(key)) => {
                Ok(Records::Keyed(Lines::new(input), key.to_owned()))
            }
            (InputFormat::Tsv, None) => Ok(Records::Tsv(Lines::new(input))),
            (InputFormat::Tsv, Some(_)) => {
                Err(Failure::input("--key names a field of ndjson or csv; tsv has none"))
            }
            (InputFormat::Csv, Some(key)) => {
                Ok(Records::Csv(Box::new(CsvRecords::new(input, key)?)))
            }
            (InputFormat::Csv, None) => {
                Err(Failure::input("csv needs --key COLUMN to know the key of a record"))
            }
        }
    }

    /// The records of `input`, objects of key and value, in lines of at most `line_len_max` bytes.
    pub(crate) fn of_lines(input: Box<dyn BufRead>, line_len_max: usize) -> Records {
        Records::Ndjson(Lines::bounded(input, line_len_max))
    }

    /// The next record or bad line; `None` at the end of the input.
    pub(crate) fn next(&mut self) -> Outcome<Option<Parsed>> {
        let parsed = match self {
            Records::Ndjson(lines) => lines.next_parsed(is_blank, RecordLine::parse)?,
            Records::Keyed(lines, field) => {
                let field = field.as_str();
                lines.next_parsed(is_blank, |line| keyed::parse(line, field))?
            }
            Records::Tsv(lines) => lines.next_parsed(<[u8]>::is_empty, parse_tsv)?,
            Records::Csv(records) => records.next()?,
        };
        Ok(parsed.map(|parsed| Parsed { record: parsed.record.and_then(within_limits), ..parsed }))
    }
}

impl Lines {
    /// The next line that holds something, through `parse`.
    fn next_parsed(
        &mut self,
        is_empty: impl Fn(&[u8]) -> bool,
        parse: impl Fn(&[u8]) -> Result<Record, String>,
    ) -> Outcome<Option<Parsed>> {
        let len_max = self.len_max();
        loop {
            let Some(line) = self.next()? else { return Ok(None) };
            match line {
                Line::Whole { bytes, .. } if is_empty(bytes) => {}
                Line::Whole { number, bytes } => {
                    return Ok(Some(Parsed { line: number, record: parse(bytes) }));
                }
                Line::TooLong { number } => {
                    let record = Err(format!("it has more than {len_max} bytes"));
                    return Ok(Some(Parsed { line: number, record }));
                }
            }
        }
    }
}

/// Whether a line of JSON holds nothing.
fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

/// Key, TAB, value.
fn parse_tsv(line: &[u8]) -> Result<Record, String> {
    let at = line.iter().position(|&byte| byte == b'\t').ok_or("it has no TAB")?;
    let (key, value) = line.split_at(at);
    let value = value.get(1..).unwrap_or_default();
    Ok(Record { keyspace: None, key: key.to_vec(), value: value.to_vec() })
}

/// Refuses what the database would refuse, while the line's number is still known.
fn within_limits(record: Record) -> Result<Record, String> {
    let checked = limits::check_key(&record.key)
        .and_then(|()| limits::check_value(&record.value))
        .and_then(|()| record.keyspace.as_deref().map_or(Ok(()), limits::check_keyspace_name));
    match checked {
        Ok(()) => Ok(record),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All records of `text`; a bad line as its number and reason.
    fn read(text: &[u8], format: InputFormat, key: Option<&str>) -> Vec<(u64, String)> {
        let input = Box::new(std::io::Cursor::new(text.to_vec()));
        let mut records = Records::new(input, format, key).unwrap();
        let mut all = Vec::new();
        while let Some(Parsed { line, record }) = records.next().unwrap() {
            let text = match record {
                Ok(record) => format!(
                    "{}={}",
                    String::from_utf8_lossy(&record.key),
                    String::from_utf8_lossy(&record.value)
                ),
                Err(reason) => format!("bad: {reason}"),
            };
            all.push((line, text));
        }
        all
    }

    #[test]
    fn tsv_is_bytes_and_further_tabs_belong_to_the_value() {
        let all = read(b"a\tb\tc\r\n\n\xff\\n\t\nno tab\n\t\nlast\t1", InputFormat::Tsv, None);
        let expected = [
            (1, "a=b\tc\r"),
            (3, "\u{fffd}\\n="),
            (4, "bad: it has no TAB"),
            (5, "bad: a key may not be empty; it has 1 to 65535 bytes"),
            (6, "last=1"),
        ];
        assert_eq!(all, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn ndjson_goes_on_behind_a_bad_line() {
        let text =
            b"{\"key\":\"a\",\"value\":\"1\"}\n{nonsense\n \n{\"key\":\"b\",\"value\":\"2\"}\r\n";
        let all = read(text, InputFormat::Ndjson, None);
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].0, all[0].1.as_str()), (1, "a=1"));
        assert!(all[1].0 == 2 && all[1].1.starts_with("bad: "), "{all:?}");
        assert_eq!((all[2].0, all[2].1.as_str()), (4, "b=2"));
    }

    #[test]
    fn a_keyed_object_is_stored_as_it_stands() {
        let text = b" {\"id\": 7, \"n\": {\"x\": [1, 2.50]}} \n{\"n\":1}\n{\"id\":null}\n{\"id\":\"k\"}\n[1]\n";
        let all = read(text, InputFormat::Ndjson, Some("id"));
        assert_eq!(all[0], (1, "7={\"id\": 7, \"n\": {\"x\": [1, 2.50]}}".to_owned()));
        assert!(all[1].1.starts_with("bad: it has no field"), "{all:?}");
        assert!(all[2].1.starts_with("bad: "), "{all:?}");
        assert_eq!(all[3], (4, "k={\"id\":\"k\"}".to_owned()));
        assert!(all[4].1.starts_with("bad: "), "{all:?}");
    }

    #[test]
    fn csv_records_become_json_objects_in_column_order() {
        let text = b"name,born\n\"Lovelace, Ada\",1815\nAlan,\"19\n12\"\nshort\nGrace,1906\n";
        let all = read(text, InputFormat::Csv, Some("name"));
        assert_eq!(
            all[0],
            (2, "Lovelace, Ada={\"name\":\"Lovelace, Ada\",\"born\":\"1815\"}".to_owned())
        );
        assert_eq!(all[1], (3, "Alan={\"name\":\"Alan\",\"born\":\"19\\n12\"}".to_owned()));
        assert!(all[2].0 == 5 && all[2].1.starts_with("bad: "), "{all:?}");
        assert_eq!(all[3], (6, "Grace={\"name\":\"Grace\",\"born\":\"1906\"}".to_owned()));
    }

    #[test]
    fn csv_refuses_a_header_that_cannot_name_the_key() {
        for (text, key) in [("a,b\n", "c"), ("a,a\n", "a"), ("", "a")] {
            let input = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
            assert!(Records::new(input, InputFormat::Csv, Some(key)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_key_that_the_database_refuses_is_a_bad_line() {
        let mut text = vec![b'k'; limits::KEY_LEN_MAX + 1];
        text.extend_from_slice(b"\tv\nok\tv\n");
        let all = read(&text, InputFormat::Tsv, None);
        assert!(all[0].1.contains("65535"), "{all:?}");
        assert_eq!(all[1], (2, "ok=v".to_owned()));
    }
}
