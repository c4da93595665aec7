//! Flags, and experiments that no flag uses: what each can come out as, written out in advance.

use super::rule::key;
use super::variable::{Variable, variable};
use super::{Draft, Experiment, first_error};
use crate::diagnostics::{Node, Problems, Severity};
use crate::optimizely::datafile::{Flag, Range, Rule, Step, Variation};
use crate::optimizely::impression::{Impression, RuleType};
use crate::optimizely::wire::{each_element, list, optional, required, string};
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::snapshot::Disabled;
use edgesplit_engine::sort::sort;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The bucket behind all others.
const ALL_BUCKETS: u32 = edgesplit_engine::hash::BUCKETS;

/// A flag as the datafile has it, its ids looked up.
struct FlagDraft {
    key: String,
    position: usize,
    variables: Vec<Variable>,
    /// Positions in [`Draft::experiments`].
    experiments: Vec<usize>,
    /// Positions of rules.
    rollout: Vec<usize>,
}

impl Draft {
    /// All flags, all experiments that no flag uses, and what is wrong among them.
    pub(super) fn flags(&mut self, node: Node<'_>, problems: &mut Problems) -> (Vec<Flag>, Vec<Disabled>) {
        let (mut drafts, mut disabled) = (Vec::new(), Vec::new());
        let last = last_positions(node.value);
        let mut count = 0;
        each_element(node, "featureFlags", true, problems, |node, problems| {
            let position = count;
            count += 1;
            let mut own = Problems::new();
            let draft = self.read_flag(node, position, &mut own);
            let key = node.value.get("key").and_then(Value::as_str);
            let is_shadowed = key.is_some_and(|key| last.get(key) != Some(&position));
            if is_shadowed {
                own.error(&node.path.field("key"), "a later flag has this key too, and the SDKs know that one");
            }
            match draft.filter(|_| !is_shadowed) {
                Some(draft) => drafts.push(draft),
                None => disabled.push(Disabled {
                    key: key.filter(|_| !is_shadowed).map(str::to_owned),
                    position,
                    problem: first_error(&own),
                }),
            }
            problems.append(own);
        });
        for draft in &drafts {
            self.deliver_to_everyone_else(draft);
        }
        let mut flags: Vec<Flag> = drafts.iter().map(|draft| self.flag(draft)).collect();
        self.experiments_without_flag(node, &last, count, &mut flags, &mut disabled, problems);
        (flags, disabled)
    }

    fn read_flag(&self, node: Node<'_>, position: usize, problems: &mut Problems) -> Option<FlagDraft> {
        node.object(problems)?;
        let fields = ["id", "key", "rolloutId", "experimentIds", "variables", "groupId"];
        node.unknown_fields(&fields, Severity::Warning, problems);
        required(node, "id", problems, string);
        let key = required(node, "key", problems, key);
        let variables = required(node, "variables", problems, |node, problems| list(node, problems, variable));
        let experiments = required(node, "experimentIds", problems, |node, problems| {
            list(node, problems, |node, problems| self.flag_experiment(node, problems))
        });
        let rollout = match node.value.get("rolloutId") {
            None => required(node, "rolloutId", problems, |_, _| None),
            Some(_) => optional(node, "rolloutId", problems, |node, problems| self.flag_rollout(node, problems)),
        };
        Some(FlagDraft {
            key: key?,
            position,
            variables: variables?,
            experiments: experiments?.into_iter().flatten().collect(),
            rollout: rollout?.unwrap_or_default(),
        })
    }

    /// The experiment named here. One that is not there is left out, as by the SDKs; one that is disabled disables the
    /// flag.
    fn flag_experiment(&self, node: Node<'_>, problems: &mut Problems) -> Option<Option<usize>> {
        let id = node.string(problems)?;
        let Some(&position) = self.experiment_ids.get(id) else {
            problems.error(node.path, format!("there is no experiment {id:?}: the flag is decided without it"));
            return Some(None);
        };
        match self.experiments.get(position).map(|experiment| &experiment.rule) {
            Some(Err(problem)) => {
                problems.error(node.path, format!("the experiment {id:?} is disabled: {problem}"));
                None
            }
            _ => Some(Some(position)),
        }
    }

    /// The rules of the rollout named here. See [`Draft::flag_experiment`].
    fn flag_rollout(&self, node: Node<'_>, problems: &mut Problems) -> Option<Vec<usize>> {
        let id = node.string(problems)?;
        match self.rollout_ids.get(id).and_then(|&at| self.rollouts.get(at)) {
            Some(Ok(rules)) => Some(rules.clone()),
            Some(Err(problem)) => {
                problems.error(node.path, format!("the rollout {id:?} is disabled: {problem}"));
                None
            }
            None => {
                if !id.is_empty() {
                    problems.error(node.path, format!("there is no rollout {id:?}: the flag is decided without it"));
                }
                Some(Vec::new())
            }
        }
    }

