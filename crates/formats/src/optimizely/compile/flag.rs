//! Flags, and experiments that no flag uses: the outcomes of each, prepared in advance.

use super::draft::{Draft, Experiment, FlagDraft, IdWire};
use super::variable::{Variable, VariableWire};
use crate::diagnostics::{Node, Path, Problems};
use crate::document::{KEY, List, Nullable, TEXT, open};
use crate::element::read;
use crate::optimizely::datafile::{Flag, Range, Rule, Step, Variation};
use crate::optimizely::impression::{Impression, RuleType};
use crate::stepwise::{CONFIG_OUTCOME_BYTES_MAX, FLAG_OUTCOME_BYTES_MAX, OUTCOME_BYTES, OUTCOME_SIZE, size};
use edgesplit_engine::flag::Outcome;
use edgesplit_engine::snapshot::Disabled;
use serde_json::{Map, Value};

crate::document! {
    struct FlagWire {
        /// Its key.
        key: String => KEY,
        /// Its variables.
        variables: Vec<VariableWire> => List(open()),
        /// Its experiments.
        experiment_ids as "experimentIds": Vec<String> => List(TEXT),
        /// Its rollout.
        rollout_id as "rolloutId": Option<String> => Nullable(TEXT),
    }
}

/// The bucket behind all others.
const ALL_BUCKETS: u32 = edgesplit_engine::hash::BUCKETS;

impl Draft {
    pub(super) fn read_flag(&mut self, node: Node<'_>, position: usize, problems: &mut Problems) {
        self.flag_count = position + 1;
        let mut own = Problems::new();
        let draft = self.flag_draft(node, position, &mut own);
        let key = node.value.get("key").and_then(Value::as_str);
        let is_shadowed = key.is_some_and(|key| self.flag_keys.get(key) != Some(&position));
        if is_shadowed {
            own.error(&node.path.field("key"), "a later flag has this key too, and the SDKs know that one");
        }
        match draft.filter(|_| !is_shadowed) {
            Some(draft) => {
                self.deliver_to_everyone_else(&draft);
                self.flag_drafts.push(draft);
            }
            None => self.disabled.push(Disabled {
                key: key.filter(|_| !is_shadowed).map(str::to_owned),
                position,
                problem: own.first_error(),
            }),
        }
        problems.append(own);
    }

    /// Notes the names in a flag that reading other elements depends on.
    pub(super) fn index_flag(&mut self, node: Node<'_>, position: usize, _problems: &mut Problems) {
        let list = |name: &str| node.value.get(name).and_then(Value::as_array).into_iter().flatten();
        list("variables").for_each(|variable| self.types.add(variable));
        self.used_ids.extend(list("experimentIds").filter_map(Value::as_str).map(str::to_owned));
        if let Some(key) = node.value.get("key").and_then(Value::as_str) {
            self.flag_keys.insert(key.to_owned(), position);
        }
    }

    fn flag_draft(&self, node: Node<'_>, position: usize, problems: &mut Problems) -> Option<FlagDraft> {
        read::<IdWire>(node, problems);
        let wire = read::<FlagWire>(node, problems)?;
        let list = node.path.field("variables");
        let variables = wire.variables.into_iter().enumerate();
        let variables = variables.map(|(index, variable)| variable.compile(&list.index(index), problems)).collect();
        let list = node.path.field("experimentIds");
        let mut experiments = Some(Vec::new());
        for (index, id) in wire.experiment_ids.iter().enumerate() {
            let experiment = self.flag_experiment(id, &list.index(index), problems);
            experiments = experiments.zip(experiment).map(|(mut experiments, experiment)| {
                experiments.extend(experiment);
                experiments
            });
        }
        let rollout = match &wire.rollout_id {
            Some(id) => self.flag_rollout(id, &node.path.field("rolloutId"), problems),
            None => Some(None),
        };
        Some(FlagDraft { key: wire.key, position, variables, experiments: experiments?, rollout: rollout? })
    }

    /// The experiment named here. One that is not there is left out, as by the SDKs; one that is disabled disables the
    /// flag.
    fn flag_experiment(&self, id: &str, path: &Path<'_>, problems: &mut Problems) -> Option<Option<usize>> {
        let Some(&position) = self.experiment_ids.get(id) else {
            problems.error(path, format_args!("there is no experiment {id:?}: the flag is decided without it"));
            return Some(None);
        };
        match self.experiments.get(position).map(|experiment| &experiment.rule) {
            Some(Err(problem)) => {
                problems.error(path, format_args!("the experiment {id:?} is disabled: {problem}"));
                None
            }
            _ => Some(Some(position)),
        }
    }

