//! Events: from the delivery of a response to the acknowledgement of the A/B service.
//!
//! [`event`] writes an event, [`dedupe`] remembers which were seen, [`buffer`] collects them in the worker. A tick seals
//! the buffer into batches; the [`outbox`] is the state that all VMs share of them, [`slot`] how one is stored.
//! [`pipeline`] moves a batch through all of this; [`outcome`] and [`backoff`] say what an answer means and how long to
//! wait after a bad one.

pub mod backoff;
pub mod buffer;
pub mod dedupe;
pub mod event;
pub mod outbox;
pub mod outcome;
pub mod pipeline;
pub mod slot;