    /// A feature rollout has one variation more than the datafile gives it: the one that its flag's rollout has for
    /// everyone else. Who is in none of the others is in that one.
    fn deliver_to_everyone_else(&mut self, draft: &FlagDraft) {
        let everyone_else = draft.rollout.last().and_then(|&rule| self.rules.get(rule)?.variations.first().cloned());
        let Some(everyone_else) = everyone_else else { return };
        for experiment in draft.experiments.iter().filter_map(|&position| self.experiments.get(position)) {
            if !experiment.is_feature_rollout {
                continue;
            }
            if let Some(rule) = experiment.rule.as_ref().ok().and_then(|&rule| self.rules.get_mut(rule)) {
                rule.allocation.push(Range { end: ALL_BUCKETS, to: Some(rule.variations.len()) });
                rule.variations.push(everyone_else.clone());
            }
        }
    }

    fn flag(&self, draft: &FlagDraft) -> Flag {
        let mut outcomes = Outcomes::new(&draft.key, false, &draft.variables);
        let mut steps = |rules: &[usize], rule_type| -> Vec<Step> {
            rules.iter().filter_map(|&rule| self.step(rule, rule_type, &mut outcomes)).collect()
        };
        let experiments = draft.experiments.iter().filter_map(|&position| self.experiments.get(position));
        let experiments: Vec<usize> = experiments.filter_map(|experiment| experiment.rule.clone().ok()).collect();
        let holdouts = steps(&self.holdouts, RuleType::Holdout);
        let experiments = steps(&experiments, RuleType::FeatureTest);
        let rollout = steps(&draft.rollout, RuleType::Rollout);
        Flag {
            key: draft.key.clone(),
            position: draft.position,
            is_experiment: false,
            outcomes: outcomes.outcomes,
            impressions: outcomes.impressions,
            holdouts,
            experiments,
            rollout,
        }
    }

    /// The holdouts of the rule `id` alone.
    fn holdouts_of(&self, id: &str) -> &[usize] {
        let holdouts = self.rule_holdout_ids.get(id).and_then(|&at| self.rule_holdouts.get(at));
        holdouts.map(Vec::as_slice).unwrap_or_default()
    }

    fn step(&self, position: usize, rule_type: RuleType, outcomes: &mut Outcomes<'_>) -> Option<Step> {
        let rule = self.rules.get(position)?;
        let outcomes_from = outcomes.add(rule, rule_type);
        let holdouts = match rule_type {
            // Experiments without a flag and holdouts themselves have none.
            RuleType::Experiment | RuleType::Holdout => &[],
            RuleType::FeatureTest | RuleType::Rollout => self.holdouts_of(&rule.id),
        };
        let holdouts = holdouts.iter().filter_map(|&holdout| self.step(holdout, RuleType::Holdout, outcomes));
        Some(Step { rule: position, outcomes_from, holdouts: holdouts.collect() })
    }

    fn experiments_without_flag(
        &self,
        node: Node<'_>,
        flag_keys: &HashMap<String, usize>,
        flag_count: usize,
        flags: &mut Vec<Flag>,
        disabled: &mut Vec<Disabled>,
        problems: &mut Problems,
    ) {
        let mut used: Vec<&str> = used_ids(node.value).collect();
        sort(&mut used);
        let is_unused =
            |experiment: &&Experiment| experiment.id.as_deref().is_none_or(|id| used.binary_search(&id).is_err());
        let unused: Vec<&Experiment> = self.experiments.iter().filter(is_unused).collect();
        let keys = unused.iter().enumerate().filter_map(|(at, experiment)| Some((experiment.key.clone()?, at)));
        let last: HashMap<String, usize> = keys.collect();
        for (at, experiment) in unused.iter().enumerate() {
            let mut own = Problems::new();
            let key = experiment.key.as_deref().unwrap_or_default();
            if flag_keys.contains_key(key) {
                experiment.key_error(node, "a flag has this key too, and is what is decided under it", &mut own);
            } else if last.get(key).is_some_and(|&last| last != at) {
                experiment.key_error(node, "a later experiment has this key too, and the SDKs know that one", &mut own);
            }
            let position = flag_count + at;
            let is_key_taken = own.errors() > 0;
            match &experiment.rule {
                Ok(rule) if !is_key_taken => flags.extend(self.experiment_without_flag(*rule, position)),
                Ok(_) => disabled.push(Disabled { key: None, position, problem: first_error(&own) }),
                Err(problem) => disabled.push(Disabled {
                    key: experiment.key.clone().filter(|_| !is_key_taken),
                    position,
                    problem: problem.clone(),
                }),
            }
            problems.append(own);
        }
    }

