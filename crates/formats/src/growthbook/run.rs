//! Running one experiment, step by step, and the redirect tests among them.

use super::decision::{BanditResult, Context, ExperimentResult, Exposure};
use super::evaluation::{Evaluation, Parents, shown_bucket};
use super::experiment::{Experiment, FALLBACK_LEAF, Sticky};
use super::hash::{choose_variation, in_range};
use super::sticky::Kept;
use super::target::UrlTargets;
use super::url::{self, Url, merge_queries};
use edgesplit_engine::attribute::Attributes;
use edgesplit_engine::condition::{BYTES_PER_STEP, Condition, LimitExceeded, spend_bytes};
use std::borrow::Cow;

/// The result of running an experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Run {
    /// The visitor is not in it; `blocked` by a sticky bucket of an old version.
    Out { blocked: bool },
    /// A variation was set from outside, which may not exist.
    Forced(Option<usize>),
    /// The visitor's bucket, now or before, chose the variation. `leaf` is the bandit's context.
    Bucketed { variation: usize, bucket: f64, sticky: bool, leaf: Option<usize> },
}

const OUT: Result<Run, LimitExceeded> = Ok(Run::Out { blocked: false });

/// A redirect of a visitor.
#[derive(Debug, Clone)]
pub struct Redirect<'a> {
    /// The position of the test in the payload's list.
    pub test: usize,
    /// The result of its experiment.
    pub result: ExperimentResult<'a>,
    /// The URL of the visitor's variation, if it has one.
    pub variation_url: Option<&'a str>,
    /// The target; none if the variation keeps the page, or leads to a URL of the same test again.
    pub location: Option<Cow<'a, str>>,
}

