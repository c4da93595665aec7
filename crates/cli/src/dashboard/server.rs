//! A web server for a page and its parts: short answers to `GET`, a connection for each, so that idle connections of a browser,
//! of which it opens many, hold up nobody.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many connections are served at once; more than that are closed.
const CONNECTIONS_MAX: usize = 64;

/// The most bytes of a request that are read.
const REQUEST_BYTES_MAX: u64 = 16 << 10;

/// How long a browser may take to ask, or to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: &'static str,
    pub(super) kind: &'a str,
    pub(super) body: Vec<u8>,
}

/// Answers for ever, with what `answer` makes of a path.
pub(super) fn serve<'a>(listener: &TcpListener, answer: impl Fn(&str) -> Answer<'a> + Sync) {
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
                // A browser that is gone has nobody to be told.
                let _ = one(&connection, answer);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

fn one<'a>(mut connection: &TcpStream, answer: impl Fn(&str) -> Answer<'a>) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(connection.take(REQUEST_BYTES_MAX));
    let (mut request, mut line) = (String::new(), String::new());
    lines.read_line(&mut request)?;
    // Nothing that follows matters, but it has to be read: what is closed unread is reset.
    while lines.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let answer = match method {
        "GET" | "HEAD" => answer(path),
        _ => Answer { status: "405 Method Not Allowed", kind: "text/plain", body: b"GET alone\n".to_vec() },
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

    /// What is answered to these bytes.
    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(request).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn idle_connections_hold_up_nobody_and_nonsense_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            serve(&listener, |path| Answer { status: "200 OK", kind: "text/plain", body: path.as_bytes().to_vec() });
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
        // What is no text is not answered, and nothing comes of it.
        assert_eq!(ask(address, b"\xff\xfe\r\n\r\n"), "");
        drop(idle);
        assert!(ask(address, b"GET / HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n/"));
    }
}
