//! The fate of a request.

use crate::response_plan::ResponsePlan;

/// The fate of a request.
#[derive(Debug)]
pub enum Flow {
    /// It goes on to the origin.
    Continue(ResponsePlan),
    /// The filter has answered it.
    Answered(ResponsePlan),
}
