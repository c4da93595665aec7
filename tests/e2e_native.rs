//! The native module in a real Envoy. All end-to-end tests run with it under `MODULE=native`; these always do.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::bootstrap::{ENVOY_VERSION, EnvoyOptions, Plugin};
use edgesplit_testkit::client::Client;
use edgesplit_testkit::envoy::{Directory, Envoy};
use edgesplit_testkit::module_under_test::use_native;
use edgesplit_testkit::stack::{Accounts, Services, document, echoed, experiment};
use edgesplit_testkit::{eventually, eventually_eq, root};
use serde_json::{Value, json};
use std::fs;

fn plugin() -> Value {
    json!({
        "experiments": {"cluster": "experiments", "refresh": "200ms"},
        "visitor": {"id": [{"header": "x-user-id"}]},
        "events": {"cluster": "collector", "batch": {"max_age": "100ms"}},
    })
}

/// The same options with the native module.
fn native(options: EnvoyOptions) -> EnvoyOptions {
    options.adjust(use_native)
}

fn visit(client: &mut Client, visitor: &str) -> Vec<String> {
    let reply = client.get("/").header("x-user-id", visitor).send();
    assert_eq!(reply.status, 200, "{visitor}");
    echoed(&reply, "x-ab-assignments")
}

#[test]
fn workers_share_config_outbox_and_memory_of_exposures() {
    let services = Services::start(&document(&[experiment("nav", json!({}))]));
    let envoy = Envoy::start(&native(services.options(&plugin())));
    let mut clients = envoy.clients(2);
    for client in &mut clients {
        eventually_eq("the worker has the config", vec!["nav=green".to_owned()], || visit(client, "u1"));
    }
    for client in &mut clients {
        for visitor in ["u1", "u2", "u3"] {
            visit(client, visitor);
        }
    }
    eventually_eq("each visitor is reported once by all workers", 3, || Accounts::of(&envoy).delivered);
    eventually(edgesplit_testkit::DEADLINE, "the accounts are settled", || {
        let accounts = Accounts::of(&envoy);
        (accounts.queued == 0 && accounts.emitted == 3 && accounts.accounted() == 3).then_some(())
    });
    assert_eq!(services.collector.events().len(), 3);
    eventually_eq("exposures have the names of the wasm module", 3, || {
        envoy.counter("edgesplit.demo.exposures.experiment.nav.variant.green")
    });
    let (status, log) = envoy.sigterm_and_wait();
    assert!(status.success(), "{status}\n{log}");
}

#[test]
fn panic_is_counted_and_its_request_continues() {
    let module = root().join("dist/test/edgesplit-hooks.wasm");
    let services = Services::start(&document(&[experiment("nav", json!({}))]));
    let plugin = Plugin { module, ..Plugin::new(plugin()) };
    let envoy = Envoy::start(&native(services.proxy_options().plugin(plugin)));
    let mut client = envoy.client();
    eventually_eq("the worker has the config", vec!["nav=green".to_owned()], || visit(&mut client, "u1"));
    for _ in 0..3 {
        let reply = client.get("/").header("x-user-id", "u1").header("x-edgesplit-crash", "1").send();
        assert_eq!((reply.status, echoed(&reply, "x-ab-assignments").len()), (200, 0), "the origin answers");
    }
    eventually_eq("each panic is counted", 3, || envoy.counter("edgesplit.demo.errors.panic"));
    assert_eq!(visit(&mut client, "u1"), ["nav=green"], "the worker goes on");
    assert_eq!(envoy.log().matches("as the request asked").count(), 1, "only the first is logged:\n{}", envoy.log());
}

#[test]
fn invalid_configuration_is_refused_with_its_problem() {
    let services = Services::start(&json!({}));
    let invalid = json!({"experiments": {"cluster": "experiments", "refresh": "soon"}});
    let options = native(services.proxy_options().plugin(Plugin::unchecked(invalid)));
    let log = Envoy::refuses_to_start(&options);
    assert!(log.contains("experiments.refresh") && log.contains("soon"), "{log}");
}

/// The options with `per_filter` as the filter's configuration of the route `/off`.
fn with_route(options: EnvoyOptions, per_filter: Value) -> EnvoyOptions {
    const ROUTES: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config\
                          /virtual_hosts/0/routes";
    options.adjust(move |bootstrap| {
        let routes = bootstrap.pointer_mut(ROUTES).unwrap().as_array_mut().unwrap();
        let mut off = routes[0].clone();
        off["match"] = json!({"prefix": "/off"});
        off["typed_per_filter_config"] = json!({"envoy.filters.http.wasm": per_filter});
        routes.insert(0, off);
        use_native(bootstrap);
    })
}

#[test]
fn routes_can_disable_the_filter_and_not_configure_it() {
    let services = Services::start(&json!({}));
    let inline = json!({"experiments": {"inline": document(&[experiment("nav", json!({}))])},
                        "visitor": {"id": [{"header": "x-user-id"}]}});
    let disabled = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true});
    let envoy = Envoy::start(&with_route(services.options(&inline), disabled));
    for (path, expected) in [("/", vec!["nav=green"]), ("/off", vec![])] {
        let reply = envoy.client().get(path).header("x-user-id", "u1").send();
        assert_eq!(
            (reply.status, echoed(&reply, "x-ab-assignments")),
            (200, expected.into_iter().map(str::to_owned).collect())
        );
    }
    if *ENVOY_VERSION < [1, 39] {
        // That version finds modules of routes by their names only.
        return;
    }
    let configured = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilterPerRoute",
        "dynamic_module_config": {"module": {"local": {"filename": root().join("dist/libedgesplit.so")}}},
        "filter_name": "demo",
    });
    let log = Envoy::refuses_to_start(&with_route(services.options(&inline), configured));
    assert!(log.contains("routes have no configuration of their own"), "{log}");
}

/// The wasm module has no metric that the native one lacks.
#[test]
fn metrics_are_documented() {
    let spool = Directory::new().unwrap();
    let services = Services::start(&document(&[experiment("nav", json!({}))]));
    let mut plugin = plugin();
    plugin["events"]["outbox"] = json!({"spool": spool.file("spool")});
    let envoy = Envoy::start(&native(services.options(&plugin)));
    let docs = ["events", "native"].map(|page| fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap());
    let reply = Client::new(envoy.admin_port()).get("/stats?filter=edgesplit").send().text();
    let names = reply.lines().filter_map(|line| Some(line.split_once(".edgesplit.demo.")?.1.split_once(": ")?.0));
    // Parts that a config names are in `<>` there.
    let mut names: Vec<&str> =
        names.filter(|name| !name.contains(".experiment.") && !name.contains(".reason.")).collect();
    names.retain(|name| {
        let row = name.strip_prefix("errors.").unwrap_or(name);
        !docs.iter().any(|page| page.contains(&format!("`{row}`")))
    });
    assert!(reply.contains("errors.panic") && reply.contains("spool.durable_events"), "{reply}");
    assert_eq!(names, [""; 0]);
}
