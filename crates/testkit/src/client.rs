//! An HTTP/1.1 client that sends exact bytes and shows the exact bytes that it receives.

use super::http::{self, Headers, values_of};
use super::{DEADLINE, Failure};
use serde_json::Value;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// One keep-alive connection. A connection stays with one worker of the Envoy behind it.
pub struct Client {
    address: SocketAddr,
    reader: Option<BufReader<TcpStream>>,
    deadline: Duration,
}

/// An answer as it was received.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// All headers, repeated ones too, in order.
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Reply {
    /// The first value of a header, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        values_of(&self.headers, name).next().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Every value of a header, as text: for `set-cookie`.
    pub fn header_all(&self, name: &str) -> Vec<String> {
        values_of(&self.headers, name).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Client {
    /// A client of a port of the loopback interface. It connects with its first request, and again when its connection
    /// has been closed.
    pub fn new(port: u16) -> Client {
        Client { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), reader: None, deadline: DEADLINE }
    }

    /// How long to wait for the next bytes of an answer.
    pub fn deadline(mut self, deadline: Duration) -> Client {
        self.deadline = deadline;
        self
    }

    /// Connects now: Envoy gives a connection to a worker when it is made, not with its first request.
    pub fn connect(&mut self) -> Result<(), Failure> {
        if self.reader.is_none() {
            let stream = TcpStream::connect(self.address).map_err(|error| format!("{}: {error}", self.address))?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            stream.set_read_timeout(Some(self.deadline)).map_err(|error| error.to_string())?;
            self.reader = Some(BufReader::new(stream));
        }
        Ok(())
    }

    pub fn get(&mut self, path: &str) -> RequestBuilder<'_> {
        self.request("GET", path)
    }

    pub fn post(&mut self, path: &str) -> RequestBuilder<'_> {
        self.request("POST", path)
    }

    pub fn request(&mut self, method: &str, path: &str) -> RequestBuilder<'_> {
        let outgoing = Outgoing::new(method, path);
        RequestBuilder { client: self, outgoing }
    }

    /// Sends a request and reads its answer. An error closes the connection.
    pub fn send(&mut self, outgoing: &Outgoing) -> Result<Reply, Failure> {
        let reply = self.connect().and_then(|()| self.exchange(outgoing));
        let closes = reply.as_ref().is_ok_and(|reply| reply.header("connection").is_some_and(|value| value == "close"));
        if closes || reply.is_err() {
            self.reader = None;
        }
        reply.map_err(|error| format!("{} {}: {error}", outgoing.method, outgoing.path))
    }

    fn exchange(&mut self, outgoing: &Outgoing) -> Result<Reply, Failure> {
        let reader = self.reader.as_mut().ok_or("not connected")?;
        reader.get_mut().write_all(&outgoing.bytes()).map_err(|error| format!("cannot send: {error}"))?;
        let mut read = || -> std::io::Result<Reply> {
            let line = String::from_utf8_lossy(&http::read_line(reader)?).into_owned();
            let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status = status.ok_or_else(|| std::io::Error::other(format!("no status in {line:?}")))?;
            let headers = http::read_headers(reader)?;
            let bodiless = outgoing.method == "HEAD" || status == 204 || status == 304;
            let body = if bodiless { None } else { http::read_body(reader, &headers)? };
            Ok(Reply { status, headers, body: body.unwrap_or_default() })
        };
        read().map_err(|error| format!("no whole answer: {error}"))
    }
}

/// A request to send.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub method: String,
    pub path: String,
    pub host: Vec<u8>,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Outgoing {
    pub fn new(method: &str, path: &str) -> Outgoing {
        let (method, path) = (method.to_owned(), path.to_owned());
        Outgoing { method, path, host: b"shop.example".to_vec(), headers: Headers::new(), body: Vec::new() }
    }

    pub fn get(path: &str) -> Outgoing {
        Outgoing::new("GET", path)
    }

    pub fn host(mut self, host: impl AsRef<[u8]>) -> Outgoing {
        self.host = host.as_ref().to_vec();
        self
    }

    /// Adds a header, beside those of the same name.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Outgoing {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Outgoing {
        self.body = body.as_ref().to_vec();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nhost: ", self.method, self.path).into_bytes();
        bytes.extend([self.host.as_slice(), b"\r\n"].concat());
        for (name, value) in &self.headers {
            bytes.extend([name.as_slice(), b": ", value.as_slice(), b"\r\n"].concat());
        }
        if !self.body.is_empty() || self.method == "POST" {
            bytes.extend(format!("content-length: {}\r\n", self.body.len()).into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }
}

/// A request on its connection: `client.get("/").header("cookie", "uid=1").send()`.
pub struct RequestBuilder<'a> {
    client: &'a mut Client,
    outgoing: Outgoing,
}

impl RequestBuilder<'_> {
    pub fn host(mut self, host: impl AsRef<[u8]>) -> Self {
        self.outgoing = self.outgoing.host(host);
        self
    }

    /// Adds a header, beside those of the same name.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.outgoing = self.outgoing.header(name, value);
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.outgoing = self.outgoing.body(body);
        self
    }

    /// Sends it; panics when there is no whole answer.
    #[track_caller]
    pub fn send(self) -> Reply {
        match self.try_send() {
            Ok(reply) => reply,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn try_send(self) -> Result<Reply, Failure> {
        self.client.send(&self.outgoing)
    }
}

/// `count` connections, all open. An Envoy of the harness spreads them evenly over its workers.
pub fn connections(port: u16, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::new(port)).collect();
    for client in &mut clients {
        client.connect().unwrap_or_else(|error| panic!("{error}"));
    }
    clients
}