    /// The position of the rollout named here. See [`Draft::flag_experiment`].
    fn flag_rollout(&self, id: &str, path: &Path<'_>, problems: &mut Problems) -> Option<Option<usize>> {
        let position = self.rollout_ids.get(id).copied();
        match position.and_then(|position| self.rollouts.get(position)) {
            Some(Ok(_)) => Some(position),
            Some(Err(problem)) => {
                problems.error(path, format_args!("the rollout {id:?} is disabled: {problem}"));
                None
            }
            None => {
                if !id.is_empty() {
                    problems.error(path, format_args!("there is no rollout {id:?}: the flag is decided without it"));
                }
                Some(None)
            }
        }
    }

    /// The rules of a flag's rollout.
    fn rollout_rules(&self, draft: &FlagDraft) -> &[usize] {
        let rules = draft.rollout.and_then(|position| self.rollouts.get(position)?.as_deref().ok());
        rules.unwrap_or_default()
    }

    /// A feature rollout has one variation more than the datafile gives it: the one that its flag's rollout has for
    /// everyone else. It gets all visitors who are in none of the others.
    fn deliver_to_everyone_else(&mut self, draft: &FlagDraft) {
        let last = self.rollout_rules(draft).last();
        let everyone_else = last.and_then(|&rule| self.rules.get(rule)?.variations.first().cloned());
        let Some(everyone_else) = everyone_else else { return };
        for &position in &draft.experiments {
            let Some(experiment) = self.experiments.get_mut(position) else { continue };
            // Another flag with this experiment could add variations, but no visitor would be in them.
            if !std::mem::take(&mut experiment.is_feature_rollout) {
                continue;
            }
            if let Some(rule) = experiment.rule.as_ref().ok().and_then(|&rule| self.rules.get_mut(rule)) {
                // The SDKs look variations up by their keys: one of its own with the same key gives way.
                let (same, added) = (rule.variation_of_key(&everyone_else.key), rule.variations.len());
                let own = rule.allocation.iter_mut().filter(|range| same.is_some() && range.to == same);
                own.for_each(|range| range.to = Some(added));
                rule.allocation.push(Range { end: ALL_BUCKETS, to: Some(added) });
                rule.variations.push(everyone_else.clone());
            }
        }
    }

    /// Compiles the flag draft `number`, and gives the approximate bytes of its outcomes. None if there is no such draft.
    pub(super) fn add_flag(&mut self, number: usize, root: &Path<'_>, problems: &mut Problems) -> Option<usize> {
        let draft = self.flag_drafts.get(number)?;
        let bytes_max = (CONFIG_OUTCOME_BYTES_MAX - self.outcome_bytes).min(FLAG_OUTCOME_BYTES_MAX);
        let (flag, bytes) = self.flag(draft, bytes_max);
        if bytes <= bytes_max {
            self.outcome_bytes += bytes;
            self.flags.push(flag);
            return Some(bytes);
        }
        let mut own = Problems::new();
        let message = format!(
            "its outcomes, with those of holdouts, take over {FLAG_OUTCOME_BYTES_MAX} bytes, or those of all flags over \
             {CONFIG_OUTCOME_BYTES_MAX}"
        );
        own.error(&root.field("featureFlags").index(draft.position), message);
        self.disabled.push(Disabled { key: Some(flag.key), position: flag.position, problem: own.first_error() });
        problems.append(own);
        Some(bytes)
    }

    /// The flag, and the approximate bytes of its outcomes. Beyond `bytes_max`, some are missing.
    fn flag(&self, draft: &FlagDraft, bytes_max: usize) -> (Flag, usize) {
        let mut outcomes = Outcomes::new(&draft.key, false, &draft.variables, bytes_max);
        let mut steps = |rules: &[usize], rule_type| -> Vec<Step> {
            rules.iter().filter_map(|&rule| self.flag_step(rule, rule_type, &mut outcomes)).collect()
        };
        let experiments = draft.experiments.iter().filter_map(|&position| self.experiments.get(position));
        let experiments: Vec<usize> = experiments.filter_map(|experiment| experiment.rule.clone().ok()).collect();
        let holdouts = steps(&self.holdouts, RuleType::Holdout);
        let experiments = steps(&experiments, RuleType::FeatureTest);
        let rollout = steps(self.rollout_rules(draft), RuleType::Rollout);
        let bytes = outcomes.bytes;
        let flag = Flag {
            key: draft.key.clone(),
            position: draft.position,
            is_experiment: false,
            outcomes: outcomes.outcomes,
            impressions: outcomes.impressions,
            holdouts,
            experiments,
            rollout,
        };
        (flag, bytes)
    }

