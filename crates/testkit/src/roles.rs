//! The three services the filter meets, each on a [`Server`] with all its faults: `origin.server.set(Behaviour::Hang)`.

use super::http::{Request, Response};
use super::server::Server;
use super::{fixture, lock};
use edgesplit_cli::local::config_service;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What stands behind Envoy: answers with what it received, as JSON.
pub struct Origin {
    pub server: Server,
}

impl Origin {
    /// Answers 200 with [`echo`].
    pub fn start() -> io::Result<Origin> {
        Ok(Origin { server: Server::start(|request| Response::json(200, &echo(request)))? })
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Answers differently from now on.
    pub fn respond(&self, handler: impl Fn(&Request) -> Response + Send + Sync + 'static) {
        self.server.respond(handler);
    }

    /// The request that came last.
    pub fn last_request(&self) -> Request {
        self.server.requests().pop().expect("the origin has received no request")
    }
}

/// `{"method", "path", "headers": [[name, value], …], "body"}`. Bytes that are not UTF-8 are replaced here; the
/// server's record has them as they were.
pub fn echo(request: &Request) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| [text(name), text(value)]).collect();
    json!({"method": request.method, "path": request.path, "headers": headers, "body": text(&request.body)})
}

/// A [`config_service::ConfigService`] whose documents are checked.
pub struct ConfigService(config_service::ConfigService);

impl ConfigService {
    /// Serves this document. Panics if it has unknown fields: see `set_body` for tests of those.
    #[track_caller]
    pub fn start(document: &Value) -> io::Result<ConfigService> {
        fixture::check_document(document);
        config_service::ConfigService::start_on(0, document.to_string()).map(ConfigService)
    }

    /// Serves another document from now on. Panics if it has unknown fields.
    #[track_caller]
    pub fn set_document(&self, document: &Value) {
        fixture::check_document(document);
        self.set_body(document.to_string());
    }
}

impl Deref for ConfigService {
    type Target = config_service::ConfigService;

    fn deref(&self) -> &config_service::ConfigService {
        &self.0
    }
}

/// A call of the event service, as it was received.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The `idempotency-key`.
    pub key: Option<String>,
    pub path: String,
    pub content_type: Option<String>,
    pub authorization: Option<String>,
    pub events: Vec<Value>,
    pub bytes: usize,
    /// The status it was answered with; 0 until then.
    pub status: u16,
    pub arrived: Instant,
}

impl Batch {
    /// Whether the collector took the batch.
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// An event the collector took.
#[derive(Debug, Clone)]
pub struct Received {
    pub event: Value,
    /// How many times it came, in accepted batches: delivery is at least once.
    pub times: u64,
}

type Answer = Box<dyn Fn(&Batch) -> Response + Send>;

struct Store {
    batches: Vec<Batch>,
    answer: Answer,
}

/// The event service: keeps the events that it accepts, and refuses others on request.
pub struct Collector {
    pub server: Server,
    store: Arc<Mutex<Store>>,
}

impl Collector {
    /// Takes everything, with 202.
    pub fn start() -> io::Result<Collector> {
        let store = Arc::new(Mutex::new(Store { batches: Vec::new(), answer: Box::new(|_| Response::new(202)) }));
        let kept = Arc::clone(&store);
        let server = Server::start(move |request| {
            let mut store = lock(&kept);
            let mut batch = batch_of(request);
            let response = (store.answer)(&batch);
            batch.status = response.status;
            store.batches.push(batch);
            response
        })?;
        Ok(Collector { server, store })
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Answers every batch by `answer` from now on. The stored ones stay.
    pub fn answer(&self, answer: impl Fn(&Batch) -> Response + Send + 'static) {
        lock(&self.store).answer = Box::new(answer);
    }

    /// Answers every batch with this status.
    pub fn answer_status(&self, status: u16) {
        self.answer(move |_| Response::new(status));
    }

    /// Answers 413 to a batch of more than `events_max` events, 202 to the others.
    pub fn refuse_more_than(&self, events_max: usize) {
        self.answer(move |batch| Response::new(if batch.events.len() > events_max { 413 } else { 202 }));
    }

    /// Answers 429 with this `retry-after`: seconds or a date.
    pub fn ask_to_wait(&self, retry_after: &str) {
        let retry_after = retry_after.to_owned();
        self.answer(move |_| Response::new(429).header("retry-after", retry_after.clone()));
    }

    /// Every call, accepted or not, in the order of arrival.
    pub fn batches(&self) -> Vec<Batch> {
        lock(&self.store).batches.clone()
    }

    /// How many calls there were, accepted or not.
    pub fn calls(&self) -> usize {
        lock(&self.store).batches.len()
    }

    /// The events of accepted batches, by id.
    pub fn events(&self) -> BTreeMap<String, Received> {
        let mut events = BTreeMap::new();
        for batch in lock(&self.store).batches.iter().filter(|batch| batch.accepted()) {
            for event in &batch.events {
                let id = event["id"].as_str().unwrap_or_else(|| panic!("an event without an id: {event}"));
                events.entry(id.to_owned()).or_insert(Received { event: event.clone(), times: 0 }).times += 1;
            }
        }
        events
    }

    /// How many events were accepted more than once.
    pub fn repeats(&self) -> u64 {
        self.events().values().map(|received| received.times - 1).sum()
    }

    /// Forgets everything received so far.
    pub fn clear(&self) {
        lock(&self.store).batches.clear();
        self.server.take_requests();
    }
}

/// Reads the events out of a body: a native one, `{"batch", "events": […]}`, one of JSON lines, CloudEvents with their `data`,
/// or Kafka's records with their `value`. One of any other shape counts as no events: the server's record has its bytes.
fn batch_of(request: &Request) -> Batch {
    let events = match request.json() {
        Some(Value::Object(mut body)) if body.get("events").is_some_and(Value::is_array) => {
            body["events"].take().as_array().cloned().unwrap_or_default()
        }
        Some(Value::Object(mut body)) if body.get("records").is_some_and(Value::is_array) => {
            body["records"].as_array_mut().into_iter().flatten().map(|record| record["value"].take()).collect()
        }
        Some(Value::Array(mut events)) if events.iter().all(|event| event.get("specversion").is_some()) => {
            events.iter_mut().map(|event| event["data"].take()).collect()
        }
        Some(Value::Array(events)) => events,
        _ => {
            let lines = request.body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            lines.map(serde_json::from_slice).collect::<Result<_, _>>().unwrap_or_default()
        }
    };
    Batch {
        key: request.header("idempotency-key"),
        path: request.path.clone(),
        content_type: request.header("content-type"),
        authorization: request.header("authorization"),
        events,
        bytes: request.body.len(),
        status: 0,
        arrived: request.arrived,
    }
}
