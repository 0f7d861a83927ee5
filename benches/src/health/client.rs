//! A client that asks over one connection, as little of HTTP as that takes.

use crate::Result;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One connection, kept alive.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    /// What is sent next.
    request: Vec<u8>,
}

impl Connection {
    pub(super) fn open(http: &str) -> Result<Connection> {
        let stream = TcpStream::connect(http)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream), request: Vec::new() })
    }

    /// Sends a request and reads the whole answer: its status and its body.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        self.request.clear();
        let len = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len}\r\n\r\n");
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body);
        self.stream.get_mut().write_all(&self.request)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let first = self.line()?;
        let status =
            first.split(' ').nth(1).ok_or_else(|| format!("no status: {first:?}"))?.parse()?;
        let mut len = 0;
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                None if line.is_empty() => break,
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    len = value.trim().parse()?;
                }
                _ => {}
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("the node has closed the connection".into());
        }
        Ok(line.trim_end().to_owned())
    }
}
