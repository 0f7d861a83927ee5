//! Lines of bytes, numbered, of bounded length.

use crate::error::{Failure, Outcome};
use base::{Error, limits};
use std::io::{self, BufRead, Read};

/// The longest line that can be a record: the longest key and value, every byte as `\u0000`.
pub(super) const LINE_LEN_MAX: usize = 6 * (limits::KEY_LEN_MAX + limits::VALUE_LEN_MAX) + 4096;

/// The lines of an input.
pub(crate) struct Lines {
    input: Box<dyn BufRead>,
    len_max: usize,
    number: u64,
    buffer: Vec<u8>,
}

/// One line, without its line feed.
pub(super) enum Line<'a> {
    /// All of it.
    Whole { number: u64, bytes: &'a [u8] },
    /// More than any record has; it was passed over.
    TooLong { number: u64 },
}

impl Lines {
    /// The lines of `input`.
    pub(super) fn new(input: Box<dyn BufRead>) -> Lines {
        Lines::bounded(input, LINE_LEN_MAX)
    }

    /// The lines of `input`, each of at most `len_max` bytes.
    pub(super) fn bounded(input: Box<dyn BufRead>, len_max: usize) -> Lines {
        Lines { input, len_max, number: 0, buffer: Vec::new() }
    }

    /// Bytes of a line at most.
    pub(super) fn len_max(&self) -> usize {
        self.len_max
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> Outcome<Option<Line<'_>>> {
        self.buffer.clear();
        let limit = self.len_max as u64 + 1;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        if read.map_err(unreadable)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if self.buffer.len() > self.len_max {
            self.pass_rest().map_err(unreadable)?;
            return Ok(Some(Line::TooLong { number }));
        }
        Ok(Some(Line::Whole { number, bytes: &self.buffer }))
    }

    /// Reads up to the next line feed without keeping anything.
    fn pass_rest(&mut self) -> io::Result<()> {
        self.buffer = Vec::new();
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok(());
            }
            if let Some(at) = available.iter().position(|&byte| byte == b'\n') {
                self.input.consume(at + 1);
                return Ok(());
            }
            let len = available.len();
            self.input.consume(len);
        }
    }
}

/// The input could not be read.
pub(super) fn unreadable(source: io::Error) -> Failure {
    Failure::from(Error::Io { action: "read", path: "the input".into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_longer_than_any_record_is_passed_over() {
        let long = io::repeat(b'x').take(LINE_LEN_MAX as u64 + 5).chain(&b"\nnext"[..]);
        let mut lines = Lines::new(Box::new(io::BufReader::new(long)));
        assert!(matches!(lines.next().unwrap(), Some(Line::TooLong { number: 1 })));
        match lines.next().unwrap() {
            Some(Line::Whole { number: 2, bytes }) => assert_eq!(bytes, b"next"),
            _ => panic!("the line behind the long one is missing"),
        }
        assert!(lines.next().unwrap().is_none());
    }
}
