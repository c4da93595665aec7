//! A config service: serves one document with a strong ETag.

use super::http::{Request, Response};
use super::lock;
use super::server::Server;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

/// Serves one document, and answers `If-None-Match` with 304.
pub struct ConfigService {
    /// The server, which can be made to fail.
    pub server: Server,
    document: Arc<Mutex<Document>>,
}

struct Document {
    body: Vec<u8>,
    sent: u64,
    not_modified: u64,
}

impl ConfigService {
    /// Serves these bytes on this port of the loopback interface. Port 0 chooses a free one.
    pub fn start_on(port: u16, body: impl Into<Vec<u8>>) -> io::Result<ConfigService> {
        ConfigService::start_at((Ipv4Addr::LOCALHOST, port).into(), body)
    }

    /// Serves these bytes at this address.
    pub fn start_at(address: SocketAddr, body: impl Into<Vec<u8>>) -> io::Result<ConfigService> {
        let document = Arc::new(Mutex::new(Document { body: body.into(), sent: 0, not_modified: 0 }));
        let served = Arc::clone(&document);
        let server = Server::start_at(address, move |request| lock(&served).answer(request))?;
        Ok(ConfigService { server, document })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Serves these bytes from now on, valid or not.
    pub fn set_body(&self, body: impl Into<Vec<u8>>) {
        lock(&self.document).body = body.into();
    }

    /// The number of responses with the document, which have the status 200.
    pub fn sent(&self) -> u64 {
        lock(&self.document).sent
    }

    /// The number of responses with the status 304.
    pub fn not_modified(&self) -> u64 {
        lock(&self.document).not_modified
    }
}

impl Document {
    fn answer(&mut self, request: &Request) -> Response {
        let mut hasher = DefaultHasher::new();
        self.body.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        if request.header("if-none-match").is_some_and(|known| known == etag) {
            self.not_modified += 1;
            return Response::new(304).header("etag", etag);
        }
        self.sent += 1;
        Response::new(200).header("content-type", "application/json").header("etag", etag).body(self.body.clone())
    }
}