    /// The holdouts of the rule `id` alone.
    fn holdouts_of(&self, id: &str) -> &[usize] {
        self.rule_holdouts.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    fn flag_step(&self, position: usize, rule_type: RuleType, outcomes: &mut Outcomes<'_>) -> Option<Step> {
        let rule = self.rules.get(position)?;
        let outcomes_from = outcomes.add(rule, rule_type);
        let holdouts = match rule_type {
            // Experiments without a flag and holdouts themselves have none.
            RuleType::Experiment | RuleType::Holdout => &[],
            RuleType::FeatureTest | RuleType::Rollout => self.holdouts_of(&rule.id),
        };
        let holdouts = holdouts.iter().filter_map(|&holdout| self.flag_step(holdout, RuleType::Holdout, outcomes));
        Some(Step { rule: position, outcomes_from, holdouts: holdouts.collect() })
    }

    /// Adds the unused experiment `number` as a flag of its own, or as a disabled one, and gives the approximate bytes of
    /// its outcomes. None if there is no such experiment.
    pub(super) fn experiment_without_flag(
        &mut self,
        number: usize,
        document: Node<'_>,
        problems: &mut Problems,
    ) -> Option<usize> {
        let experiment = self.experiments.get(*self.unused.get(number)?)?;
        let mut own = Problems::new();
        let key = experiment.key.as_deref().unwrap_or_default();
        if self.flag_keys.contains_key(key) {
            experiment.key_error(document, "a flag has this key too, and is what is decided under it", &mut own);
        } else if self.unused_keys.get(key).is_some_and(|&last| last != number) {
            experiment.key_error(document, "a later experiment has this key too, and the SDKs know that one", &mut own);
        }
        let position = self.flag_count + number;
        let is_key_taken = own.errors() > 0;
        let mut bytes = 1;
        match &experiment.rule {
            Ok(rule) if !is_key_taken => {
                let flag = self.flag_of_experiment(*rule, position);
                bytes = flag.as_ref().map_or(1, |flag| OUTCOME_BYTES * flag.outcomes.len());
                self.flags.extend(flag);
            }
            Ok(_) => self.disabled.push(Disabled { key: None, position, problem: own.first_error() }),
            Err(problem) => self.disabled.push(Disabled {
                key: experiment.key.clone().filter(|_| !is_key_taken),
                position,
                problem: problem.clone(),
            }),
        }
        problems.append(own);
        Some(bytes)
    }

    fn flag_of_experiment(&self, rule: usize, position: usize) -> Option<Flag> {
        let key = self.rules.get(rule)?.key.clone();
        let mut outcomes = Outcomes::new("", true, &[], usize::MAX);
        let step = self.flag_step(rule, RuleType::Experiment, &mut outcomes);
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
    /// Reports a problem with its key.
    fn key_error(&self, document: Node<'_>, message: &str, problems: &mut Problems) {
        let groups = document.path.field("groups");
        let group = self.group.map(|group| groups.index(group));
        let list = group.as_ref().unwrap_or(document.path).field("experiments");
        problems.error(&list.index(self.index).field("key"), message);
    }
}

/// The outcomes of one flag, and their reports.
struct Outcomes<'a> {
    flag_key: &'a str,
    is_experiment: bool,
    variables: &'a [Variable],
    outcomes: Vec<Outcome>,
    impressions: Vec<Impression>,
    /// Their approximate size.
    bytes: usize,
    bytes_max: usize,
}

impl<'a> Outcomes<'a> {
    /// Starts with the outcome for visitors without a rule.
    fn new(flag_key: &'a str, is_experiment: bool, variables: &'a [Variable], bytes_max: usize) -> Outcomes<'a> {
        let (outcomes, impressions) = Default::default();
        let mut outcomes = Outcomes { flag_key, is_experiment, variables, outcomes, impressions, bytes: 0, bytes_max };
        let value = outcomes.value(None);
        outcomes.push(Outcome { variant: None, experiment: None, value, in_experiment: false });
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

    fn push(&mut self, outcome: Outcome) {
        self.bytes = self.bytes.saturating_add(OUTCOME_SIZE + size(&outcome.value));
        self.outcomes.push(outcome);
    }

    /// Adds the variations of `rule`, as long as there is room for them; the position of the first one.
    fn add(&mut self, rule: &Rule, rule_type: RuleType) -> usize {
        let from = self.outcomes.len();
        for variation in &rule.variations {
            if self.bytes > self.bytes_max {
                break;
            }
            self.push(Outcome {
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
                // Activating an experiment that no flag uses always counts as on.
                enabled: variation.enabled || self.is_experiment,
            });
        }
        from
    }

    /// The flag's variables: the variation's where it turns the flag on, else the defaults.
    fn value(&self, variation: Option<&Variation>) -> Value {
        if self.is_experiment {
            return Value::Null;
        }
        let values = variation.filter(|variation| variation.enabled).map(|variation| &variation.values);
        let mut members = Map::new();
        for variable in self.variables {
            let value = values.and_then(|values| values.get(&variable.id)).unwrap_or(&variable.default);
            members.insert(variable.key.clone(), value.clone());
        }
        Value::Object(members)
    }
}
