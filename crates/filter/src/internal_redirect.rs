//! Internal redirects: the proxy follows a redirect of the origin itself. It ends the stream without response headers and
//! starts one for the page that the redirect leads to, the next **leg** of the request. The plan of a leg waits here for the
//! response that the client gets.
//!
//! A property of the request, which the proxy keeps over its legs, names the plan that waits. Clients cannot read it.

use crate::host::{CODE_DETAILS, Host, StreamHost};
use crate::metrics::{Counter, Metrics};
use crate::response_plan::ResponsePlan;

/// How many plans wait at once. The next leg follows immediately, unless a filter in front of this one delays it.
const WAITING_MAX: usize = 256;

/// How long a plan waits. A filter in front of this one may answer the next leg, which then never gets here.
const WAIT_MS_MAX: i64 = 10_000;

/// How many legs a request has. The proxy's own limit is 1 redirect, unless its configuration raises it.
const LEGS_MAX: usize = 16;

/// The plans that wait for the next leg of their requests, the oldest first.
#[derive(Debug)]
pub struct Legs {
    /// The property of requests that names their plan.
    property: String,
    waiting: Vec<Leg>,
}

#[derive(Debug)]
struct Leg {
    name: String,
    since_ms: i64,
    plan: Box<ResponsePlan>,
}

impl Legs {
    /// No plan waits. `plugin` is the plugin's name.
    pub fn new(host: &impl Host, plugin: &str) -> Legs {
        let property = ["edgesplit.", plugin, ".leg"].concat();
        host.declare_request_property(&property);
        Legs { property, waiting: Vec::new() }
    }

    /// Keeps the plan of a stream that has ended without response headers, if its request goes on. Any other stream that ends
    /// like this showed nothing.
    #[inline(never)]
    pub fn end(&mut self, host: &(impl Host + StreamHost), plan: ResponsePlan, now_ms: i64, metrics: &mut Metrics) {
        if host.property(CODE_DETAILS).as_deref() != Some("internal_redirect") {
            return;
        }
        if self.waiting.len() >= WAITING_MAX || plan.legs() >= LEGS_MAX {
            metrics.add(Counter::LegsLost, 1);
            return;
        }
        // Unique over VMs that follow each other, and no client can guess it: the native module's property is a header.
        let name = (host.random() as u64).to_string();
        host.set_property(&self.property, &name);
        self.waiting.push(Leg { name, since_ms: now_ms, plan: Box::new(plan) });
    }

    /// The plan of the leg before, if the request of this stream has one.
    #[inline(always)]
    pub fn resume(&mut self, host: &impl StreamHost, now_ms: i64, metrics: &mut Metrics) -> Option<Box<ResponsePlan>> {
        if self.waiting.is_empty() { None } else { self.find(host, now_ms, metrics) }
    }

    #[cold]
    #[inline(never)]
    fn find(&mut self, host: &impl StreamHost, now_ms: i64, metrics: &mut Metrics) -> Option<Box<ResponsePlan>> {
        let name = host.property(&self.property).unwrap_or_default();
        let found = self.waiting.iter().position(|leg| leg.name == name).map(|at| self.waiting.remove(at).plan);
        if self.waiting.first().is_some_and(|leg| now_ms.saturating_sub(leg.since_ms) > WAIT_MS_MAX) {
            self.waiting.remove(0);
            metrics.add(Counter::LegsLost, 1);
        }
        found
    }
}
