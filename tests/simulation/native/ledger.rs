//! The simulator's own record of the events of native processes. A process shows its calls and metrics only, so the ledger
//! calculates which events it has to emit, and follows their ids to the services and to the disk.

use crate::ledger::{DELIVERED, EMITTED, EXPIRED, Meaning, NAMES, OVERFLOW, REJECTED, event_ids, id, meaning};
use crate::network::{Answer, check_body};
use crate::scenario::Scenario;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Calls with events that a process may have on their way together.
const CALLS_IN_FLIGHT_MAX: usize = 8;

/// A process that runs.
#[derive(Debug, Default)]
pub struct Account {
    /// The counters and gauges, by their names behind `edgesplit.sim.`.
    pub metrics: BTreeMap<String, u64>,
    /// By configs: events that requests had to emit, and those that count as emitted.
    emitted: BTreeMap<u64, [u64; 2]>,
    exposures: BTreeSet<u128>,
    /// The goals that visitors have reached.
    goals: Vec<String>,
    /// Calls on their way, by their tokens: configs and keys.
    open: BTreeMap<u32, (u64, u128)>,
    /// The keys whose outcome the process knows.
    settled: HashSet<u128>,
    /// Events in calls with these outcomes.
    delivered: u64,
    rejected: u64,
    /// Events whose file is synced, counted for each file.
    durable: u64,
}

/// A body that was sent.
#[derive(Debug)]
struct Sent {
    ids: Vec<u128>,
    process: u64,
    body: Vec<u8>,
}

/// All processes of a run, and the services.
#[derive(Debug, Default)]
pub struct NativeLedger {
    /// Whether the clock is never set. Otherwise leases end early, and windows begin again.
    has_steady_clock: bool,
    /// The processes that run.
    pub accounts: BTreeMap<u64, Account>,
    /// The process of each config.
    pub processes: BTreeMap<u64, u64>,
    /// How often each exposure was emitted: once by a process, but processes do not know of each other.
    exposures: HashMap<u128, usize>,
    /// The visitors of goals, by their events. Ids of goals are random.
    goals: HashMap<u128, String>,
    /// Goals that were reached and have no event yet.
    reached: HashMap<String, usize>,
    sent: HashMap<u128, Sent>,
    accepted: HashSet<u128>,
    /// The keys with which each event arrived.
    arrived: HashMap<u128, BTreeSet<u128>>,
    /// Events that a service got as a part of a batch that was too large.
    split: HashSet<u128>,
    /// Events that were refused for good, or went to the fallback.
    gone: HashSet<u128>,
    /// Events that were on disk, and those of processes that ended in an orderly way: all must arrive or count as dropped.
    kept: HashSet<u128>,
    kept_goals: Vec<String>,
    /// Batches whose files are removed for good.
    removed: HashSet<u128>,
    /// The metrics of processes that ended.
    pub past: BTreeMap<String, u64>,
}

impl Account {
    /// A metric by its name behind `edgesplit.sim.`.
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics.get(name).copied().unwrap_or(0)
    }

    /// Events that came into the process and have no outcome.
    fn left(&self) -> i64 {
        let [emitted, settled @ ..] = NAMES.map(|name| self.metric(name) as i64);
        emitted + self.metric("spool.recovered_events") as i64 - settled.iter().sum::<i64>()
    }
}

impl NativeLedger {
    /// The ledger of a run with this scenario.
    pub fn new(scenario: &Scenario) -> NativeLedger {
        NativeLedger { has_steady_clock: scenario.jump_ms == 0, ..NativeLedger::default() }
    }

    /// The process of a config.
    pub fn account(&mut self, config: u64) -> Result<&mut Account, String> {
        let process = self.processes.get(&config).ok_or("a config that is not there")?;
        self.accounts.get_mut(process).ok_or_else(|| "a process that is not there".to_owned())
    }

    /// A response was handled: the exposures that are new to its config, and perhaps a goal.
    pub fn emitted(&mut self, config: u64, exposures: &[u128], goal: Option<&str>) -> Result<(), String> {
        let account = self.account(config)?;
        account.emitted.entry(config).or_default()[0] += (exposures.len() + usize::from(goal.is_some())) as u64;
        account.exposures.extend(exposures);
        account.goals.extend(goal.map(str::to_owned));
        for id in exposures {
            *self.exposures.entry(*id).or_default() += 1;
        }
        if let Some(visitor) = goal {
            *self.reached.entry(visitor.to_owned()).or_default() += 1;
        }
        Ok(())
    }

