//! HTTP/1.1 messages as bytes, for servers and clients.

use serde_json::Value;
use std::io::{self, BufRead, Read};
use std::time::Instant;

/// The longest line of a head and the longest body that are read.
const LINE_BYTES_MAX: u64 = 256 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The names and values of headers, in order, as bytes.
pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// The values of `name` among `headers`, in order.
pub fn values_of<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value.as_slice())
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, such as `GET`.
    pub method: String,
    /// The request target, with its query.
    pub path: String,
    /// All headers, repeated ones too, in order.
    pub headers: Headers,
    /// The body without its chunks.
    pub body: Vec<u8>,
    /// When it was read.
    pub arrived: Instant,
}

impl Request {
    /// The first value of a header, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        values_of(&self.headers, name).next().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Every value of a header, as bytes.
    pub fn header_bytes(&self, name: &str) -> Vec<Vec<u8>> {
        values_of(&self.headers, name).map(<[u8]>::to_vec).collect()
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// A response. `content-length` is added when it is sent.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// All headers, in order.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without headers and body.
    pub fn new(status: u16) -> Response {
        Response { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A response with this body.
    pub fn json(status: u16, body: &Value) -> Response {
        Response::new(status).header("content-type", "application/json").body(body.to_string())
    }

    /// Adds a header, and keeps others of the same name.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Response {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.body = body.into();
        self
    }
}

/// Makes the response to a request.
pub type Handler = std::sync::Arc<dyn Fn(&Request) -> Response + Send + Sync>;

/// The head and the body of a response, as they go on the wire.
pub(super) fn rendered(request: &Request, response: &Response) -> [Vec<u8>; 2] {
    let mut head = format!("HTTP/1.1 {} \r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        head.extend([name.as_slice(), b": ", value.as_slice(), b"\r\n"].concat());
    }
    let bodiless = response.status == 204 || response.status == 304;
    if !bodiless {
        head.extend(format!("content-length: {}\r\n", response.body.len()).into_bytes());
    }
    head.extend(b"\r\n");
    let body = if bodiless || request.method == "HEAD" { Vec::new() } else { response.body.clone() };
    [head, body]
}

/// The next request of a connection; none if the other side has closed it.
pub(super) fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    if reader.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let line = read_line(reader)?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let mut words = line.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(bad("request line")) };
    let headers = read_headers(reader)?;
    let body = read_body(reader, &headers)?.unwrap_or_default();
    Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), headers, body, arrived: Instant::now() }))
}

/// A line without its line break. The end of the input in the middle of a line is an error.
pub fn read_line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        line.pop();
    }
    Ok(line)
}

/// The header lines up to the empty line.
pub fn read_headers(reader: &mut impl BufRead) -> io::Result<Headers> {
    let mut headers = Headers::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or_else(|| bad("header line"))?;
        let (name, value) = line.split_at(colon);
        headers.push((name.to_vec(), value.get(1..).unwrap_or_default().trim_ascii().to_vec()));
    }
}

/// The body that `headers` announce, by length or in chunks, if they announce one.
pub fn read_body(reader: &mut impl BufRead, headers: &Headers) -> io::Result<Option<Vec<u8>>> {
    if values_of(headers, "transfer-encoding").any(|value| value.eq_ignore_ascii_case(b"chunked")) {
        let mut body = Vec::new();
        loop {
            let line = read_line(reader)?;
            let size = String::from_utf8_lossy(&line).split(';').next().map(str::trim).map(str::to_owned);
            let size = size.and_then(|size| usize::from_str_radix(&size, 16).ok()).ok_or_else(|| bad("chunk size"))?;
            if size == 0 {
                read_headers(reader)?;
                return Ok(Some(body));
            }
            read_exactly(reader, size, &mut body)?;
            read_line(reader)?;
        }
    }
    let Some(length) = values_of(headers, "content-length").next() else { return Ok(None) };
    let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
    let mut body = Vec::new();
    read_exactly(reader, length.ok_or_else(|| bad("content-length"))?, &mut body)?;
    Ok(Some(body))
}

fn read_exactly(reader: &mut impl BufRead, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len() + length > BODY_BYTES_MAX {
        return Err(bad("body: too large"));
    }
    if reader.take(length as u64).read_to_end(body)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what}"))
}
