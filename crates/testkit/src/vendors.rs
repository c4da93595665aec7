//! The sample payloads of vendors, and visitors that they are decided for.

use super::client::Outgoing;
use super::command;
use super::envoy::Envoy;
use super::stack::{echoed, merged};
use super::{DEADLINE, eventually, root};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many visitors there are.
pub const VISITORS: usize = 200;

/// The sample payload of a format. It has five flags.
pub fn payload(format: &str) -> Value {
    let file = root().join(format!("examples/{format}.json"));
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

/// A plugin configuration for a format's sample, with the members of `with` on top.
pub fn plugin(format: &str, with: Value) -> Value {
    let base = json!({
        "experiments": {"cluster": "experiments", "format": format, "refresh": "1s"}, "effects": {},
        "visitor": {"id": [{"header": "x-user-id"}],
                    "attributes": {"country": "header.x-country", "plan": "cookie.plan", "app_version": "query.app"}},
    });
    merged(base, with)
}

/// A mixed population: every country, plan and version, some without, and the visitors that the payloads name.
#[derive(Debug)]
pub struct Visitor {
    pub id: String,
    pub attributes: Vec<(&'static str, &'static str)>,
}

/// As many visitors, with and without attributes.
pub fn visitors() -> Vec<Visitor> {
    let pick = |number: usize, values: &[&'static str]| values[number % values.len()];
    (0..VISITORS)
        .map(|number| Visitor {
            id: if number == 11 { "qa-1".to_owned() } else { format!("visitor-{number}") },
            attributes: [
                ("country", pick(number, &["DE", "AT", "CH", "FR", ""])),
                ("plan", pick(number / 5, &["pro", "free", "professional", ""])),
                ("app_version", pick(number / 3, &["2.1.0", "2.0.9", "3.0.0-beta", "10.2", "", "x"])),
            ]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect(),
        })
        .collect()
}

impl Visitor {
    /// A request of the visitor.
    pub fn request(&self) -> Outgoing {
        let value = |name| self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let request = match value("app_version") {
            Some(version) => Outgoing::get(&format!("/shop?a=1&app={version}")),
            None => Outgoing::get("/shop?a=1"),
        };
        let request = request.header("x-user-id", &self.id);
        let request =
            value("country").into_iter().fold(request, |request, country| request.header("x-country", country));
        value("plan").into_iter().fold(request, |request, plan| request.header("cookie", format!("plan={plan}")))
    }

    /// The visitor as a line for the command.
    fn line(&self) -> String {
        let attributes: BTreeMap<_, _> = self.attributes.iter().copied().collect();
        format!("{}\n", json!({"id": self.id, "path": "/shop", "attributes": attributes}))
    }
}

/// The command's decisions about `visitors` by `payload`.
pub fn evaluated(format: &str, payload: &Value, visitors: &[Visitor]) -> Vec<Value> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let file = |name: &str, content: &Value| {
        let file = std::env::temp_dir().join(format!("edgesplit-{}-{call}-{name}.json", std::process::id()));
        std::fs::write(&file, content.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let files = [file("payload", payload), file("plugin", &plugin(format, json!({})))];
    let lines: String = visitors.iter().map(Visitor::line).collect();
    let output = command::edgesplit(&["evaluate", "--config", &files[0], "--plugin", &files[1]], &lines);
    assert!(output.status.success(), "{output:?}");
    files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    command::results(&output)
}

/// The visitor of [`until_served`].
pub fn probe() -> Visitor {
    Visitor { id: "qa-1".to_owned(), attributes: vec![("country", "DE")] }
}

/// Waits until both workers decide by the payload.
pub fn until_served(envoy: &Envoy) {
    for mut client in envoy.clients(2) {
        eventually(DEADLINE, "the worker has the payload", || {
            (!echoed(&client.send(&probe().request()).unwrap(), "x-ab-assignments").is_empty()).then_some(())
        });
    }
}
