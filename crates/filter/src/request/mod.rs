//! The request path, in four stages:
//!
//! ```text
//! read    the headers, once: the request line, the cookies, and the owned names that the client sent
//! plan    the experiments and goals of the route, and the inputs that they can need
//! decide  every experiment, by the engine's evaluator; the events and cookies that follow
//! write   the changes of the request's headers, one host call each
//! ```

mod context;
mod cookies;
mod debug;
mod decide;
mod exposures;
mod flags;
mod flow;
mod goals;
mod mutations;
mod plan;
mod read;
mod redirect;
mod scratch;
mod write;

pub use flow::Flow;
pub use goals::GOAL_EXPERIMENTS_MAX;
pub use scratch::RequestScratch;

use crate::host::{Headers, Host, StreamHost};
use crate::http::headers::{HeaderBlock, HeaderMap};
use crate::metrics::Counter;
use crate::plugin_config::PluginConfig;
use crate::request_context::RequestContext;
use crate::response_plan::ResponsePlan;
use crate::worker::Worker;
use context::{DecisionContext, Outputs};
use edgesplit_engine::condition::{EVENT_STEPS_MAX, StepBudget, request_budget};
use mutations::HeaderMutations;
use plan::Planner;
use read::{RequestTexts, take_parameters};

/// Handles the headers of a request.
pub fn handle_request(worker: &mut Worker, host: &(impl Host + StreamHost)) -> Flow {
    let before = worker.legs.resume(host, worker.now_ms, &mut worker.metrics);
    let mut block = HeaderBlock::default();
    let headers = host.headers(Headers::Request, &mut block);
    let Some(before) = before else { return handle_leg(worker, &headers, host) };
    let with_cookies = headers.with_first("cookie", &before.cookies());
    let mut flow = handle_leg(worker, &with_cookies.map(), host);
    let (Flow::Continue(plan) | Flow::Answered(plan)) = &mut flow;
    plan.follow(before);
    flow
}

/// Handles a request, or the next leg of one that the proxy has redirected. The visitor then has the cookies that the response
/// to the leg before would have set.
fn handle_leg(worker: &mut Worker, headers: &HeaderMap<'_>, host: &(impl Host + StreamHost)) -> Flow {
    let Worker { config, snapshot, owned, metrics, recorder, guardrails, assignment_sets, scratch, now_ms, .. } =
        worker;
    let (identification, decisions) = (&mut worker.identification, &mut worker.decisions);
    let RequestScratch { experiments, goals, choices, exposed } = scratch;
    let texts = RequestTexts::default();
    let mut request = RequestContext::unread(headers, &config.visitor);
    request.read(owned);
    let mut mutations = HeaderMutations::new(&config.request, owned);
    let token = take_parameters(config, &mut request, &texts, &mut mutations);

    let Some(snapshot) = &*snapshot else {
        metrics.add(Counter::NoConfig, 1);
        return pass_on(config, &request, mutations, host);
    };
    let steps = request_budget();
    let planner = Planner { config, has_events: recorder.is_some(), now_ms: *now_ms, steps: &steps, metrics };
    let Some(plan) = planner.plan(snapshot, &request, token, (experiments, goals)) else {
        return pass_on(config, &request, mutations, host);
    };

    let recorder = recorder.as_ref().filter(|_| plan.preview.is_none() && plan.is_visit);
    let (plan, now_ms, event_steps) = (&plan, *now_ms, &StepBudget::new(EVENT_STEPS_MAX));
    let context = DecisionContext { config, snapshot, plan, guardrails, steps: &steps, event_steps, now_ms };
    let response = ResponsePlan::new(plan.caching(config));
    let mut outputs =
        Outputs { response, metrics, decisions, identification, recorder, assignment_sets, choices, exposed };
    let decided = decide::decide(&context, &mut request, &texts, host, &mut outputs);

    let is_answered = write::write(&context, &request, &mut mutations, decided, &mut outputs, host);
    if is_answered { Flow::Answered(outputs.response) } else { Flow::Continue(outputs.response) }
}

/// Lets the request go on without experiments.
#[inline(never)]
fn pass_on(
    config: &PluginConfig,
    request: &RequestContext<'_>,
    mut mutations: HeaderMutations<'_>,
    host: &impl StreamHost,
) -> Flow {
    if config.response.validators_per_variant {
        mutations.change_conditions(request.headers, None);
    }
    mutations.apply(request, ("", ""), host);
    Flow::Continue(ResponsePlan::default())
}