    fn experiment_without_flag(&self, rule: usize, position: usize) -> Option<Flag> {
        let key = self.rules.get(rule)?.key.clone();
        let mut outcomes = Outcomes::new("", true, &[]);
        let step = self.step(rule, RuleType::Experiment, &mut outcomes);
        Some(Flag {
            key,
            position,
            is_experiment: true,
            outcomes: outcomes.outcomes,
            impressions: outcomes.impressions,
            holdouts: Vec::new(),
            experiments: step.into_iter().collect(),
            rollout: Vec::new(),
        })
    }
}

impl Experiment {
    /// Reports something wrong with its key.
    fn key_error(&self, document: Node<'_>, message: &str, problems: &mut Problems) {
        let groups = document.path.field("groups");
        let group = self.group.map(|group| groups.index(group));
        let list = group.as_ref().unwrap_or(document.path).field("experiments");
        problems.error(&list.index(self.index).field("key"), message);
    }
}

/// The outcomes of one flag, and what events say of them.
struct Outcomes<'a> {
    flag_key: &'a str,
    is_experiment: bool,
    variables: &'a [Variable],
    outcomes: Vec<Outcome>,
    impressions: Vec<Impression>,
}

impl<'a> Outcomes<'a> {
    /// The first outcome is what visitors get whom no rule takes.
    fn new(flag_key: &'a str, is_experiment: bool, variables: &'a [Variable]) -> Outcomes<'a> {
        let mut outcomes =
            Outcomes { flag_key, is_experiment, variables, outcomes: Vec::new(), impressions: Vec::new() };
        let default = Outcome { variant: None, experiment: None, value: outcomes.value(None), in_experiment: false };
        outcomes.outcomes.push(default);
        outcomes.impressions.push(Impression {
            campaign_id: String::new(),
            experiment_id: String::new(),
            variation_id: None,
            flag_key: flag_key.to_owned(),
            rule_key: String::new(),
            rule_type: if is_experiment { RuleType::Experiment } else { RuleType::Rollout },
            variation_key: String::new(),
            enabled: false,
        });
        outcomes
    }

    /// Adds the variations of `rule`; the position of the first one.
    fn add(&mut self, rule: &Rule, rule_type: RuleType) -> usize {
        let from = self.outcomes.len();
        for variation in &rule.variations {
            self.outcomes.push(Outcome {
                variant: Some(variation.key.clone()),
                experiment: Some(rule.key.clone()),
                value: self.value(Some(variation)),
                in_experiment: matches!(rule_type, RuleType::Experiment | RuleType::FeatureTest),
            });
            let campaign_id = if rule.campaign_id.is_empty() { &rule.id } else { &rule.campaign_id };
            let is_number = !variation.id.is_empty() && variation.id.bytes().all(|byte| byte.is_ascii_digit());
            self.impressions.push(Impression {
                campaign_id: campaign_id.clone(),
                experiment_id: rule.id.clone(),
                variation_id: is_number.then(|| variation.id.clone()),
                flag_key: self.flag_key.to_owned(),
                rule_key: rule.key.clone(),
                rule_type,
                variation_key: variation.key.clone(),
                enabled: variation.enabled,
            });
        }
        from
    }

    /// The flag's variables: the variation's where it turns the flag on, else the defaults.
    fn value(&self, variation: Option<&Variation>) -> Value {
        if self.is_experiment {
            return Value::Null;
        }
        let values = variation.filter(|variation| variation.enabled).map(|variation| variation.values.as_slice());
        let mut members = Map::new();
        for variable in self.variables {
            let own = values.unwrap_or_default().iter().rev().find(|(id, _)| *id == variable.id);
            let value = own.map_or(&variable.default, |(_, value)| value);
            members.insert(variable.key.clone(), value.clone());
        }
        Value::Object(members)
    }
}

/// Where the last flag of each key stands.
fn last_positions(document: &Value) -> HashMap<String, usize> {
    let flags = document.get("featureFlags").and_then(Value::as_array).into_iter().flatten();
    flags.enumerate().filter_map(|(position, flag)| Some((flag.get("key")?.as_str()?.to_owned(), position))).collect()
}

/// The ids of experiments that flags name, whether or not there are such experiments.
fn used_ids(document: &Value) -> impl Iterator<Item = &str> {
    let flags = document.get("featureFlags").and_then(Value::as_array).into_iter().flatten();
    let ids = flags.filter_map(|flag| flag.get("experimentIds")?.as_array()).flatten();
    ids.filter_map(Value::as_str)
}
