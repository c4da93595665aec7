//! An HTTP/2 client of one request, over cleartext with prior knowledge: for what only HTTP/2 clients send.

use super::{DEADLINE, Failure};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// Sends a GET with these headers, each field on its own, and waits for the whole answer, which must be a 200. The
/// origin records the headers that it gets.
pub fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<(), Failure> {
    exchange(port, path, headers).map_err(|error| format!("GET {path} over HTTP/2: {error}"))
}

fn exchange(port: u16, path: &str, headers: &[(&str, &str)]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let line = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "shop.example")];
    let mut block = Vec::new();
    for text in line.iter().chain(headers).flat_map(|(name, value)| [("name", name), ("value", value)]) {
        // A literal that is not indexed, as is.
        if text.0 == "name" {
            block.push(0);
        }
        let length = u8::try_from(text.1.len()).ok().filter(|length| *length < 127);
        block.push(length.ok_or_else(|| std::io::Error::other("a text of 127 bytes or more"))?);
        block.extend_from_slice(text.1.as_bytes());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&(block.len() as u32).to_be_bytes()[1..]);
    // Ends both the headers and the stream, which is the first.
    bytes.extend_from_slice(&[HEADERS, END_STREAM | 4, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    stream.write_all(&bytes)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let ends = head[4] & END_STREAM != 0;
        match head[3] {
            SETTINGS if !ends => stream.write_all(b"\0\0\0\x04\x01\0\0\0\0")?,
            // The first field of an answer is `:status: 200`, from the static table.
            HEADERS if payload.first() != Some(&0x88) => return Err(std::io::Error::other("an answer that is no 200")),
            RST_STREAM | GOAWAY => return Err(std::io::Error::other("the proxy reset the stream")),
            0 | HEADERS if ends => return Ok(()),
            _ => {}
        }
    }
}
