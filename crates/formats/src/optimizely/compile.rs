//! Compiling a datafile: JSON to [`Datafile`], with the problems found on the way.
//!
//! First what others name by id (audiences, experiments, rollouts, holdouts), then the flags, which name them.

mod flag;
mod rule;
mod variable;

use super::VERSION;
use super::audience::{Compiler, Tree, attribute_name};
use super::datafile::{Datafile, Group, Project, Range, ReportedAttribute, Rule};
use super::wire::{boolean, each_element, list, optional, required, string};
use crate::diagnostics::{Node, Problems, Severity};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::sort::sort;
use rule::{Kind, Rules, range_end};
use serde_json::{Map, Value};
use std::collections::HashMap;
use variable::VariableTypes;

const BUCKETING_ID: &str = "$opt_bucketing_id";

const FIELDS: &[&str] = &[
    "version",
    "accountId",
    "projectId",
    "revision",
    "sdkKey",
    "environmentKey",
    "region",
    "anonymizeIP",
    "botFiltering",
    "sendFlagDecisions",
    "audiences",
    "typedAudiences",
    "attributes",
    "events",
    "experiments",
    "groups",
    "featureFlags",
    "rollouts",
    "holdouts",
    "localHoldouts",
    "integrations",
    "variables",
    "layers",
];

/// What has been read so far.
#[derive(Default)]
struct Draft {
    rules: Vec<Rule>,
    groups: Vec<Group>,
    /// All experiments, in groups or not, in the order of the datafile.
    experiments: Vec<Experiment>,
    /// Their positions by their ids: of two with one id the SDKs know the last.
    experiment_ids: HashMap<String, usize>,
    /// The rules of rollouts, or what is wrong with one of them.
    rollouts: Vec<Result<Vec<usize>, String>>,
    /// Their positions by their ids.
    rollout_ids: HashMap<String, usize>,
    /// Holdouts of everything, in order.
    holdouts: Vec<usize>,
    /// Holdouts of single rules.
    rule_holdouts: Vec<Vec<usize>>,
    /// Which of these are a rule's, by the rules' ids.
    rule_holdout_ids: HashMap<String, usize>,
}

/// An experiment of the datafile.
struct Experiment {
    /// Its key, also where the rest is wrong.
    key: Option<String>,
    id: Option<String>,
    /// Where it is among the rules, or what is wrong with it.
    rule: Result<usize, String>,
    /// Who is not in its traffic gets what the flag's rollout gives everyone else, as a variation of this experiment.
    is_feature_rollout: bool,
    /// The position of its group in the datafile.
    group: Option<usize>,
    /// Its own position, in its group or in `experiments`.
    index: usize,
}

/// Compiles the datafile at `node`; none where it is refused whole.
pub(super) fn datafile(node: Node<'_>, problems: &mut Problems) -> Option<Datafile> {
    node.object(problems)?;
    required(node, "version", problems, |node, problems| {
        let is_known = node.value.as_str() == Some(VERSION);
        if !is_known {
            node.expected(problems, &format!("version \"{VERSION}\""));
        }
        is_known.then_some(())
    })?;
    node.unknown_fields(FIELDS, Severity::Warning, problems);
    let project = project(node, problems);
    let (audiences, audience_ids) = audiences(node, problems);
    let types = VariableTypes::collect(node.value);
    let rules = Rules { audience_ids: &audience_ids, types: &types };
    let mut draft = Draft::default();
    draft.read_experiments(node, &rules, problems);
    draft.read_rollouts(node, &rules, problems);
    draft.read_holdouts(node, &rules, problems);
    let (flags, disabled) = draft.flags(node, problems);
    let experiments =
        draft.experiments.into_iter().filter_map(|experiment| Some((experiment.key?, experiment.rule.ok()?)));
    Some(Datafile {
        project,
        flags,
        disabled,
        experiments: experiments.collect(),
        rules: draft.rules,
        groups: draft.groups,
        audiences,
        bucketing_id: AttributeName::Named(BUCKETING_ID.to_owned()),
    })
}

