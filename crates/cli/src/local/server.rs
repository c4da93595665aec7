//! An HTTP/1.1 server for faults that an ordinary server refuses to commit.
//!
//! It has one thread per connection, keeps connections alive, and records its requests. Its [`Behaviour`] can change at any
//! moment. It keeps its port while it refuses connections, and later listens on it again.

use super::http::{Handler, Request, Response};
use super::http::{read_request, rendered};
use super::lock;
use socket2::{Domain, Socket, Type};
use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The most requests that are recorded; further ones are only answered and counted.
const RECORDED_REQUESTS_MAX: usize = 100_000;
/// The most connections that wait to be accepted.
const CONNECTIONS_WAITING_MAX: i32 = 1024;

/// The behaviour of a server towards its next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Sends the handler's response.
    Respond,
    /// Answers with this status and an empty body, without calling the handler.
    Status(u16),
    /// Sends bytes that are not HTTP, and closes.
    Garbage,
    /// Sends the handler's response without the second half of its body, and closes.
    Truncate,
    /// Sends the handler's response after this delay.
    Slow(Duration),
    /// Sends the head at once, then one byte of the body per interval.
    Drip(Duration),
    /// Reads the request and never answers. The connection is closed when the behaviour changes.
    Hang,
    /// Reads the request and resets the connection.
    Reset,
    /// Stops listening: open connections are closed, and new ones refused. The port stays reserved.
    Refuse,
}

