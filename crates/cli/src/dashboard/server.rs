//! The dashboard's web server: short answers to `GET`, with one thread per connection. A browser opens many connections and
//! leaves some idle; they must not block the others.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The most connections served at once; further ones are closed.
const CONNECTIONS_MAX: usize = 64;

/// The most bytes of a request that are read.
const REQUEST_BYTES_MAX: u64 = 16 << 10;

/// The longest time for reading a request, or for writing a response.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// A response.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) status: &'static str,
    pub(super) kind: &'a str,
    pub(super) body: Vec<u8>,
}

/// Serves connections without end; `answer` makes the reply to a path.
pub(super) fn serve<'a>(listener: &TcpListener, answer: impl Fn(&str) -> Reply<'a> + Sync) {
    let open = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for connection in listener.incoming() {
            let Ok(connection) = connection else { continue };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (answer, open) = (&answer, &open);
            scope.spawn(move || {
                // An error means that the browser has closed the connection.
                let _ = serve_connection(&connection, answer);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

fn serve_connection<'a>(mut connection: &TcpStream, answer: impl Fn(&str) -> Reply<'a>) -> io::Result<()> {
    connection.set_read_timeout(Some(IO_TIMEOUT))?;
    connection.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut lines = BufReader::new(connection.take(REQUEST_BYTES_MAX));
    let (mut request, mut line) = (String::new(), String::new());
    lines.read_line(&mut request)?;
    // The headers are ignored but must be read: closing a socket with unread data resets the connection.
    while lines.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let answer = match method {
        "GET" | "HEAD" => answer(path),
        _ => Reply { status: "405 Method Not Allowed", kind: "text/plain", body: b"only GET\n".to_vec() },
    };
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\n\
         content-security-policy: default-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; frame-ancestors 'none'\r\n\r\n",
        answer.status,
        answer.kind,
        answer.body.len()
    );
    connection.write_all(head.as_bytes())?;
    if method != "HEAD" {
        connection.write_all(&answer.body)?;
    }
    connection.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// Sends `request`, and returns the whole reply.
    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(request).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn serve_answers_beside_idle_connections_and_invalid_requests() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            serve(&listener, |path| Reply { status: "200 OK", kind: "text/plain", body: path.as_bytes().to_vec() });
        });
        let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in 0..20 {
            let answer = ask(address, b"GET /state.json?a=1 HTTP/1.1\r\nhost: h\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n/state.json"), "{answer}");
            assert!(answer.contains("\r\ncontent-length: 11\r\n"), "{answer}");
        }
        assert!(ask(address, b"HEAD / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(ask(address, b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(ask(address, b"\r\n\r\n").starts_with("HTTP/1.1 405 "));
        // Bytes that are not UTF-8 get no reply.
        assert_eq!(ask(address, b"\xff\xfe\r\n\r\n"), "");
        drop(idle);
        assert!(ask(address, b"GET / HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n/"));
    }
}
