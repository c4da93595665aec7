//! Compiles a datafile to a [`Datafile`], element by element: first everything that others name by id (audiences,
//! experiments, rollouts, holdouts), then the flags, which name them.

pub(super) mod draft;
mod flag;
mod rule;
mod variable;

use super::audience::{Compiler, Tree, attribute_name};
use super::datafile::{Datafile, Group, Range, Rule, VERSION};
use super::project::{Project, ReportedAttribute};
use crate::diagnostics::{Node, Problems};
use crate::document::{List, Nullable, TEXT, open};
use crate::element::{elements, read, required};
use crate::stepwise::{Leftovers, size};
use draft::{Draft, Experiment, IdWire, Stage};
use edgesplit_engine::attribute::AttributeName;
use rule::{Kind, RangeWire, Rules};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

const BUCKETING_ID: &str = "$opt_bucketing_id";

/// Reads one element of a list.
type ReadElement = fn(&mut Draft, Node<'_>, usize, &mut Problems);

/// The lists of a datafile in the order in which they are read, and whether each must be there.
const LISTS: [(&str, bool, ReadElement); 12] = [
    // Older projects have variables that belong to no flag.
    ("variables", false, Draft::index_variable),
    ("featureFlags", false, Draft::index_flag),
    ("attributes", true, Draft::read_attribute),
    ("events", true, Draft::read_event),
    ("audiences", true, Draft::read_audience),
    // Typed audiences take the place of others with their ids.
    ("typedAudiences", false, Draft::read_audience),
    ("experiments", true, Draft::read_experiment),
    ("groups", true, Draft::read_group),
    ("rollouts", true, Draft::read_rollout),
    ("holdouts", false, Draft::read_holdout),
    ("localHoldouts", false, Draft::read_local_holdout),
    ("featureFlags", true, Draft::read_flag),
];

/// How many of them are only indexed at first: their problems are reported when they are read.
const INDEXED_LISTS: usize = 2;

/// How many bytes are indexed in the time of compiling one.
const INDEX_BYTES: usize = 4;

/// The approximate bytes of config that take as long as the head of a datafile.
const HEAD_BYTES: usize = 8 << 10;

crate::document! {
    struct NamedWire {
        /// Its id.
        id: String => TEXT,
        /// Its key.
        key: String => TEXT,
    }
}

crate::document! {
    struct TypeWire {
        /// The type of an experiment.
        kind as "type": Option<String> = None => Nullable(TEXT),
    }
}

crate::document! {
    struct GroupWire {
        /// Its id.
        id: String => TEXT,
        /// Whether its experiments exclude each other.
        policy: String => TEXT,
        /// Their shares of its traffic.
        traffic_allocation as "trafficAllocation": Vec<RangeWire> => List(open()),
    }
}

crate::document! {
    struct IncludedWire {
        /// The ids of the rules that a holdout applies to.
        included_rules as "includedRules": Vec<String> => List(TEXT),
    }
}

impl Draft {
    /// Compiles the next element of the datafile at `node`, and gives its approximate size; none if nothing is left.
    pub(super) fn step(&mut self, node: Node<'_>, problems: &mut Problems) -> Option<usize> {
        let (next, bytes) = match self.stage {
            Stage::Head => match self.read_head(node, problems) {
                Some(()) => (Stage::List(0, 0), HEAD_BYTES),
                None => (Stage::Refused, 0),
            },
            Stage::List(number, index) => match LISTS.get(number) {
                Some(&(name, is_required, read)) => {
                    let path = node.path.field(name);
                    let mut unreported = Problems::new();
                    let (problems, speed) = match number < INDEXED_LISTS {
                        true => (&mut unreported, INDEX_BYTES),
                        false => (problems, 1),
                    };
                    match elements(node, name, is_required && index == 0, problems).get(index) {
                        Some(value) => {
                            read(self, Node { value, path: &path.index(index) }, index, problems);
                            (Stage::List(number, index + 1), size(value) / speed)
                        }
                        None => (Stage::List(number + 1, 0), 0),
                    }
                }
                None => (Stage::Flag(0), 0),
            },
            Stage::Flag(number) => match self.add_flag(number, node.path, problems) {
                Some(bytes) => (Stage::Flag(number + 1), bytes),
                None => (Stage::Experiment(0), 0),
            },
            Stage::Experiment(number) => match self.experiment_without_flag(number, node, problems) {
                Some(bytes) => (Stage::Experiment(number + 1), bytes),
                None => (Stage::Done, 0),
            },
            Stage::Refused | Stage::Done => return None,
        };
        self.stage = next;
        Some(bytes)
    }

    /// The compiled datafile, unless it is refused as a whole, and the entries that only compiling it needed.
    pub(super) fn finish(self) -> (Option<Datafile>, Leftovers) {
        let ids = [self.audience_ids, self.experiment_ids, self.rollout_ids, self.flag_keys, self.unused_keys];
        let ids = ids.into_iter().flatten().map(drop).chain(self.rule_ids.into_iter().chain(self.used_ids).map(drop));
        let drafts = self.flag_drafts.into_iter().map(drop).chain(self.rollouts.into_iter().map(drop));
        let experiments = self.experiments.into_iter().map(drop);
        let datafile = Datafile {
            project: self.project,
            flags: self.flags,
            disabled: self.disabled,
            experiments: self.experiment_rules,
            rules: self.rules,
            groups: self.groups,
            audiences: self.audiences,
            bucketing_id: AttributeName::Named(BUCKETING_ID.to_owned()),
        };
        let leftovers = Leftovers::new(ids.chain(drafts).chain(experiments).chain(self.types.into_entries()));
        (Some(datafile).filter(|_| matches!(self.stage, Stage::Done)), leftovers)
    }

    fn read_head(&mut self, node: Node<'_>, problems: &mut Problems) -> Option<()> {
        node.object(problems)?;
        required(node, "version", problems, |node, problems| {
            let is_known = node.value.as_str() == Some(VERSION);
            if !is_known {
                node.expected(problems, &format!("version \"{VERSION}\""));
            }
            is_known.then_some(())
        })?;
        let mut text = |name| {
            required(node, name, problems, |node, problems| node.string(problems).map(str::to_owned))
                .unwrap_or_default()
        };
        let [account_id, project_id, revision] = ["accountId", "projectId", "revision"].map(&mut text);
        let mut flag = |name| {
            let value = node.value.get(name).filter(|value| !value.is_null())?;
            Node { value, path: &node.path.field(name) }.boolean(problems)
        };
        self.project = Project {
            account_id,
            project_id,
            revision,
            anonymize_ip: flag("anonymizeIP").unwrap_or(false),
            bot_filtering: flag("botFiltering"),
            is_eu: node.value.get("region").and_then(Value::as_str) == Some("EU"),
            send_flag_decisions: flag("sendFlagDecisions").unwrap_or(false),
            ..Project::default()
        };
        Some(())
    }

    fn index_variable(&mut self, node: Node<'_>, _index: usize, _problems: &mut Problems) {
        self.types.add(node.value);
    }

    fn read_attribute(&mut self, node: Node<'_>, _index: usize, problems: &mut Problems) {
        if let Some(NamedWire { id, key }) = read(node, problems) {
            let name = attribute_name(&key);
            self.project.attributes.push(ReportedAttribute { id, name, key });
        }
    }

    fn read_event(&mut self, node: Node<'_>, _index: usize, problems: &mut Problems) {
        if let Some(NamedWire { id, key }) = read(node, problems) {
            self.project.conversions.insert(key, id.into());
        }
    }

    fn read_audience(&mut self, node: Node<'_>, _index: usize, problems: &mut Problems) {
        let Some(IdWire { id }) = read(node, problems) else { return };
        let no_ids = HashMap::new();
        let tree = required(node, "conditions", problems, |node, problems| {
            Some(Compiler { ids: &no_ids, problems }.conditions(&node))
        });
        self.audience_ids.insert(id, self.audiences.len());
        self.audiences.push(tree.unwrap_or(Tree::Always(None)));
    }

    fn read_experiment(&mut self, node: Node<'_>, index: usize, problems: &mut Problems) {
        self.add_experiment(node, index, None, Ok(None), problems);
    }

    fn read_group(&mut self, node: Node<'_>, index: usize, problems: &mut Problems) {
        if node.object(problems).is_none() {
            return;
        }
        let group = self.group(node, problems);
        let path = node.path.field("experiments");
        for (at, value) in elements(node, "experiments", true, problems).iter().enumerate() {
            self.add_experiment(Node { value, path: &path.index(at) }, at, Some(index), group.clone(), problems);
        }
    }

    /// The position of a group whose experiments exclude each other; none if they do not. The problem of a wrong group
    /// disables its experiments.
    fn group(&mut self, node: Node<'_>, problems: &mut Problems) -> Result<Option<usize>, String> {
        let mut own = Problems::new();
        let Some(wire) = read::<GroupWire>(node, &mut own) else {
            let problem = own.first_error();
            problems.append(own);
            return Err(problem);
        };
        let experiments = node.value.get("experiments").and_then(Value::as_array).into_iter().flatten();
        let members: HashSet<&str> = experiments.filter_map(|experiment| experiment.get("id")?.as_str()).collect();
        let path = node.path.field("trafficAllocation");
        for (index, range) in wire.traffic_allocation.iter().enumerate() {
            if !range.entity_id.is_empty() && !members.contains(range.entity_id.as_str()) {
                let message = format!("there is no experiment {:?} in the group", range.entity_id);
                problems.error(&path.index(index).field("entityId"), message);
            }
        }
        match wire.policy.as_str() {
            "random" => {
                let range = |range: RangeWire| Range { end: range.end_of_range, to: range.entity_id };
                let allocation = wire.traffic_allocation.into_iter().map(range).collect();
                self.groups.push(Group { id: wire.id, allocation });
                return Ok(Some(self.groups.len() - 1));
            }
            "overlapping" => {}
            _ => {
                let message = "expected random or overlapping; its experiments overlap";
                problems.error(&node.path.field("policy"), message);
            }
        }
        Ok(None)
    }

    fn add_experiment(
        &mut self,
        node: Node<'_>,
        index: usize,
        group_index: Option<usize>,
        group: Result<Option<usize>, String>,
        problems: &mut Problems,
    ) {
        let mut own = Problems::new();
        let compiled = self.rule(node, Kind::Experiment, group.clone().ok().flatten(), &mut own);
        let (rule, is_feature_rollout) = match compiled {
            Some(rule) => {
                let wire = read::<TypeWire>(node, &mut own);
                let rule = group.map(|_| self.add_rule(rule));
                (rule, wire.and_then(|wire| wire.kind).as_deref() == Some("fr"))
            }
            None => (Err(own.first_error()), false),
        };
        let text = |name: &str| node.value.get(name).and_then(Value::as_str).map(str::to_owned);
        let (id, key) = (text("id"), text("key"));
        if let (Some(key), Ok(rule)) = (&key, &rule) {
            self.experiment_rules.insert(key.clone(), *rule);
        }
        if let Some(id) = &id
            && self.experiment_ids.insert(id.clone(), self.experiments.len()).is_some()
        {
            let message = format!("duplicate id {id:?}: flags mean this experiment, as to the SDKs");
            own.error(&node.path.field("id"), message);
        }
        if id.as_ref().is_none_or(|id| !self.used_ids.contains(id)) {
            if let Some(key) = &key {
                self.unused_keys.insert(key.clone(), self.unused.len());
            }
            self.unused.push(self.experiments.len());
        }
        self.experiments.push(Experiment { key, rule, is_feature_rollout, group: group_index, index });
        problems.append(own);
    }

    fn rule(&self, node: Node<'_>, kind: Kind, group: Option<usize>, problems: &mut Problems) -> Option<Rule> {
        Rules { audience_ids: &self.audience_ids, types: &self.types }.rule(node, kind, group, problems)
    }

    fn add_rule(&mut self, rule: Rule) -> usize {
        self.rule_ids.insert(rule.id.clone());
        self.rules.push(rule);
        self.rules.len() - 1
    }

    fn read_rollout(&mut self, node: Node<'_>, _index: usize, problems: &mut Problems) {
        let Some(IdWire { id }) = read(node, problems) else { return };
        let mut own = Problems::new();
        let rules = required(node, "experiments", &mut own, |node, problems| {
            let list = node.array(problems)?;
            node.read_all(list, |element| {
                let rule = self.rule(element, Kind::Delivery, None, problems)?;
                Some(self.add_rule(rule))
            })
        });
        self.rollout_ids.insert(id, self.rollouts.len());
        self.rollouts.push(rules.ok_or_else(|| own.first_error()));
        problems.append(own);
    }

    fn read_holdout(&mut self, node: Node<'_>, _index: usize, problems: &mut Problems) {
        if let Some(rule) = self.rule(node, Kind::Holdout, None, problems) {
            let position = self.add_rule(rule);
            self.holdouts.push(position);
        }
    }

    fn read_local_holdout(&mut self, node: Node<'_>, _index: usize, problems: &mut Problems) {
        let Some(rule) = self.rule(node, Kind::Holdout, None, problems) else { return };
        let Some(wire) = read::<IncludedWire>(node, problems) else { return };
        let position = self.add_rule(rule);
        let list = node.path.field("includedRules");
        for (index, id) in wire.included_rules.into_iter().enumerate() {
            if !self.rule_ids.contains(&id) {
                problems
                    .error(&list.index(index), format_args!("there is no rule {id:?}: no visitor is held out of it"));
            }
            self.rule_holdouts.entry(id).or_default().push(position);
        }
    }
}
