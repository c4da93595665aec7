//! Load that costs the generator little: many requests written at once over few connections, and answers only counted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// A request: its path, and the headers of a browser with these cookies.
pub struct Request<'a> {
    pub path: &'a str,
    pub cookie: &'a str,
}

const BROWSER: [(&str, &str); 8] = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example/"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
];

/// A connection that takes one request after the other.
pub struct Connection {
    stream: TcpStream,
    protocol: Protocol,
    next_stream: u32,
    received: Vec<u8>,
}

impl Connection {
    pub fn open(port: u16, protocol: Protocol) -> std::io::Result<Connection> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        if protocol == Protocol::Http2 {
            // The preface, and settings that change nothing.
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
        }
        Ok(Connection { stream, protocol, next_stream: 1, received: Vec::new() })
    }

    /// Sends a request.
    pub fn send(&mut self, request: &Request<'_>) -> std::io::Result<()> {
        let bytes = match self.protocol {
            Protocol::Http1 => http1(request),
            Protocol::Http2 => {
                let stream = self.next_stream;
                self.next_stream += 2;
                http2(request, stream)
            }
        };
        self.stream.write_all(&bytes)
    }

    /// Waits for the next whole answer, which has to be a 200.
    pub fn receive(&mut self) -> std::io::Result<()> {
        loop {
            let done = match self.protocol {
                Protocol::Http1 => self.whole_http1()?,
                Protocol::Http2 => self.whole_http2()?,
            };
            if done {
                return Ok(());
            }
            let mut buffer = [0; 16 << 10];
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Err(std::io::Error::other("the connection was closed"));
            }
            self.received.extend_from_slice(&buffer[..read]);
        }
    }

    fn whole_http1(&mut self) -> std::io::Result<bool> {
        let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
        let head = String::from_utf8_lossy(&self.received[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(std::io::Error::other(head));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let length = length.ok_or_else(|| std::io::Error::other("an answer without a length"))?;
        if self.received.len() < end + 4 + length {
            return Ok(false);
        }
        self.received.drain(..end + 4 + length);
        Ok(true)
    }

    /// Takes in frames until a stream ends.
    fn whole_http2(&mut self) -> std::io::Result<bool> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        const END_STREAM_OR_ACK: u8 = 1;
        loop {
            let Some(head) = self.received.first_chunk::<9>().copied() else { return Ok(false) };
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            if self.received.len() < 9 + length {
                return Ok(false);
            }
            let payload: Vec<u8> = self.received.drain(..9 + length).skip(9).collect();
            let ends = flags & END_STREAM_OR_ACK != 0;
            match kind {
                SETTINGS if !ends => self.stream.write_all(b"\0\0\0\x04\x01\0\0\0\0")?,
                PING if !ends => self.stream.write_all(&[&b"\0\0\x08\x06\x01\0\0\0\0"[..], &payload].concat())?,
                // The first field of an answer is `:status: 200`, from the static table.
                HEADERS if payload.first() != Some(&0x88) => {
                    return Err(std::io::Error::other("an answer that is no 200"));
                }
                HEADERS if ends => return Ok(true),
                DATA => {
                    if length > 0 {
                        let window = [&b"\0\0\x04\x08\0\0\0\0\0"[..], &(length as u32).to_be_bytes()].concat();
                        self.stream.write_all(&window)?;
                    }
                    if ends {
                        return Ok(true);
                    }
                }
                3 | 7 => return Err(std::io::Error::other("the proxy reset the stream")),
                _ => {}
            }
        }
    }
}

fn http1(request: &Request<'_>) -> Vec<u8> {
    let mut text = format!("GET {} HTTP/1.1\r\nhost: shop.example\r\ncookie: {}\r\n", request.path, request.cookie);
    for (name, value) in BROWSER {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn http2(request: &Request<'_>, stream: u32) -> Vec<u8> {
    let line = [(":method", "GET"), (":scheme", "http"), (":path", request.path), (":authority", "shop.example")];
    let mut block = Vec::new();
    for (name, value) in line.into_iter().chain(BROWSER).chain([("cookie", request.cookie)]) {
        // A literal that is not indexed, as is: all lengths here are below 127.
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "{text}");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut frame = (block.len() as u32).to_be_bytes()[1..].to_vec();
    // HEADERS that end both the headers and the stream.
    frame.extend_from_slice(&[1, 5]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}
