//! The text that the demo prints at its start: the addresses, and commands to try.

use super::services::Services;
use crate::local::proxy::Proxy;
use std::path::Path;

/// The introduction. `file` is the file of the experiments.
pub(super) fn introduction(services: &Services, proxy: &Proxy, dashboard: &str, file: &Path) -> String {
    let at = |port: u16| format!("http://127.0.0.1:{port}");
    let (admin, controls) = (at(proxy.ports.admin), at(services.controls.port()));
    let (origin, collector) = (at(services.origin.port()), at(services.collector.port()));
    let (proxy, file) = (at(proxy.ports.listener), file.display());
    let experiments = format!("{}/experiments.json", at(services.experiments.port()));
    format!(
        "\
Envoy runs, with 2 workers and the filter.

  {proxy:39} the shop, through the filter
  {origin:39} the origin: answers with the request that reached it
  {experiments:39} the experiments: {file}, edit it
  {collector:39} the collector: takes the events
  {controls:39} breaks and mends the services
  {admin:39} Envoy's admin interface
  {dashboard:39} the dashboard: open it in a browser

Try in another terminal:

# Ben is in two experiments: the origin sees his variants, the cache key and the rewritten path.
curl -H 'x-user-id: ben' {proxy}/checkout
# Ada's whole response: it is private, so no cache in front serves her variant to others.
curl -i -H 'x-user-id: ada' -H 'x-country: DE' {proxy}/checkout
# Dan has the baseline of both: he has no cache key, and shares cached pages with visitors who are in no experiment.
curl -H 'x-user-id: dan' {proxy}/checkout
# Headers of a client with the filter's names never reach the origin.
curl -H 'x-ab-assignments: checkout-button=free' -H 'x-ab-cache-key: stolen' {proxy}/assets/logo.svg
# A new visitor gets an id in a cookie; one who objects gets none, and is in no experiment.
curl -i {proxy}/
curl -i -H 'sec-gpc: 1' {proxy}/
# Break the collector: requests go on, events wait. Mend it: they are delivered within seconds.
curl -X POST {controls}/demo/collector/down
curl -X POST {controls}/demo/collector/up
# Change the experiments: all are paused, and within 2 seconds ben is in none. Then the file is served again.
curl -s {experiments} | sed 's/running/paused/; s/demo-1/demo-2/' | curl -X PUT --data-binary @- {controls}/demo/experiments
curl -X DELETE {controls}/demo/experiments
# Break the service with the experiments: the last good ones stay. /demo/config/up mends it.
curl -X POST {controls}/demo/config/503
# The metrics, with their labels.
curl -s '{admin}/stats/prometheus?usedonly' | grep ^edgesplit

Ctrl-C ends everything.
"
    )
}