struct State {
    behaviour: Behaviour,
    /// The number of changes of behaviour. A response that waits ends with the next change.
    generation: u64,
    handler: Handler,
    requests: Vec<Request>,
    requests_received: u64,
    connections: HashMap<u64, TcpStream>,
    connections_opened: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// Waits for `duration`, or without end if there is none. False if the behaviour changed meanwhile.
    fn wait(&self, generation: u64, duration: Option<Duration>) -> bool {
        let end = duration.map(|duration| Instant::now() + duration);
        let mut state = lock(&self.state);
        while state.generation == generation {
            let left = end.map_or(Duration::from_secs(3600), |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

/// A running server. Dropping it closes its connections and its port.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Bound but never listening, which reserves the port while the server refuses.
    _reserved: Socket,
    acceptor: Mutex<Option<Acceptor>>,
}

/// The thread that accepts connections, and the way to end it.
struct Acceptor {
    thread: JoinHandle<()>,
    listener: TcpListener,
    stop: Arc<Mutex<bool>>,
}

impl Server {
    /// Listens on a free port of the loopback interface.
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> io::Result<Server> {
        Server::start_on(0, handler)
    }

    /// Listens on this port of the loopback interface. Port 0 chooses a free one.
    pub fn start_on(port: u16, handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> io::Result<Server> {
        Server::start_at((Ipv4Addr::LOCALHOST, port).into(), handler)
    }

    /// Listens at this address. Port 0 chooses a free one.
    pub fn start_at(
        address: SocketAddr,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> io::Result<Server> {
        let reserved = bind(address)?;
        let address = reserved.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))?;
        let state = State {
            behaviour: Behaviour::Respond,
            generation: 0,
            handler: Arc::new(handler),
            requests: Vec::new(),
            requests_received: 0,
            connections: HashMap::new(),
            connections_opened: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let server = Server { shared, address, _reserved: reserved, acceptor: Mutex::new(None) };
        server.listen()?;
        Ok(server)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes the behaviour. Returns when the change is in force; responses that wait are given up.
    pub fn set(&self, behaviour: Behaviour) {
        let mut acceptor = lock(&self.acceptor);
        {
            let mut state = lock(&self.shared.state);
            state.behaviour = behaviour;
            state.generation += 1;
        }
        self.shared.changed.notify_all();
        if behaviour == Behaviour::Refuse {
            if let Some(acceptor) = acceptor.take() {
                self.stop(acceptor);
            }
            self.close_connections();
        } else if acceptor.is_none() {
            match self.acceptor() {
                Ok(again) => *acceptor = Some(again),
                Err(error) => eprintln!("cannot listen on {} again: {error}", self.address),
            }
        }
    }

    /// Replaces the handler, and responds with it.
    pub fn respond(&self, handler: impl Fn(&Request) -> Response + Send + Sync + 'static) {
        lock(&self.shared.state).handler = Arc::new(handler);
        self.set(Behaviour::Respond);
    }

    /// The recorded requests, in the order of their arrival.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.state).requests.clone()
    }

    /// Takes the recorded requests out of the record.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.shared.state).requests)
    }

    /// The number of requests received, whether or not they were recorded or answered.
    pub fn requests_received(&self) -> u64 {
        lock(&self.shared.state).requests_received
    }

    /// The number of accepted connections.
    pub fn connections_opened(&self) -> u64 {
        lock(&self.shared.state).connections_opened
    }

    /// Closes the open connections, even in the middle of a response.
    fn close_connections(&self) {
        for (_, stream) in lock(&self.shared.state).connections.drain() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn listen(&self) -> io::Result<()> {
        *lock(&self.acceptor) = Some(self.acceptor()?);
        Ok(())
    }

    fn acceptor(&self) -> io::Result<Acceptor> {
        let socket = bind(self.address)?;
        socket.listen(CONNECTIONS_WAITING_MAX)?;
        let listener = TcpListener::from(socket);
        let stop = Arc::new(Mutex::new(false));
        let (shared, stopped) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let accepting = listener.try_clone()?;
        let thread = std::thread::spawn(move || accept(&accepting, &shared, &stopped));
        Ok(Acceptor { thread, listener, stop })
    }

    /// Ends the acceptor, and the listening.
    fn stop(&self, acceptor: Acceptor) {
        *lock(&acceptor.stop) = true;
        // Closing is not enough: a process that another thread is just starting holds a copy of the socket until its
        // `exec`, and the port would listen for that long. On Linux, a shutdown also wakes the thread from `accept`.
        let _ = socket2::SockRef::from(&acceptor.listener).shutdown(Shutdown::Both);
        // Elsewhere, a connection wakes it.
        let _ = TcpStream::connect(self.address);
        let _ = acceptor.thread.join();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.set(Behaviour::Refuse);
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Two sockets may share the port as long as only one listens.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, stopped: &Mutex<bool>) {
    for stream in listener.incoming() {
        if *lock(stopped) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(kept) = stream.try_clone() else { continue };
        let mut state = lock(&shared.state);
        state.connections_opened += 1;
        let connection = state.connections_opened;
        state.connections.insert(connection, kept);
        drop(state);
        let registered = Registered { shared: Arc::clone(shared), connection };
        std::thread::spawn(move || {
            // An error only means that the connection ended.
            let _ = serve(stream, &registered.shared);
        });
    }
}

/// A connection's entry among the open ones. It is removed at the end of the thread, even after a panic of the handler:
/// its clone of the stream would keep the connection open.
struct Registered {
    shared: Arc<Shared>,
    connection: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.shared.state).connections.remove(&self.connection);
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        let (behaviour, generation, handler) = {
            let mut state = lock(&shared.state);
            state.requests_received += 1;
            if state.requests.len() < RECORDED_REQUESTS_MAX {
                state.requests.push(request.clone());
            }
            (state.behaviour, state.generation, Arc::clone(&state.handler))
        };
        if !answer(&stream, &request, behaviour, generation, &handler, shared)? {
            break;
        }
    }
    Ok(())
}

/// Answers a request according to `behaviour`. False if the connection ends.
fn answer(
    mut stream: &TcpStream,
    request: &Request,
    behaviour: Behaviour,
    generation: u64,
    handler: &Handler,
    shared: &Shared,
) -> io::Result<bool> {
    match behaviour {
        Behaviour::Respond => stream.write_all(&rendered(request, &handler(request)).concat())?,
        Behaviour::Status(status) => stream.write_all(&rendered(request, &Response::new(status)).concat())?,
        Behaviour::Garbage => {
            stream.write_all(b"\x00\xff\x13 this is not HTTP \r\n\r\n")?;
            return Ok(false);
        }
        Behaviour::Truncate => {
            let mut response = handler(request);
            if response.body.is_empty() {
                response.body = b"truncated".to_vec();
            }
            let [head, body] = rendered(request, &response);
            stream.write_all(&head)?;
            stream.write_all(body.get(..body.len() / 2).unwrap_or_default())?;
            return Ok(false);
        }
        Behaviour::Slow(delay) => {
            if !shared.wait(generation, Some(delay)) {
                return Ok(false);
            }
            stream.write_all(&rendered(request, &handler(request)).concat())?;
        }
        Behaviour::Drip(interval) => {
            let [head, body] = rendered(request, &handler(request));
            stream.write_all(&head)?;
            for byte in body {
                if !shared.wait(generation, Some(interval)) {
                    return Ok(false);
                }
                stream.write_all(&[byte])?;
            }
        }
        Behaviour::Hang => {
            shared.wait(generation, None);
            return Ok(false);
        }
        Behaviour::Reset => {
            // Without lingering, the close of the last clone of the socket sends RST instead of FIN.
            let socket = socket2::SockRef::from(stream);
            socket.set_linger(Some(Duration::ZERO))?;
            return Ok(false);
        }
        Behaviour::Refuse => return Ok(false),
    }
    Ok(true)
}
