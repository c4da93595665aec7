//! What one proxy asks of the services around it, in calls and bytes: the figures that docs/operations.md multiplies.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::eventually;
use edgesplit_testkit::http::Request;
use edgesplit_testkit::server::Server;
use edgesplit_testkit::stack::{Accounts, Services, document, experiment};
use serde_json::json;
use std::time::Duration;

const VISITORS: usize = 2_000;

/// The bytes of a request as it came over HTTP/1.1.
fn bytes(request: &Request) -> usize {
    let line = request.method.len() + request.path.len() + " HTTP/1.1\r\n".len() + 1;
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    line + headers + 2 + request.body.len()
}

#[test]
fn proxy_makes_few_calls_to_services() {
    let variants = json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "treatment", "weight": 5000}]);
    let experiments: Vec<_> =
        (0..5).map(|at| experiment(&format!("experiment-{at}"), json!({"variants": variants}))).collect();
    let services = Services::start(&document(&experiments));
    let envoy = services.envoy(&json!({
        "experiments": {"cluster": "experiments", "path": "/experiments.json", "refresh": "1s"},
        "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "path": "/v1/events"}}));
    let mut clients = envoy.clients(2);
    eventually(Duration::from_secs(20), "both workers have the experiments", || {
        let both = clients
            .iter_mut()
            .all(|client| client.get("/").header("x-user-id", "first").send().text().contains("x-ab-assignments"));
        both.then_some(())
    });
    for visitor in 0..VISITORS {
        let client = &mut clients[visitor % 2];
        assert_eq!(client.get("/").header("x-user-id", format!("visitor-{visitor}")).send().status, 200);
    }
    eventually(Duration::from_secs(20), "all is delivered", || {
        let accounts = Accounts::of(&envoy);
        (accounts.delivered == accounts.emitted && accounts.emitted >= 5 * VISITORS as u64).then_some(())
    });
    eventually(Duration::from_secs(20), "most fetches were answered 304", || {
        (services.configs.not_modified() >= 3).then_some(())
    });

    // One VM of the process fetches, and asks for what is newer only.
    let fetches = services.configs.server.requests();
    assert!(services.configs.sent() <= 3, "the document was sent {} times", services.configs.sent());
    let fetch = fetches.last().unwrap();
    assert!(fetch.header("if-none-match").is_some());
    println!("a fetch of the experiments: {} bytes", bytes(fetch));

    let calls = services.collector.server.requests();
    let events = services.collector.events().len();
    let body: usize = calls.iter().map(|call| call.body.len()).sum();
    let around: usize = calls.iter().map(bytes).sum::<usize>() - body;
    println!(
        "{events} events in {} calls: {} bytes an event, {} more a call",
        calls.len(),
        body / events,
        around / calls.len()
    );
    let connections = |server: &Server| server.connections_opened();
    println!(
        "{} connections to the service with the experiments, {} to the collector",
        connections(&services.configs.server),
        connections(&services.collector.server)
    );
    assert!(bytes(fetch) < 600, "{}", bytes(fetch));
    assert!(body / events < 500 && around / calls.len() < 700);
    // Two workers, a batch a second each, and 500 events in one.
    assert!(calls.len() < events / 50, "{} calls", calls.len());
}
