//! Generated visitors, decided on all cores, for `simulate` and `diff`.

use crate::args::{moment_ms, now_ms};
use crate::config::Config;
use crate::evaluate::Request;
use crate::files::{Input, input, read};
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{Decision, DecisionInput, Units, check_request, evaluate_on_route};
use edgesplit_engine::decide_flags;
use edgesplit_engine::flag::{FlagDecisions, FlagVisitor};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Experiment, Snapshot, State};
use edgesplit_filter::plugin_config::Visitor;
use edgesplit_filter::request_context::RequestContext;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::ops::Range;
use std::panic::resume_unwind;

/// The most different requests that visitors can make.
const REQUESTS_MAX: usize = 10_000;

/// Visitors between two updates of the progress bar.
const STEP: u64 = 4_096;

/// The arguments that `simulate` and `diff` share.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// The number of visitors. Their ids are visitor-0, visitor-1 and so on.
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(super) visitors: u64,
    /// The requests that visitors make in turn: one line of JSON each, as for `evaluate`, without ids. By default,
    /// visitors have no attributes, and routes are ignored: every visitor is on every page.
    #[arg(long, value_name = "FILE", value_parser = input)]
    requests: Option<Input>,
    /// The time of the decisions (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = moment_ms)]
    now: Option<i64>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// The visitors and their requests.
#[derive(Debug)]
pub(super) struct Population {
    pub(super) visitors: u64,
    requests: Vec<Value>,
    now_ms: i64,
}

impl Population {
    /// Reads the requests.
    pub(super) fn new(args: &Arguments) -> Result<Population, String> {
        let requests = match &args.requests {
            None => Vec::new(),
            Some(file) => requests(file)?,
        };
        Ok(Population {
            visitors: args.visitors,
            requests: if requests.is_empty() { vec![Value::Object(serde_json::Map::new())] } else { requests },
            now_ms: args.now.unwrap_or_else(now_ms),
        })
    }