fn project(node: Node<'_>, problems: &mut Problems) -> Project {
    let [account_id, project_id, revision] =
        ["accountId", "projectId", "revision"].map(|name| required(node, name, problems, string).unwrap_or_default());
    let [anonymize_ip, bot_filtering, send_flag_decisions] = ["anonymizeIP", "botFiltering", "sendFlagDecisions"]
        .map(|name| optional(node, name, problems, boolean).flatten());
    let mut attributes = Vec::new();
    each_element(node, "attributes", true, problems, |node, problems| {
        if node.object(problems).is_none() {
            return;
        }
        let (id, key) = (required(node, "id", problems, string), required(node, "key", problems, string));
        if let (Some(id), Some(key)) = (id, key) {
            attributes.push(ReportedAttribute { id, name: attribute_name(&key), key });
        }
    });
    let mut conversions = Map::new();
    each_element(node, "events", true, problems, |node, problems| {
        if node.object(problems).is_none() {
            return;
        }
        let (id, key) = (required(node, "id", problems, string), required(node, "key", problems, string));
        conversions.extend(key.zip(id.map(Value::String)));
    });
    Project {
        account_id,
        project_id,
        revision,
        anonymize_ip: anonymize_ip.unwrap_or(false),
        bot_filtering,
        send_flag_decisions: send_flag_decisions.unwrap_or(false),
        attributes,
        conversions,
    }
}

/// All audiences, and their positions by id. Typed ones take the place of others with their ids.
fn audiences(node: Node<'_>, problems: &mut Problems) -> (Vec<Tree>, HashMap<String, usize>) {
    let (mut trees, mut ids) = (Vec::new(), HashMap::new());
    let no_ids = HashMap::new();
    for (name, expected) in [("audiences", true), ("typedAudiences", false)] {
        each_element(node, name, expected, problems, |node, problems| {
            if node.object(problems).is_none() {
                return;
            }
            node.unknown_fields(&["id", "name", "conditions"], Severity::Warning, problems);
            let id = required(node, "id", problems, string);
            let tree = required(node, "conditions", problems, |node, problems| {
                Some(Compiler { ids: &no_ids, problems }.conditions(&node))
            });
            if let Some(id) = id {
                ids.insert(id, trees.len());
                trees.push(tree.unwrap_or(Tree::Always(None)));
            }
        });
    }
    (trees, ids)
}

impl Draft {
    fn read_experiments(&mut self, node: Node<'_>, rules: &Rules<'_>, problems: &mut Problems) {
        each_element(node, "experiments", true, problems, |node, problems| {
            self.read_experiment(node, None, rules, Ok(None), problems);
        });
        let mut groups = 0..;
        each_element(node, "groups", true, problems, |node, problems| {
            let index = groups.next();
            if node.object(problems).is_none() {
                return;
            }
            node.unknown_fields(&["id", "policy", "trafficAllocation", "experiments"], Severity::Warning, problems);
            let group = self.read_group(node, problems);
            each_element(node, "experiments", true, problems, |node, problems| {
                self.read_experiment(node, index, rules, group.clone(), problems);
            });
        });
    }

    /// The position of a group that makes its experiments exclude each other; none where it does not. An error where it
    /// is wrong, which takes its experiments along.
    fn read_group(&mut self, node: Node<'_>, problems: &mut Problems) -> Result<Option<usize>, String> {
        let mut members: Vec<&str> = member_ids(node.value).collect();
        sort(&mut members);
        let mut own = Problems::new();
        let id = required(node, "id", &mut own, string);
        let policy = required(node, "policy", &mut own, string);
        let allocation = required(node, "trafficAllocation", &mut own, |node, problems| {
            list(node, problems, |node, problems| {
                node.object(problems)?;
                let end = range_end(node, problems);
                let to = required(node, "entityId", problems, |node, problems| {
                    let id = node.string(problems)?;
                    if !id.is_empty() && members.binary_search(&id).is_err() {
                        problems.error(node.path, format!("there is no experiment {id:?} in the group"));
                    }
                    Some(id.to_owned())
                });
                Some(Range { end: end?, to: to? })
            })
        });
        let is_exclusive = match policy.as_deref() {
            Some("random") | None => true,
            Some("overlapping") => false,
            Some(_) => {
                own.error(&node.path.field("policy"), "expected random or overlapping; its experiments overlap");
                false
            }
        };
        let group = match (id, policy, allocation) {
            (Some(id), Some(_), Some(allocation)) => Ok(is_exclusive.then(|| {
                self.groups.push(Group { id, allocation });
                self.groups.len() - 1
            })),
            _ => Err(first_error(&own)),
        };
        problems.append(own);
        group
    }