impl<'a, A: Attributes> Evaluation<'a, A> {
    /// Decides the URL redirect tests in their order; the first one with the visitor decides.
    pub fn redirect(&mut self) -> Option<Redirect<'a>> {
        self.redirect_among(&|_| true)
    }

    /// As [`Evaluation::redirect`], for the tests that `may` run, given by their positions.
    pub fn redirect_among(&mut self, may: &dyn Fn(usize) -> bool) -> Option<Redirect<'a>> {
        let (payload, url) = (self.payload, self.context.url);
        // Without a valid URL, no test applies.
        Url::parse(url, None)?;
        payload.redirects.iter().enumerate().filter(|(at, _)| may(*at)).find_map(|(at, test)| {
            self.trace.enter(|| format!("redirect test {}", test.experiment.key));
            let result = self.run(&test.experiment);
            self.trace.leave();
            let Ok(result) = result else {
                self.limited_tests.push(at);
                return None;
            };
            if !result.in_experiment {
                return None;
            }
            let variation_url = test.locations.get(result.variation).and_then(Option::as_deref);
            let location = variation_url.map(|to| match test.persist_query {
                true => Cow::Owned(merge_queries(url, to)),
                false => Cow::Borrowed(to),
            });
            // Where the limit leaves it open whether this would be a loop, the visitor stays.
            let steps = self.context.steps;
            let again = |targets: &UrlTargets, to: &str| targets.match_url(to, steps) != Ok(false);
            let leads_back = |to: &str| test.experiment.targets.as_ref().is_some_and(|targets| again(targets, to));
            Some(Redirect { test: at, result, variation_url, location: location.filter(|to| !leads_back(to)) })
        })
    }

    /// Runs an experiment.
    pub fn run(&mut self, experiment: &'a Experiment) -> Result<ExperimentResult<'a>, LimitExceeded> {
        let run = self.run_to_end(experiment)?;
        let (variation, hash_used, bucket, sticky_bucket_used) = match run {
            Run::Out { blocked } => (None, false, None, blocked),
            Run::Forced(variation) => (variation, false, None, false),
            Run::Bucketed { variation, bucket, sticky, .. } => (Some(variation), true, Some(bucket), sticky),
        };
        let variation = variation.filter(|&variation| variation < experiment.variations.len());
        let in_experiment = variation.is_some();
        let (attribute, unit) = self.unit(&experiment.unit, experiment.sticky.is_some())?;
        let result = ExperimentResult {
            experiment,
            variation: variation.unwrap_or_default(),
            in_experiment,
            hash_used,
            sticky_bucket_used,
            bucket,
            attribute,
            unit,
            bandit: match run {
                Run::Bucketed { leaf, .. } if in_experiment => bandit_result(experiment, leaf),
                _ => None,
            },
        };
        if hash_used {
            // The exposure is compared with all others.
            spend_bytes(BYTES_PER_STEP * self.exposures.len(), self.context.steps)?;
            self.report(experiment, &result);
        }
        Ok(result)
    }

    /// Keeps the visitor's bucket and reports the exposure.
    fn report(&mut self, experiment: &'a Experiment, result: &ExperimentResult<'a>) {
        let Some(unit) = &result.unit else { return };
        let variation = experiment.variations.get(result.variation).map_or("0", |variation| &variation.key);
        if let (Some(documents), Some(sticky)) = (&mut self.sticky, &experiment.sticky) {
            documents.keep(result.attribute, unit, &sticky.key, variation);
        }
        self.expose(Exposure {
            experiment: &experiment.key,
            variation,
            attribute: result.attribute,
            unit: unit.clone(),
            typed_unit: self.typed_unit(&experiment.unit, result.attribute),
            number: Some(result.variation),
        });
    }

    /// The variation that the URL's query chooses, if it may choose one.
    fn query_override(&self, experiment: &Experiment) -> Option<usize> {
        let overrides = &self.context.overrides;
        let variations = experiment.variations.len();
        overrides.query_string.then(|| url::query_override(&experiment.key, self.context.url, variations)).flatten()
    }

    /// Runs `experiment` up to the variation, in the SDK's order.
    fn run_to_end(&mut self, experiment: &'a Experiment) -> Result<Run, LimitExceeded> {
        let context = self.context;
        if experiment.variations.len() < 2 || !context.overrides.enabled {
            return OUT;
        }
        if !self.matches_url(experiment, context.url)? {
            return OUT;
        }
        if let Some(variation) = self.query_override(experiment) {
            return Ok(Run::Forced(Some(variation)));
        }
        if let Some(&variation) = context.overrides.variations.and_then(|forced| forced.get(&experiment.key)) {
            return Ok(Run::Forced(usize::try_from(variation).ok()));
        }
        if experiment.inactive {
            return OUT;
        }
        let (attribute, unit) = self.unit(&experiment.unit, experiment.sticky.is_some())?;
        let Some(unit) = unit else {
            self.trace.check("hash attribute", false, || shown_bucket(None, attribute));
            return OUT;
        };
        let kept = match &experiment.sticky {
            Some(sticky) => self.kept(experiment, sticky)?,
            None => Held::Nothing,
        };
        if !matches!(kept, Held::Variation(_)) && !self.is_for_visitor(experiment, &unit)? {
            return OUT;
        }
        let Some(bucket) = experiment.hasher.bucket(&unit) else { return OUT };
        let leaf = self.leaf(experiment)?;
        let variation = match kept {
            Held::Blocked => {
                self.trace.check("sticky bucket", false, || "of a version that is excluded".to_owned());
                return Ok(Run::Out { blocked: true });
            }
            Held::Variation(variation) => {
                self.trace.check("sticky bucket", true, || format!("variation {variation}"));
                variation
            }
            Held::Nothing => {
                let bandit = experiment.bandit.as_ref();
                let leaf = bandit.zip(leaf).and_then(|(bandit, leaf)| bandit.leaves.get(leaf));
                let ranges = match leaf {
                    Some(leaf) => {
                        // A variation's range takes about as long as a step.
                        context.steps.spend(u32::try_from(experiment.variations.len()).unwrap_or(u32::MAX))?;
                        experiment.ranges_with(&leaf.weights)
                    }
                    None => Cow::Borrowed(experiment.ranges.as_slice()),
                };
                let variation = choose_variation(bucket, &ranges);
                self.trace.check("bucket", variation.is_some(), || {
                    let result =
                        variation.map_or("no variation".to_owned(), |variation| format!("variation {variation}"));
                    format!("{bucket} of {attribute}: {result}")
                });
                match variation {
                    Some(variation) => variation,
                    None => return OUT,
                }
            }
        };
        if let Some(force) = experiment.force {
            return Ok(Run::Forced(force));
        }
        if context.overrides.qa_mode || experiment.stopped {
            return OUT;
        }
        Ok(Run::Bucketed { variation, bucket, sticky: matches!(kept, Held::Variation(_)), leaf })
    }

    /// Whether `experiment` is about `url`.
    fn matches_url(&self, experiment: &Experiment, url: &str) -> Result<bool, LimitExceeded> {
        let Some(targets) = &experiment.targets else { return Ok(true) };
        let matches = targets.match_url(url, self.context.steps)?;
        self.trace.check("URL", matches, || url.to_owned());
        Ok(matches)
    }

    /// Whether the experiment targets the visitor. Sticky buckets skip this check.
    fn is_for_visitor(&mut self, experiment: &'a Experiment, unit: &str) -> Result<bool, LimitExceeded> {
        let in_filters = match (&experiment.filters, &experiment.namespace) {
            (Some(filters), _) => !self.is_filtered_out(filters)?,
            (None, Some((hasher, range))) => {
                let bucket = hasher.bucket(unit);
                let is_in = bucket.is_some_and(|bucket| in_range(bucket, *range));
                let written = &experiment.unit.attribute.written;
                let detail = || format!("{}, range {} to {}", shown_bucket(bucket, written), range.0, range.1);
                self.trace.check("namespace", is_in, detail);
                is_in
            }
            (None, None) => true,
        };
        Ok(in_filters
            && self.matches(experiment.condition.as_ref())?
            && self.parents_pass(&experiment.parents)? == Parents::Pass)
    }

    /// The visitor's sticky bucket of `experiment`.
    fn kept(&self, experiment: &'a Experiment, sticky: &'a Sticky) -> Result<Held, LimitExceeded> {
        let Some(documents) = &self.sticky else { return Ok(Held::Nothing) };
        let own = self.value(&experiment.unit.attribute)?.unwrap_or_default();
        let own = (experiment.unit.attribute.written.as_str(), &*own);
        let fallback = self.value(&sticky.fallback)?;
        let fallback = fallback.as_deref().map(|value| (sticky.fallback.written.as_str(), value));
        Ok(match documents.lookup(sticky, own, fallback) {
            Kept::Nothing => Held::Nothing,
            Kept::Blocked => Held::Blocked,
            Kept::Variation(key) => {
                let named = |variation: &super::experiment::Variation| variation.has_key && variation.key == key;
                experiment.variations.iter().position(named).map_or(Held::Nothing, Held::Variation)
            }
        })
    }

    /// The context of the experiment's bandit that the visitor is in.
    fn leaf(&self, experiment: &Experiment) -> Result<Option<usize>, LimitExceeded> {
        let leaves = experiment.bandit.as_ref().map_or(&[][..], |bandit| &bandit.leaves);
        for (at, leaf) in leaves.iter().enumerate() {
            let Context { attributes, steps, .. } = *self.context;
            let matches = |condition: &Condition| condition.matches(attributes, steps);
            if leaf.condition.as_ref().map_or(Ok(true), matches)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

fn bandit_result(experiment: &Experiment, leaf: Option<usize>) -> Option<BanditResult<'_>> {
    let bandit = experiment.bandit.as_ref()?;
    let version = bandit.version.as_ref();
    Some(match leaf.and_then(|leaf| bandit.leaves.get(leaf)) {
        Some(leaf) => BanditResult { leaf: leaf.id, weights: &leaf.weights, version },
        None => BanditResult { leaf: FALLBACK_LEAF, weights: &experiment.weights, version },
    })
}

/// The sticky bucket of an experiment, by the number of its variation.
#[derive(Debug, Clone, Copy)]
enum Held {
    Nothing,
    Variation(usize),
    Blocked,
}