    /// Decides every visitor by all of `configs`, and passes the visitor's number and decisions to `each`. The visitors are
    /// divided between threads; returns the tally of each thread.
    pub(super) fn tally<const N: usize, T: Default + Send>(
        &self,
        configs: [&Config; N],
        each: impl Fn(&mut T, u64, [&[Decision]; N]) + Sync,
    ) -> Vec<T> {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
        let style = ProgressStyle::with_template("{bar:40} {percent} %, {eta} left").ok();
        let bar = ProgressBar::new(self.visitors);
        bar.set_style(style.unwrap_or_else(ProgressStyle::default_bar));
        let compilers = configs.map(Config::compiler);
        let tallies = std::thread::scope(|scope| {
            let shares = (0..threads).map(|thread| {
                let share = self.visitors * thread / threads..self.visitors * (thread + 1) / threads;
                let (bar, each, compilers) = (&bar, &each, &compilers);
                scope.spawn(move || {
                    let mut tally = T::default();
                    self.decide(share, compilers.each_ref().map(|compile| compile()), bar, |number, decisions| {
                        each(&mut tally, number, decisions)
                    });
                    tally
                })
            });
            let shares: Vec<_> = shares.collect();
            // A thread that panicked leaves the result incomplete.
            shares.into_iter().map(|share| share.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        bar.finish_and_clear();
        tallies
    }

    fn decide<const N: usize>(
        &self,
        share: Range<u64>,
        snapshots: [Snapshot; N],
        bar: &ProgressBar,
        mut each: impl FnMut(u64, [&[Decision]; N]),
    ) {
        let visitor = Visitor::default();
        let requests: Vec<Request<'_>> = self.requests.iter().filter_map(|value| Request::read(value).ok()).collect();
        let headers: Vec<_> = requests.iter().map(|request| request.headers.map()).collect();
        let views: Vec<(RequestContext<'_>, bool)> = (requests.iter().zip(&headers))
            .map(|(request, headers)| {
                let mut view = RequestContext::new(headers, &visitor);
                view.typed = request.attributes;
                (view, request.has_path)
            })
            .collect();
        let mut decisions = [const { Vec::new() }; N];
        let mut id = String::new();
        for number in share {
            let Some((view, has_path)) = views.get((number % views.len().max(1) as u64) as usize) else { return };
            id.clear();
            write_id(&mut id, number);
            for (snapshot, decisions) in snapshots.iter().zip(&mut decisions) {
                decide_one(snapshot, &Person { id: &id, view }, *has_path, self.now_ms, decisions);
            }
            each(number, decisions.each_ref().map(Vec::as_slice));
            if number % STEP == 0 {
                bar.inc(STEP);
            }
        }
    }
}

/// Writes the id of visitor `number`.
pub(super) fn write_id(text: &mut String, number: u64) {
    // Writing to a string cannot fail.
    let _ = std::fmt::Write::write_fmt(text, format_args!("visitor-{number}"));
}

fn requests(file: &Input) -> Result<Vec<Value>, String> {
    let text = edgesplit_formats::without_byte_order_mark(read(file)?);
    let lines = text.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let mut requests = Vec::new();
    for (number, line) in lines {
        let place = format!("{file}: line {}", number + 1);
        if requests.len() == REQUESTS_MAX {
            return Err(format!("{place}: more than {REQUESTS_MAX} requests"));
        }
        let value: Value = serde_json::from_slice(line).map_err(|error| format!("{place}: not JSON: {error}"))?;
        Request::read(&value).map_err(|problems| format!("{place}: {problems}"))?;
        requests.push(value);
    }
    Ok(requests)
}

/// A visitor with one of the requests.
struct Person<'a, 'h> {
    id: &'a str,
    view: &'a RequestContext<'h>,
}

impl Attributes for Person<'_, '_> {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        match name {
            AttributeName::Id => AttributeValue::Text(self.id.into()),
            other => self.view.attribute(other),
        }
    }

    fn look_up_bytes(&self, name: &AttributeName) -> usize {
        self.view.look_up_bytes(name)
    }
}

/// Decides all experiments, in the order of the snapshot.
fn decide_one(
    snapshot: &Snapshot,
    person: &Person<'_, '_>,
    has_path: bool,
    now_ms: i64,
    decisions: &mut Vec<Decision>,
) {
    let steps = request_budget();
    let input = DecisionInput::unrestricted(now_ms, &steps);
    let line = person.view.line();
    // As in the filter, all routes come before all conditions.
    let excluded = |experiment: &Experiment| match (experiment.state, has_path) {
        (State::Paused, _) => Some(Reason::Paused),
        (_, true) => check_request(experiment, &line, &input, &mut ()),
        (_, false) => None,
    };
    let excluded: Vec<Option<Reason>> = snapshot.experiments.iter().map(excluded).collect();
    decisions.clear();
    let Some(rules) = snapshot.flag_evaluator.as_deref() else {
        let units = Units::new(snapshot, &input, person);
        decisions.extend(snapshot.experiments.iter().zip(excluded).map(|(experiment, excluded)| match excluded {
            Some(reason) => Decision::no(reason),
            None => evaluate_on_route(snapshot, experiment, &input, &units, &mut ()),
        }));
        return;
    };
    decisions.extend(excluded.iter().map(|excluded| Decision::no(excluded.unwrap_or(Reason::Route))));
    let candidates: Vec<u32> =
        (0..).zip(&excluded).filter(|(_, excluded)| excluded.is_none()).map(|(number, _)| number).collect();
    let visitor = FlagVisitor::new(Some(person.id), person, &steps, input.now_ms);
    let mut found = FlagDecisions::default();
    decide_flags(snapshot, rules, &candidates, &input, &visitor, &mut found);
    for (flag, outcome, reason) in found.decided {
        if let Some(decision) = snapshot.flag(flag).and_then(|position| decisions.get_mut(position)) {
            // Only outcomes of an experiment count as variants.
            let variant =
                outcome.filter(|outcome| rules.outcomes(flag).get(*outcome).is_some_and(|one| one.in_experiment));
            *decision = Decision { variant, reason };
        }
    }
}
