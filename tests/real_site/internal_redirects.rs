//! Envoy follows a 302 of the origin itself, on routes with an `internal_redirect_policy`.

use super::{exposures, plugin};
use edgesplit_testkit::eventually_eq;
use edgesplit_testkit::http::{Request, Response};
use edgesplit_testkit::stack::{Services, document, experiment};
use serde_json::json;

/// A site that answers `/old` with a redirect to `/new`.
fn site(request: &Request) -> Response {
    match request.path.as_str() {
        "/old" => Response::new(302).header("location", "/new"),
        _ => Response::new(200),
    }
}

#[test]
fn redirect_to_the_client_is_the_page_that_was_shown() {
    let services = Services::start(&json!({}));
    services.origin.respond(site);
    let on_old = experiment("old", json!({"route": {"paths": ["/old"]}}));
    let envoy = services.envoy(&plugin(document(&[on_old]), json!({})));
    assert_eq!(envoy.client().get("/old").header("x-user-id", "u1").send().status, 302);
    eventually_eq("exposures", vec!["u1 old=green /old 302".to_owned()], || exposures(&services));
}
