//! `envoy/deployments.yaml` in a real Envoy: a variant that is another deployment.
#![allow(missing_docs)]
// Helpers of tests fail as tests do: by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use edgesplit_testkit::caches::recipe;
use edgesplit_testkit::envoy::Envoy;
use edgesplit_testkit::http::Response;
use edgesplit_testkit::module_under_test::built_module;
use edgesplit_testkit::roles::Origin;
use edgesplit_testkit::stack::texts;
use serde_json::Value;

#[test]
fn each_visitor_is_led_to_the_deployment_of_their_variant() {
    let deployment = |name: &'static str| {
        let origin = Origin::start().unwrap();
        origin.respond(move |request| {
            let assigned = texts(request, "x-ab-assignments").join("|");
            Response::new(200).body(format!("{name} {assigned} {}", texts(request, "x-deployment").join("|")))
        });
        origin
    };
    let (a, b) = (deployment("a"), deployment("b"));
    let module = format!("filename: {}", Value::from(built_module().to_string_lossy()));
    let yaml = recipe(
        "deployments.yaml",
        &[
            ("filename: dist/edgesplit.wasm", module.as_str()),
            ("port_value: 8001}", &format!("port_value: {}}}", a.port())),
            ("port_value: 8002}", &format!("port_value: {}}}", b.port())),
            ("port_value: 10000}", "port_value: 0}"),
            ("port_value: 9901}", "port_value: 0}"),
        ],
    );
    let envoy = Envoy::try_start_with(&yaml, 2).unwrap_or_else(|error| panic!("{error}"));
    let mut clients = envoy.clients(2);
    let mut led = [0, 0];
    for number in 0..1_000 {
        let client = &mut clients[number % 2];
        let id = format!("visitor-{number}");
        // A visitor who asks for a deployment still gets their own.
        let requests = [client.get("/cart").header("x-user-id", &id).send(), {
            client.get("/cart?a=1").header("x-user-id", &id).header("x-deployment", "b").send()
        }];
        let [first, forged] = requests.map(|reply| reply.text());
        let expected = if first.starts_with('b') { "b checkout-rewrite=b b" } else { "a checkout-rewrite=a " };
        assert_eq!((first.as_str(), forged.as_str()), (expected, expected), "{id}");
        led[usize::from(first.starts_with('b'))] += 1;
    }
    println!("of 1000 visitors {} were led to a and {} to b", led[0], led[1]);
    assert!((70..=130).contains(&led[1]), "a tenth of them: {led:?}");
    let not_identified = clients[0].get("/cart").send();
    assert!(not_identified.header("set-cookie").is_some_and(|cookie| cookie.starts_with("ab_visitor=")));
}