    fn read_experiment(
        &mut self,
        node: Node<'_>,
        group_index: Option<usize>,
        rules: &Rules<'_>,
        group: Result<Option<usize>, String>,
        problems: &mut Problems,
    ) {
        let mut own = Problems::new();
        let rule = match rules.rule(node, Kind::Experiment, group.clone().ok().flatten(), &mut own) {
            Some(rule) => group.map(|_| self.add(rule)),
            None => Err(first_error(&own)),
        };
        let is_feature_rollout = optional(node, "type", &mut own, string).flatten().as_deref() == Some("fr");
        let text = |name: &str| node.value.get(name).and_then(Value::as_str).map(str::to_owned);
        let id = text("id");
        if let Some(id) = &id
            && self.experiment_ids.insert(id.clone(), self.experiments.len()).is_some()
        {
            own.error(
                &node.path.field("id"),
                format!("duplicate id {id:?}: flags mean this experiment, as to the SDKs"),
            );
        }
        let before = self.experiments.last().filter(|before| before.group == group_index);
        let index = before.map_or(0, |before| before.index + 1);
        let key = text("key");
        self.experiments.push(Experiment { key, id, rule, is_feature_rollout, group: group_index, index });
        problems.append(own);
    }

    fn add(&mut self, rule: Rule) -> usize {
        self.rules.push(rule);
        self.rules.len() - 1
    }

    fn read_rollouts(&mut self, node: Node<'_>, rules: &Rules<'_>, problems: &mut Problems) {
        each_element(node, "rollouts", true, problems, |node, problems| {
            if node.object(problems).is_none() {
                return;
            }
            node.unknown_fields(&["id", "experiments"], Severity::Warning, problems);
            let Some(id) = required(node, "id", problems, string) else { return };
            let mut own = Problems::new();
            let read = required(node, "experiments", &mut own, |node, problems| {
                list(node, problems, |node, problems| {
                    let rule = rules.rule(node, Kind::Delivery, None, problems)?;
                    Some(self.add(rule))
                })
            });
            self.rollout_ids.insert(id, self.rollouts.len());
            self.rollouts.push(read.ok_or_else(|| first_error(&own)));
            problems.append(own);
        });
    }

    fn read_holdouts(&mut self, node: Node<'_>, rules: &Rules<'_>, problems: &mut Problems) {
        each_element(node, "holdouts", false, problems, |node, problems| {
            if let Some(rule) = rules.rule(node, Kind::Holdout, None, problems) {
                let position = self.add(rule);
                self.holdouts.push(position);
            }
        });
        let ids: HashMap<String, usize> = (0..).zip(&self.rules).map(|(at, rule)| (rule.id.clone(), at)).collect();
        each_element(node, "localHoldouts", false, problems, |node, problems| {
            let Some(rule) = rules.rule(node, Kind::Holdout, None, problems) else { return };
            let included = required(node, "includedRules", problems, |node, problems| {
                list(node, problems, |node, problems| {
                    let id = node.string(problems)?;
                    if !ids.contains_key(id) {
                        problems.error(node.path, format!("there is no rule {id:?}: nobody is held out of it"));
                    }
                    Some(id.to_owned())
                })
            });
            let position = self.add(rule);
            for id in included.unwrap_or_default() {
                let at = *self.rule_holdout_ids.entry(id).or_insert(self.rule_holdouts.len());
                match self.rule_holdouts.get_mut(at) {
                    Some(holdouts) => holdouts.push(position),
                    None => self.rule_holdouts.push(vec![position]),
                }
            }
        });
    }
}

/// The ids of the experiments of a group.
fn member_ids(group: &Value) -> impl Iterator<Item = &str> {
    let experiments = group.get("experiments").and_then(Value::as_array).into_iter().flatten();
    experiments.filter_map(|experiment| experiment.get("id")?.as_str())
}

/// What is said of something that is disabled.
fn first_error(problems: &Problems) -> String {
    let error = problems.iter().find(|problem| problem.severity == Severity::Error);
    error.map(ToString::to_string).unwrap_or_default()
}
