//! The request headers that the experiments of a config may set. Clients cannot send them.

use crate::diagnostics::{Path, Problems};
use edgesplit_engine::header_name::NameSet;
use edgesplit_engine::snapshot::Experiment;
use std::collections::HashSet;

/// How many different request headers a config may set. It bounds the time of bringing them into force.
pub(crate) const REQUEST_HEADERS_MAX: usize = 4_096;

/// The request headers of the experiments so far.
#[derive(Debug, Default)]
pub(crate) struct RequestHeaders(HashSet<String>);

impl RequestHeaders {
    /// Adds those of `experiment`. False, and an error at `path`, if there would be too many.
    pub(crate) fn add(&mut self, experiment: &Experiment, path: &Path<'_>, problems: &mut Problems) -> bool {
        let new: HashSet<String> =
            experiment.request_headers().filter(|name| !self.0.contains(*name)).map(str::to_owned).collect();
        let fits = self.0.len() + new.len() <= REQUEST_HEADERS_MAX;
        if fits {
            self.0.extend(new);
        } else {
            problems.error(
                path,
                format_args!("the config would set more than {REQUEST_HEADERS_MAX} different request headers"),
            );
        }
        fits
    }

    /// The set of their names.
    pub(crate) fn into_names(self) -> NameSet {
        NameSet::new(self.0.into_iter().collect())
    }
}
