//! The filter over proxy-wasm.
//!
//! - `Plugin`: a root context, which owns the worker.
//! - `Stream`: a request with its response.
//! - `abi`: the host calls.

mod abi;
#[cfg(feature = "test-hooks")]
mod test_hooks;

use abi::{CallReply, Proxy};
use edgesplit_filter::host::Host;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::response_plan::ResponsePlan;
use edgesplit_filter::worker::Worker;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::cell::RefCell;
use std::hash::RandomState;
use std::rc::Rc;

proxy_wasm::main! {{
    // This also makes the SDK log a panic before the VM is gone.
    proxy_wasm::set_log_level(LogLevel::Warn);
    // Draws the seed of all hash maps now: one host call, at a known time.
    let _seeded = RandomState::new();
    proxy_wasm::set_root_context(|_| Box::new(Plugin::default()));
}}

/// The worker of a plugin, once it is configured. Its streams share it. The host runs one callback at a time, so it is never
/// borrowed twice.
type SharedWorker = Rc<RefCell<Option<Worker>>>;

/// A plugin in this VM.
#[derive(Default)]
struct Plugin {
    worker: SharedWorker,
    tick_period_ms: u64,
}

impl Plugin {
    /// Runs `work` on the worker, if there is one.
    fn with_worker(&mut self, work: impl FnOnce(&mut Worker)) {
        let Ok(mut worker) = self.worker.try_borrow_mut() else { return };
        let Some(worker) = &mut *worker else { return };
        work(worker);
        if self.tick_period_ms != worker.tick_period_ms() {
            self.tick_period_ms = worker.tick_period_ms();
            abi::set_tick_period(self.tick_period_ms);
        }
    }
}

impl Context for Plugin {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _trailers: usize) {
        self.with_worker(|worker| worker.on_reply(&Proxy, token, &CallReply { headers, body }));
    }

    fn on_done(&mut self) -> bool {
        self.with_worker(|worker| worker.shut_down(&Proxy));
        true
    }
}

impl RootContext for Plugin {
    fn on_configure(&mut self, size: usize) -> bool {
        let name = abi::property("plugin_name").unwrap_or_else(|| "default".to_owned());
        match Worker::configure(&Proxy, &name, &abi::plugin_configuration(size)) {
            Ok(worker) => {
                self.worker.replace(Some(worker));
                self.with_worker(|_| ());
                true
            }
            Err(problems) => {
                for problem in problems.iter() {
                    Proxy.log(log::Level::Error, &format!("plugin configuration: {problem}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.with_worker(|worker| worker.tick(&Proxy));
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { worker: Rc::clone(&self.worker), plan: None }))
    }
}

/// A request with its response.
struct Stream {
    worker: SharedWorker,
    /// The work that is left for the response.
    plan: Option<ResponsePlan>,
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        if let Some(plan) = self.plan.take() {
            self.end_without_response(plan);
        }
        true
    }
}

impl Stream {
    /// The stream ends before it had response headers.
    #[cold]
    fn end_without_response(&self, plan: ResponsePlan) {
        if let Ok(mut worker) = self.worker.try_borrow_mut()
            && let Some(worker) = &mut *worker
        {
            worker.end_without_response(&Proxy, plan);
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        #[cfg(feature = "test-hooks")]
        test_hooks::crash_if_asked();
        let Ok(mut worker) = self.worker.try_borrow_mut() else { return Action::Continue };
        let Some(worker) = &mut *worker else { return Action::Continue };
        let (plan, action) = match handle_request(worker, &Proxy) {
            Flow::Continue(plan) => (plan, Action::Continue),
            Flow::Answered(plan) => (plan, Action::Pause),
        };
        self.plan = Some(plan).filter(|plan| !plan.is_idle());
        action
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        if let Some(plan) = self.plan.take()
            && let Ok(mut worker) = self.worker.try_borrow_mut()
            && let Some(worker) = &mut *worker
        {
            handle_response(worker, &Proxy, plan);
        }
        Action::Continue
    }
}
