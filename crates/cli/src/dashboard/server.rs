//! The dashboard's web server: short answers to `GET`, with one thread per connection. A browser opens many connections and
//! leaves some idle; they must not block the others.

use edgesplit_filter::http::url;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The most connections served at once; further ones are closed.
const CONNECTIONS_MAX: usize = 64;

/// The most bytes of a request that are read.
const REQUEST_BYTES_MAX: u64 = 16 << 10;

/// The longest time from accepting a connection to the end of its response.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// A response.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) status: &'static str,
    pub(super) kind: &'a str,
    pub(super) body: Vec<u8>,
}

/// Serves connections without end; `answer` makes the reply to a path and its query.
pub(super) fn serve<'a>(listener: &TcpListener, answer: impl Fn(&str, &str) -> Reply<'a> + Sync) {
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
                let _ = serve_connection(&connection, REQUEST_TIME_MAX, answer);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

/// A connection that ends at a deadline, however slowly the other side reads and writes.
#[derive(Clone, Copy)]
struct Timed<'c> {
    connection: &'c TcpStream,
    until: Instant,
}

impl Timed<'_> {
    fn time_left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.connection.set_read_timeout(self.time_left()?)?;
        self.connection.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.set_write_timeout(self.time_left()?)?;
        self.connection.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.connection.flush()
    }
}

/// Whether a request with this `Host` is for the dashboard: by a name of loopback, or by the address `own` that it arrived
/// at. A page elsewhere could otherwise have its own name resolve to this address, and read the dashboard.
fn is_own_host(host: &str, own: IpAddr) -> bool {
    let name = String::from_utf8_lossy(&url::host(host.as_bytes())).into_owned();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let name = name.trim_end_matches('.');
    let is_loopback_name = name == "localhost" || name.ends_with(".localhost");
    is_loopback_name || address.is_ok_and(|address| address.is_loopback() || address == own.to_canonical())
}

fn serve_connection<'a>(
    connection: &TcpStream,
    time_max: Duration,
    answer: impl Fn(&str, &str) -> Reply<'a>,
) -> io::Result<()> {
    let own = connection.local_addr()?.ip();
    let mut connection = Timed { connection, until: Instant::now() + time_max };
    let mut lines = BufReader::new(connection.take(REQUEST_BYTES_MAX));
    let (mut request, mut line, mut host) = (String::new(), String::new(), None);
    lines.read_line(&mut request)?;
    // All headers must be read: closing a socket with unread data resets the connection.
    while lines.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("host")) {
            host = host.or_else(|| Some(value.trim().to_owned()));
        }
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let answer = match method {
        _ if !is_own_host(host.as_deref().unwrap_or_default(), own) => {
            Reply { status: "403 Forbidden", kind: "text/plain", body: b"not the name of this dashboard\n".to_vec() }
        }
        "GET" | "HEAD" => answer(path, query),
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
            serve(&listener, |path, _| Reply { status: "200 OK", kind: "text/plain", body: path.as_bytes().to_vec() });
        });
        let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in 0..20 {
            let answer = ask(address, b"GET /state.json?a=1 HTTP/1.1\r\nhost: localhost:80\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n/state.json"), "{answer}");
            assert!(answer.contains("\r\ncontent-length: 11\r\n"), "{answer}");
        }
        assert!(ask(address, b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(ask(address, b"POST / HTTP/1.1\r\nhost: [::1]:1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        for host in ["", "host: evil.example\r\n", "host: localhost.evil.example\r\n", "host: 192.0.2.1\r\n"] {
            let answer = ask(address, format!("GET / HTTP/1.1\r\n{host}\r\n").as_bytes());
            assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
        }
        // Bytes that are not UTF-8 get no reply.
        assert_eq!(ask(address, b"\xff\xfe\r\n\r\n"), "");
        drop(idle);
        assert!(ask(address, b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").ends_with("\r\n\r\n/"));
    }

    #[test]
    fn request_has_one_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (connection, _) = listener.accept().unwrap();
        let began = Instant::now();
        // Each byte arrives in time, but the request never ends.
        let drip = std::thread::spawn(move || {
            while client.write_all(b"x").is_ok() && began.elapsed().as_secs() < 20 {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let reply = |_: &str, _: &str| Reply { status: "200 OK", kind: "text/plain", body: Vec::new() };
        let served = serve_connection(&connection, Duration::from_millis(200), reply);
        assert!(served.is_err() && began.elapsed() < Duration::from_secs(10), "{served:?}");
        drop(connection);
        drip.join().unwrap();
    }
}
