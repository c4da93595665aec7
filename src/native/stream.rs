//! A request with its response.

use super::abi::{CONTINUE, Opaque, STOP};
use super::host::Proxy;
use super::plugin::Plugin;
use edgesplit_filter::request::{Flow, handle_request};
use edgesplit_filter::response::handle_response;
use edgesplit_filter::response_plan::ResponsePlan;
use std::cell::Cell;

/// A request with its response. Envoy may call a hook within another one of the same stream, so the stream is never borrowed
/// mutably, and no lock is held while Envoy may do so.
pub(crate) struct Stream<'a> {
    pub(crate) plugin: &'a Plugin,
    /// The number of Envoy's worker.
    worker: usize,
    /// The work that is left for the response.
    plan: Cell<Option<ResponsePlan>>,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(plugin: &'a Plugin, worker: u32) -> Stream<'a> {
        Stream { plugin, worker: worker as usize, plan: Cell::new(None) }
    }

    /// Handles the headers of the request.
    pub(crate) fn on_request_headers(&self, stream: Opaque) -> i32 {
        let links = &self.plugin.links;
        links.metrics.flush(links.callbacks, stream, &links.metrics_prefix);
        let proxy = Proxy::of_stream(links, stream);
        #[cfg(feature = "test-hooks")]
        super::test_hooks::crash_if_asked(&proxy);
        let Some(mut worker) = self.plugin.worker(self.worker) else { return CONTINUE };
        match handle_request(&mut worker, &proxy) {
            Flow::Continue(plan) => self.plan.set(Some(plan).filter(|plan| !plan.is_idle())),
            // Envoy does not show the filter its own answer.
            Flow::Answered(plan) => handle_response(&mut worker, &proxy, plan),
        }
        drop(worker);
        if proxy.finish() { STOP } else { CONTINUE }
    }

    /// Handles the headers of the response.
    pub(crate) fn on_response_headers(&self, stream: Opaque) -> i32 {
        if let Some(plan) = self.plan.take()
            && let Some(mut worker) = self.plugin.worker(self.worker)
        {
            let proxy = Proxy::of_stream(&self.plugin.links, stream);
            handle_response(&mut worker, &proxy, plan);
            drop(worker);
            proxy.finish();
        }
        CONTINUE
    }

    /// The stream has ended, perhaps before it had response headers.
    pub(crate) fn on_complete(&self, stream: Opaque) {
        let links = &self.plugin.links;
        links.metrics.flush(links.callbacks, stream, &links.metrics_prefix);
        if let Some(plan) = self.plan.take()
            && let Some(mut worker) = self.plugin.worker(self.worker)
        {
            let proxy = Proxy::of_ended_stream(links, stream);
            worker.end_without_response(&proxy, plan);
            drop(worker);
            proxy.finish();
        }
    }
}
