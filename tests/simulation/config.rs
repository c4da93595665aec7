//! Checks the experiments that VMs share: who may fetch, and what is in force where.

use crate::host::Process;
use crate::ledger::Ledger;
use crate::scenario::Scenario;
use edgesplit_filter::config_sync::state::State;

/// VMs that may fetch before anything is there.
const START_FETCHES_MAX: u8 = 2;

/// How far two readings of the clock may be apart.
const CLOCK_SKEW_MS_MAX: i64 = 5_000;

/// How long it takes at most until all VMs that run have what one of them published.
pub const SPREAD_US_MAX: u64 = 2_000_000;

/// The revision of the experiments in shared data.
fn stored_revision(process: &Process, state_key: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(process.get(&format!("{state_key}/text"))).ok()?;
    document["revision"].as_str().map(str::to_owned)
}

impl Ledger {
    /// The state under a key was written: from, to.
    pub fn state_changed(
        &mut self,
        scenario: &Scenario,
        process: &Process,
        vm: u64,
        (key, old, new): (&str, &State, &State),
        now_us: u64,
    ) -> Result<(), String> {
        self.config = *new;
        let account = self.vms.get_mut(&vm).ok_or("a VM that is not there")?;
        let now_ms = account.now_ms;
        let lease = |state: &State| (state.holder, state.leased_ms, state.lease_until_ms);
        let leases = new.holder == account.code && new.lease_until_ms > now_ms && lease(new) != lease(old);
        // The VM that fetches renews its lease while it compiles.
        let renews = old.holder == account.code && now_ms < old.lease_until_ms;
        if leases && !renews {
            let is_leased = now_ms < old.lease_until_ms && old.leased_ms - now_ms <= CLOCK_SKEW_MS_MAX;
            let at_start = account.job == "configure" && old.version == 0 && old.start_fetches < START_FETCHES_MAX;
            if is_leased && !at_start {
                return Err(format!("vm {vm} fetches the experiments while another one does"));
            }
            // A wait longer than any is one from before the clock was set back.
            let wait_ms = old.next_fetch_ms - now_ms;
            let waits = (1..=scenario.refresh_ms as i64 + CLOCK_SKEW_MS_MAX).contains(&wait_ms);
            if waits && old.confirmed_ms <= now_ms && old.leased_ms <= now_ms && !at_start {
                return Err(format!("vm {vm} fetches the experiments {wait_ms} ms early"));
            }
            account.may_fetch = true;
        }
        if new.version != old.version {
            // A text that does not belong to its config is withdrawn, until the next fetch.
            let is_withdrawn = new.version == 0;
            self.published = (!is_withdrawn).then(|| (now_us, stored_revision(process, key)));
        }
        Ok(())
    }

    /// A VM fetches.
    pub fn fetched(&mut self, vm: u64) -> Result<(), String> {
        let account = self.vms.get_mut(&vm).ok_or("a VM that is not there")?;
        if !std::mem::take(&mut account.may_fetch) {
            return Err(format!("vm {vm} fetches the experiments without the lease"));
        }
        Ok(())
    }

    /// A VM ticked with these experiments in force.
    pub fn in_force(&self, vm: u64, revision: Option<&str>) -> Result<(), String> {
        let (Some(account), Some((at_us, published))) = (self.vms.get(&vm), &self.published) else { return Ok(()) };
        if account.began_us < at_us + SPREAD_US_MAX || revision == published.as_deref() {
            return Ok(());
        }
        Err(format!("vm {vm} has the experiments {revision:?} in force, and {published:?} were published"))
    }
}
