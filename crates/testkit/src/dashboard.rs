//! The dashboard of the built command, beside Envoys; its page in a browser; and admin interfaces with invented stats.

use super::Failure;
use super::browser::Browser;
use super::client::Client;
use super::http::Response;
use super::server::Server;
use super::skip::installed;
use super::{eventually, lock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A dashboard that runs. It ends with its owner.
pub struct Dashboard {
    process: Child,
    /// Such as `http://127.0.0.1:8004`.
    pub address: String,
}

impl Dashboard {
    /// Starts it for the Envoy with this admin port, with this config (a file or an address), on `port`; 0 is a free one.
    pub fn start(admin: u16, config: &str, port: u16) -> Result<Dashboard, Failure> {
        Dashboard::of(&[admin], config, port)
    }

    /// The same for several Envoys.
    pub fn of(admins: &[u16], config: &str, port: u16) -> Result<Dashboard, Failure> {
        let command = super::root().join("dist/edgesplit");
        let mut process = Command::new(&command)
            .args(["dashboard", "--config", config, "--listen", &format!("127.0.0.1:{port}")])
            .args(admins.iter().flat_map(|admin| ["--envoy".to_owned(), format!("http://127.0.0.1:{admin}")]))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}: run `make build`", command.display()))?;
        let mut line = String::new();
        let read = process.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let address = line.trim().to_owned();
        let dashboard = Dashboard { process, address };
        match read {
            Some(Ok(_)) if dashboard.address.starts_with("http://") => Ok(dashboard),
            _ => Err("the dashboard did not start; why is said above".to_owned()),
        }
    }

    /// What the page is drawn from.
    pub fn state(&self) -> Value {
        let port = self.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        Client::new(port).get("/state.json").host(format!("127.0.0.1:{port}")).send().json()
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The open page; empty if no browser is installed.
pub struct Page(pub Option<Browser>);

impl Page {
    /// Opens the page of `dashboard`.
    pub fn open(dashboard: &Dashboard) -> Page {
        Page(installed("chromium", "browser").map(|program| Browser::open(&program, &dashboard.address)))
    }

    /// Waits until each selector has this text.
    #[track_caller]
    pub fn shows(&mut self, expected: &[(&str, &str)]) {
        let Some(browser) = &mut self.0 else { return };
        for (selector, text) in expected {
            // A number must match as a whole.
            let is_figure = text.bytes().all(|byte| byte.is_ascii_digit());
            browser.wait_for(selector, |found| found == *text || (!is_figure && found.contains(text)));
        }
    }

    /// Opens the card of an experiment.
    #[track_caller]
    pub fn open_card(&mut self, experiment: usize) {
        self.evaluate(&format!("document.getElementById('experiment-{experiment}-title').click()"));
        self.shows(&[(&format!("#experiment-{experiment} .facts"), "state")]);
    }

    /// Opens a part that is folded away while it is healthy.
    pub fn unfold(&mut self, part: &str) {
        self.evaluate(&format!("document.getElementById('{part}').open = true"));
    }

    /// The value of an expression; null without a browser.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        self.0.as_mut().map_or(Value::Null, |browser| browser.evaluate(expression))
    }

    /// The number that is shown there.
    pub fn number(&mut self, selector: &str) -> Option<u64> {
        self.0.as_mut()?.text(selector).replace(',', "").parse().ok()
    }

    /// Writes a picture of the page in this width, down to `height_max`, to the folder that `EDGESPLIT_SCREENSHOTS` names.
    pub fn picture(&mut self, name: &str, scheme: &str, width: u32, height_max: u64) {
        let (Some(browser), Some(folder)) = (&mut self.0, std::env::var_os("EDGESPLIT_SCREENSHOTS")) else { return };
        browser.prefer(scheme);
        browser.resize(width, 600);
        browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
        let height = browser.evaluate("document.documentElement.scrollHeight").as_u64().unwrap_or(600);
        browser.resize(width, height.min(height_max) as u32);
        browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
        browser.picture(&super::root().join(Path::new(&folder)).join(format!("{name}.webp")));
        browser.prefer("light");
    }

    /// Closes the page, which must have logged no errors.
    #[track_caller]
    pub fn close(self) {
        assert_eq!(self.0.map_or_else(Vec::new, |browser| browser.complaints.clone()), [""; 0]);
    }
}

/// An admin interface with stats that a test invents, by their names behind `edgesplit.demo.`.
pub struct FakeAdmin {
    server: Server,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl FakeAdmin {
    /// Starts it without any stats.
    pub fn start() -> FakeAdmin {
        let answer = Arc::new(Mutex::new(b"{\"stats\": []}".to_vec()));
        let served = Arc::clone(&answer);
        let server = Server::start(move |_| Response::new(200).body(lock(&served).clone()));
        FakeAdmin { server: server.unwrap_or_else(|error| panic!("an admin interface: {error}")), answer }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Replaces the stats.
    pub fn set(&self, stats: &BTreeMap<String, u64>) {
        let stat = |(name, value): (&String, &u64)| json!({"name": format!("wasmcustom.edgesplit.demo.{name}"), "value": value});
        let stats: Vec<Value> = stats.iter().map(stat).collect();
        *lock(&self.answer) = json!({"stats": stats}).to_string().into_bytes();
    }
}

/// Waits until the state of the dashboard is as wanted, and returns it.
#[track_caller]
pub fn wait_for_state(dashboard: &Dashboard, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(super::DEADLINE, what, || Some(dashboard.state()).filter(&is))
}
