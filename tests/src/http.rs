//! A small HTTP/1.1 client over a bare socket: what a test sends is exactly what goes out.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No answer takes longer in any test.
const PATIENCE: Duration = Duration::from_secs(90);

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request without headers or body.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body, and its type.
    #[must_use]
    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", kind)
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// The bytes of the request: `Content-Length` is added unless a header says otherwise.
    #[must_use]
    pub fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let has = |name: &str| self.headers.iter().any(|(n, _v)| n.eq_ignore_ascii_case(name));
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !has("host") {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        if !has("content-length") && !has("transfer-encoding") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Connection: close\r\n\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// Sends it and reads the answer's head.
    ///
    /// # Errors
    /// The connection failed, or what came is not HTTP.
    pub fn open(&self, to: SocketAddr) -> std::io::Result<Answer> {
        let stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut writer = stream.try_clone()?;
        let bytes = self.bytes(to);
        // A server may answer before it has read everything: write beside the read.
        let writing = std::thread::spawn(move || writer.write_all(&bytes));
        let answer = Answer::read(stream);
        drop(writing);
        answer
    }

    /// Sends it and reads the whole answer; panics when the connection fails.
    #[track_caller]
    #[must_use]
    pub fn send(&self, to: SocketAddr) -> Whole {
        let answer =
            self.open(to).unwrap_or_else(|e| panic!("{} {}: {e}", self.method, self.target));
        answer.whole().unwrap_or_else(|e| panic!("{} {}: {e}", self.method, self.target))
    }
}

/// Sends exactly these bytes and reads whatever comes until the server closes.
///
/// # Errors
/// The connection cannot be made, or gives nothing for very long.
pub fn raw(to: SocketAddr, bytes: &[u8], end: Send) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The server may hang up in the middle of our lie: that is its right.
    drop(stream.write_all(bytes));
    if end == Send::Shutdown {
        drop(stream.shutdown(std::net::Shutdown::Write));
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error),
        Ok(_) | Err(_) => Ok(answer),
    }
}

/// What [`raw`] does after its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// Says that no more comes.
    Shutdown,
    /// Keeps the connection open.
    KeepOpen,
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    body: BufReader<TcpStream>,
    left: Left,
}

/// What is left of a body.
#[derive(Debug, Clone, Copy)]
enum Left {
    /// So many bytes.
    Bytes(u64),
    /// Everything until the connection ends.
    UntilEnd,
    /// So many bytes of this chunk, then more chunks.
    Chunk(u64),
    /// Nothing.
    Nothing,
}

fn bad(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

impl Answer {
    fn read(stream: TcpStream) -> std::io::Result<Self> {
        let mut body = BufReader::new(stream);
        let mut line = String::new();
        body.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| bad(&format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            body.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Self { status, headers, body, left: Left::UntilEnd };
        answer.left = if status == 204 || status == 304 {
            Left::Nothing
        } else if answer.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            Left::Chunk(0)
        } else if let Some(length) = answer.header("content-length") {
            Left::Bytes(length.parse().map_err(|_no_number| bad("content-length"))?)
        } else {
            Left::UntilEnd
        };
        Ok(answer)
    }

    /// The value of a header; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _v)| n == name).map(|(_n, v)| v.as_str())
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// The body was cut off.
    pub fn whole(mut self) -> std::io::Result<Whole> {
        let mut body = Vec::new();
        self.read_to_end(&mut body)?;
        Ok(Whole { status: self.status, headers: self.headers, body })
    }

    /// Reads the size of the next chunk; zero is the last.
    fn next_chunk(&mut self) -> std::io::Result<u64> {
        let mut line = String::new();
        if self.body.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        u64::from_str_radix(line.trim(), 16).map_err(|_no_number| bad("chunk size"))
    }
}

impl Read for Answer {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if let Left::Chunk(0) = self.left {
            self.left = match self.next_chunk()? {
                0 => Left::Nothing,
                size => Left::Chunk(size),
            };
        }
        let most = match self.left {
            Left::Nothing | Left::Bytes(0) => return Ok(0),
            Left::UntilEnd => u64::MAX,
            Left::Bytes(size) | Left::Chunk(size) => size,
        };
        let count = (&mut self.body).take(most).read(into)?;
        let read = count as u64;
        match &mut self.left {
            Left::Bytes(size) => *size -= read,
            Left::Chunk(size) => {
                *size -= read;
                if *size == 0 {
                    let mut end = String::new();
                    self.body.read_line(&mut end)?;
                }
            }
            Left::UntilEnd | Left::Nothing => return Ok(count),
        }
        if count == 0 && !into.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Whole {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// The value of a header; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _v)| n == name).map(|(_n, v)| v.as_str())
    }

    /// Panics unless the status is `status`.
    #[track_caller]
    pub fn assert_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Panics unless this is an error as E2B's wire has it, with this status, whose message
    /// contains `part`.
    #[track_caller]
    pub fn assert_error(&self, status: u16, part: &str) -> &Self {
        self.assert_status(status);
        let body = self.json();
        assert_eq!(body["code"], u64::from(status), "{body}");
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.to_lowercase().contains(&part.to_lowercase()), "no {part:?} in {body}");
        self
    }
}
