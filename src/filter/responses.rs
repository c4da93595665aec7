//! What came of the requests that were given a variant: their responses by class, counted in the worker and handed over on
//! the tick. A response pays an addition for each of its variants, and no allocation.

use super::guardrails::Guardrails;
use crate::engine::guardrail::Tally;
use crate::engine::snapshot::{Choice, Snapshot};
use crate::metrics::{CLASSES, Metrics};
use std::rc::Rc;

/// The variants that a request was given, until its response comes.
#[derive(Debug)]
pub struct Given {
    /// What they were chosen from.
    pub snapshot: Rc<Snapshot>,
    /// Them.
    pub choices: Vec<Choice>,
}

/// Responses by variant and class, of the snapshot in force.
#[derive(Debug, Default)]
pub struct Responses {
    snapshot: Rc<Snapshot>,
    /// Where the variants of each experiment begin in `counts`.
    first: Vec<usize>,
    counts: Vec<[u32; CLASSES]>,
    /// Variants with counts.
    counted: Vec<Choice>,
}

impl Responses {
    /// Counts those of `snapshot` from now on. What was counted before has to be flushed first.
    pub fn of(snapshot: &Rc<Snapshot>) -> Responses {
        let mut variants = 0;
        let first = snapshot.experiments.iter().map(|experiment| {
            let first = variants;
            variants += experiment.variants.len();
            first
        });
        let first = first.collect();
        Responses { snapshot: Rc::clone(snapshot), first, counts: vec![[0; CLASSES]; variants], counted: Vec::new() }
    }

    /// Counts a response with `status` for all variants that its request was given.
    pub fn count(&mut self, given: &Given, status: Option<u16>, metrics: &mut Metrics) {
        let Some(class) = status.and_then(class) else { return };
        if !Rc::ptr_eq(&given.snapshot, &self.snapshot) {
            // The config has changed since the request: it counts, but no longer for the guardrails.
            for (experiment, variant) in given.choices.iter().filter_map(|choice| given.snapshot.choice(*choice)) {
                let mut counts = [0; CLASSES];
                counts.iter_mut().skip(class).take(1).for_each(|count| *count = 1);
                metrics.responded(&experiment.key, variant, &counts);
            }
            return;
        }
        for choice in &given.choices {
            let Some(first) = self.first.get(choice.experiment) else { continue };
            let Some(counts) = self.counts.get_mut(first + choice.variant) else { continue };
            if *counts == [0; CLASSES] {
                self.counted.push(*choice);
            }
            if let Some(count) = counts.get_mut(class) {
                *count += 1;
            }
        }
    }

    /// Hands over what was counted since the last time.
    pub fn flush(&mut self, metrics: &mut Metrics, guardrails: &mut Guardrails) {
        for choice in self.counted.drain(..) {
            let Some((experiment, variant)) = self.snapshot.choice(choice) else { continue };
            let Some(first) = self.first.get(choice.experiment) else { continue };
            let Some(counts) = self.counts.get_mut(first + choice.variant).map(std::mem::take) else { continue };
            metrics.responded(&experiment.key, variant, &counts);
            if experiment.guardrail.is_some() {
                let responses = counts.iter().map(|count| u64::from(*count)).sum();
                let errors = counts.last().map_or(0, |count| u64::from(*count));
                guardrails.count(variant.tag, Tally { responses, errors });
            }
        }
    }
}

/// The place of a status's class: `1xx` first, `5xx` last.
fn class(status: u16) -> Option<usize> {
    (100..600).contains(&status).then(|| usize::from(status) / 100 - 1)
}
