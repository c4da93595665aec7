//! The dashboard's web server: short answers to `GET`, with one task per connection on one thread. A browser opens many
//! connections and leaves some idle; they must not block the others.

use edgesplit_filter::http::url;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

/// The most connections served at once; further ones are closed.
const CONNECTIONS_MAX: usize = 64;

/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The longest time from accepting a connection to the end of its response.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// The pause after a connection that could not be accepted, because the process has too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The headers of every response.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    ),
];

/// A response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) body: Bytes,
}

impl Reply {
    /// A response with a short text.
    pub(super) fn text(status: StatusCode, text: &'static str) -> Reply {
        Reply { status, kind: "text/plain", body: Bytes::from_static(text.as_bytes()) }
    }
}

/// Serves connections without end; `answer` makes the reply to a path and its query.
pub(super) fn serve(listener: TcpListener, answer: impl Fn(&str, &str) -> Reply + 'static) -> io::Result<()> {
    serve_within(listener, REQUEST_TIME_MAX, answer)
}

fn serve_within(
    listener: TcpListener,
    time_max: Duration,
    answer: impl Fn(&str, &str) -> Reply + 'static,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        // Each open connection holds one reference.
        let answer = Rc::new(answer);
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            if Rc::strong_count(&answer) <= CONNECTIONS_MAX {
                let answer = Rc::clone(&answer);
                // An error means that the browser has closed the connection.
                spawn_local(async move { timeout(time_max, serve_connection(connection, &*answer)).await });
            }
        }
    })
}

async fn serve_connection(connection: TcpStream, answer: impl Fn(&str, &str) -> Reply) -> Result<(), hyper::Error> {
    let own = connection.local_addr().map_or(IpAddr::from([127, 0, 0, 1]), |own| own.ip());
    let service = service_fn(|request| ready(Ok::<_, Infallible>(respond(&request, own, &answer))));
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    server.serve_connection(TokioIo::new(connection), service).await
}

fn respond<B>(request: &Request<B>, own: IpAddr, answer: impl Fn(&str, &str) -> Reply) -> Response<Full<Bytes>> {
    let host = request.headers().get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let reply = match *request.method() {
        _ if !is_own_host(host, own) => Reply::text(StatusCode::FORBIDDEN, "not the name of this dashboard\n"),
        Method::GET | Method::HEAD => answer(request.uri().path(), request.uri().query().unwrap_or_default()),
        _ => Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
    };
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    for (name, value) in HEADERS.into_iter().chain([(header::CONTENT_TYPE, reply.kind)]) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request with this `Host` is for the dashboard: by a name of loopback, or by the address `own` that it arrived
/// at. A page elsewhere could otherwise have its own name resolve to this address, and read the dashboard.
fn is_own_host(host: &[u8], own: IpAddr) -> bool {
    let name = String::from_utf8_lossy(&url::host(host)).into_owned();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let name = name.trim_end_matches('.');
    let is_loopback_name = name == "localhost" || name.ends_with(".localhost");
    is_loopback_name || address.is_ok_and(|address| address.is_loopback() || address == own.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Instant;

    /// A server that answers with the path and the query.
    fn start(time_max: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            serve_within(listener, time_max, |path, query| Reply {
                status: StatusCode::OK,
                kind: "text/plain",
                body: format!("{path} {query}").into(),
            })
        });
        address
    }

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
        let address = start(REQUEST_TIME_MAX);
        let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in 0..20 {
            let answer = ask(address, b"GET /state.json?a=1 HTTP/1.1\r\nhost: localhost:80\r\n\r\n");
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n/state.json a=1"),
                "{answer}"
            );
            assert!(
                answer.contains("\r\ncontent-length: 15\r\n") && answer.contains("frame-ancestors 'none'"),
                "{answer}"
            );
        }
        assert!(ask(address, b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(ask(address, b"POST / HTTP/1.1\r\nhost: [::1]:1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        for host in ["", "host: evil.example\r\n", "host: localhost.evil.example\r\n", "host: 192.0.2.1\r\n"] {
            let answer = ask(address, format!("GET / HTTP/1.1\r\n{host}\r\n").as_bytes());
            assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
        }
        assert!(ask(address, b"\xff\xfe\r\n\r\n").starts_with("HTTP/1.1 400 "));
        drop(idle);
        assert!(ask(address, b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").ends_with("\r\n\r\n/ "));
    }

    #[test]
    fn connections_beyond_the_limit_are_closed_and_later_ones_served() {
        let address = start(Duration::from_millis(500));
        let idle: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut refused = TcpStream::connect(address).unwrap();
        assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0, "it is closed");
        drop(idle);
        let end = Instant::now() + Duration::from_secs(10);
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let is_served = || {
            let mut connection = TcpStream::connect(address).unwrap();
            let mut answer = String::new();
            connection
                .write_all(request)
                .and_then(|()| connection.read_to_string(&mut answer))
                .is_ok_and(|read| read > 0)
        };
        while !is_served() {
            assert!(Instant::now() < end);
        }
    }

    #[test]
    fn request_has_one_deadline() {
        let mut client = TcpStream::connect(start(Duration::from_millis(200))).unwrap();
        let began = Instant::now();
        // Each byte arrives in time, but the request never ends.
        while client.write_all(b"x").is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "it is still open");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
