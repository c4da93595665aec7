//! Events, from the delivery of a response to the acknowledgement of the A/B service.
//!
//! [`event`] encodes an event, [`dedupe`] remembers reported exposures, and [`buffer`] collects events: the [`recorder`] has
//! both. A tick seals the buffer into batches. The [`outbox`] is their state, which all VMs share, and [`slot`] the stored form
//! of one. [`pipeline`] moves a batch through all of these. [`outcome`] interprets an answer, and [`backoff`] computes the wait after
//! a failure.

pub mod backoff;
pub mod buffer;
pub mod dedupe;
pub mod event;
pub mod outbox;
pub mod outcome;
pub mod pipeline;
pub mod recorder;
pub mod slot;