    /// A counter grew.
    pub fn counted(&mut self, config: u64, name: &str, by: u64) -> Result<(), String> {
        let account = self.account(config)?;
        *account.metrics.entry(name.to_owned()).or_default() += by;
        if name == NAMES[EMITTED] {
            account.emitted.entry(config).or_default()[1] += by;
        }
        for (name, limit) in [
            (NAMES[DELIVERED], account.delivered),
            (NAMES[REJECTED], account.rejected),
            ("spool.durable_events", account.durable),
            ("errors.panic", 0),
        ] {
            if account.metric(name) > limit {
                return Err(format!("{name} is {}, and {limit} is possible", account.metric(name)));
            }
        }
        Ok(())
    }

    /// A gauge was set.
    pub fn measured(&mut self, config: u64, name: &str, value: u64) -> Result<(), String> {
        self.account(config)?.metrics.insert(name.to_owned(), value);
        Ok(())
    }

    /// A config ticked: its counts are handed over.
    pub fn ticked(&mut self, config: u64) -> Result<(), String> {
        let has_steady_clock = self.has_steady_clock;
        let account = self.account(config)?;
        if let Some([expected, counted]) = account.emitted.get(&config)
            && (counted > expected || (counted < expected && has_steady_clock))
        {
            return Err(format!("config {config} counts {counted} events as emitted, and should {expected}"));
        }
        Ok(())
    }

    /// A process sends events. `token` is `None` if the call does not start.
    pub fn dispatched(&mut self, config: u64, token: Option<u32>, key: u128, body: &[u8]) -> Result<(), String> {
        let ids = event_ids(body);
        self.know(&ids, body)?;
        if self.removed.contains(&key) {
            return Err(format!("batch {key:x} was sent after its file was removed"));
        }
        let process = *self.processes.get(&config).ok_or("a config that is not there")?;
        let sent = self.sent.entry(key).or_insert_with(|| Sent { ids: ids.clone(), process, body: body.to_vec() });
        // Events that joined a batch last may not have reached the disk before their process ended.
        if !sent.ids.starts_with(&ids) || (sent.process == process && sent.body != body) {
            return Err(format!("{key:x} was sent with other events than before"));
        }
        let has_steady_clock = self.has_steady_clock;
        let account = self.account(config)?;
        if account.settled.contains(&key) {
            return Err(format!("{key:x} was sent again, which is settled"));
        }
        account.open.extend(token.map(|token| (token, (config, key))));
        if account.open.len() > CALLS_IN_FLIGHT_MAX && has_steady_clock {
            return Err(format!("{} calls are on their way", account.open.len()));
        }
        Ok(())
    }

    /// A process sends events to the fallback, which count as diverted if the call starts.
    pub fn diverted(&mut self, started: bool, body: &[u8]) -> Result<(), String> {
        let ids = event_ids(body);
        self.know(&ids, body)?;
        self.gone.extend(ids.iter().filter(|_| started));
        Ok(())
    }

    /// The service took a body.
    pub fn accepted(&mut self, ndjson: bool, key: u128, body: &[u8]) -> Result<(), String> {
        check_body(ndjson, key, body)?;
        self.accepted.insert(key);
        for id in event_ids(body) {
            let keys = self.arrived.entry(id).or_default();
            keys.insert(key);
            let times = self.exposures.get(&id).copied().unwrap_or(1);
            if keys.len() > times && !self.split.contains(&id) {
                return Err(format!("the event {id:x} was emitted {times} times, and arrived with {keys:x?}"));
            }
        }
        Ok(())
    }

    /// A process hears of its call.
    pub fn replied(&mut self, config: u64, token: u32, answer: &Answer) -> Result<(), String> {
        let Some((_, key)) = self.account(config)?.open.remove(&token) else { return Ok(()) };
        let Some(ids) = self.sent.get(&key).map(|sent| sent.ids.clone()) else { return Ok(()) };
        let meaning = meaning(answer.status(), ids.len());
        let is_accepted = self.accepted.contains(&key);
        let account = self.account(config)?;
        let events = ids.len() as u64;
        match meaning {
            Meaning::Delivered if is_accepted && account.settled.insert(key) => account.delivered += events,
            Meaning::Rejected if account.settled.insert(key) => {
                account.rejected += events;
                self.gone.extend(ids);
            }
            Meaning::Split => self.split.extend(ids),
            _ => {}
        }
        Ok(())
    }

    /// Events are on disk: all of a file, of which `new` were not before.
    pub fn synced(&mut self, process: u64, body: &[u8], new: u64) -> Result<(), String> {
        let ids = event_ids(body);
        self.know(&ids, body)?;
        self.kept.extend(ids);
        if let Some(account) = self.accounts.get_mut(&process) {
            account.durable += new;
        }
        Ok(())
    }

    /// The file of a batch is gone for good.
    pub fn removed(&mut self, batch: u128) {
        self.removed.insert(batch);
    }

    /// Learns the events in a body, which must have been emitted.
    fn know(&mut self, ids: &[u128], body: &[u8]) -> Result<(), String> {
        if ids.iter().all(|id| self.exposures.contains_key(id) || self.goals.contains_key(id)) {
            return Ok(());
        }
        for event in events(body) {
            let number = id(event["id"].as_str().unwrap_or_default().as_bytes());
            if self.exposures.contains_key(&number) || self.goals.contains_key(&number) {
                continue;
            }
            let visitor = event["unit"].as_str().unwrap_or_default();
            match self.reached.get_mut(visitor) {
                Some(reached @ 1..) if event["type"] == "goal" => *reached -= 1,
                _ => return Err(format!("no request emitted {event}")),
            }
            self.goals.insert(number, visitor.to_owned());
        }
        Ok(())
    }

    /// A config is gone: nothing hears of its calls.
    pub fn config_ended(&mut self, config: u64) {
        if let Ok(account) = self.account(config) {
            account.open.retain(|_, (of, _)| *of != config);
        }
        self.processes.remove(&config);
    }

    /// A process is gone. `in_order`: it had the time to write everything to disk.
    pub fn ended(&mut self, process: u64, in_order: bool) {
        let Some(account) = self.accounts.remove(&process) else { return };
        for (name, value) in account.metrics {
            *self.past.entry(name).or_default() += value;
        }
        if in_order {
            self.kept.extend(account.exposures);
            self.kept_goals.extend(account.goals);
        }
    }

    /// At rest every event is accounted for, and nothing is left over.
    pub fn at_rest(&self, had_disk_errors: bool) -> Result<(), String> {
        let mut kept = self.kept.clone();
        let mut goals: HashMap<&str, i64> = HashMap::new();
        let mut dropped = 0;
        let live = self.accounts.values();
        for account in live.clone() {
            if account.left() != 0 || account.metric("outbox.queued_events") != 0 || !account.open.is_empty() {
                return Err(format!("{} events are left over: {:?}", account.left(), account.metrics));
            }
            // A file can be durable although a later step of its write failed.
            if !had_disk_errors && account.metric("spool.durable_events") != account.durable {
                let counted = account.metric("spool.durable_events");
                return Err(format!("{counted} events count as durable, and {} are", account.durable));
            }
            kept.extend(&account.exposures);
        }
        for visitor in self.kept_goals.iter().chain(live.clone().flat_map(|account| &account.goals)) {
            *goals.entry(visitor).or_default() += 1;
        }
        for name in [OVERFLOW, EXPIRED].map(|at| NAMES[at]) {
            let past = self.past.get(name).copied().unwrap_or(0);
            dropped += past + live.clone().map(|account| account.metric(name)).sum::<u64>();
        }
        let is_over = |id: &u128| self.arrived.contains_key(id) || self.gone.contains(id);
        for (id, visitor) in &self.goals {
            *goals.entry(visitor).or_default() -= i64::from(is_over(id));
        }
        let lost: Vec<&u128> = kept.iter().filter(|id| !is_over(id) && !self.goals.contains_key(id)).collect();
        let lost_goals: i64 = goals.values().map(|left| *left.max(&0)).sum();
        if lost.len() as u64 + lost_goals as u64 > dropped {
            return Err(format!(
                "{} exposures and {lost_goals} goals are lost, {dropped} dropped: {lost:x?}",
                lost.len()
            ));
        }
        Ok(())
    }
}

/// The events of a body, in either format.
fn events(body: &[u8]) -> Vec<Value> {
    let lines = || body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(mut batch)) => match batch.remove("events") {
            Some(Value::Array(events)) => events,
            _ => lines(),
        },
        _ => lines(),
    }
}
