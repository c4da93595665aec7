//! Planted bugs, to see that the checks find them. Each changes the host's replies to the filter or the calls that reach the host
//! from it, so that the filter behaves as if it had the bug; the shipped code has no switch for them.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A failed compare-and-swap overwrites.
    IgnoresStale,
    /// A failed compare-and-swap counts as done.
    StaleIsDone,
    /// Every answer counts as acknowledged.
    AlwaysAcknowledged,
    /// A batch is freed when it is sent, not when it is acknowledged.
    FreesBeforeReply,
    /// Leases of other VMs are not looked at.
    ForgetsLeases,
    /// Batches get ids that were used before.
    ReusesIds,
    /// The service is tried again at once.
    NoBackoff,
    /// `retry-after` is not read.
    IgnoresRetryAfter,
    /// Memory of freed slots is never given back.
    LeaksSlots,
    /// Some slots are declared written and are not.
    SkipsSlots,
    /// Every VM fetches the experiments at every tick.
    EveryoneFetches,
    /// Fetched experiments are not made known to the others.
    NotPublished,
    /// The outbox takes more than it may.
    NoBounds,
    /// What was delivered is counted twice.
    CountsTwice,
    /// Some counts are not handed over.
    LosesCounts,
    /// Batches stay in the outbox however old they are.
    NeverTooOld,
    /// A batch that is too large is given up, not split.
    GivesUpLarge,
    /// Exposures are reported again and again.
    ForgetsVisitors,
    /// What the service refuses for good is sent again and again.
    RetriesRefused,
    /// A failed call never ends the lease.
    DropsReplies,
    /// Files count as synced, and are not.
    SyncsNothing,
    /// Files of batches that left the outbox are not removed.
    KeepsFiles,
}

impl Mutant {
    /// Those of native processes.
    pub const NATIVE: [Mutant; 10] = [
        Mutant::AlwaysAcknowledged,
        Mutant::FreesBeforeReply,
        Mutant::ReusesIds,
        Mutant::CountsTwice,
        Mutant::LosesCounts,
        Mutant::GivesUpLarge,
        Mutant::ForgetsVisitors,
        Mutant::RetriesRefused,
        Mutant::SyncsNothing,
        Mutant::KeepsFiles,
    ];

    /// Those of VMs.
    pub const VMS: [Mutant; 20] = [
        Mutant::IgnoresStale,
        Mutant::StaleIsDone,
        Mutant::AlwaysAcknowledged,
        Mutant::FreesBeforeReply,
        Mutant::ForgetsLeases,
        Mutant::ReusesIds,
        Mutant::NoBackoff,
        Mutant::IgnoresRetryAfter,
        Mutant::LeaksSlots,
        Mutant::SkipsSlots,
        Mutant::EveryoneFetches,
        Mutant::NotPublished,
        Mutant::NoBounds,
        Mutant::CountsTwice,
        Mutant::LosesCounts,
        Mutant::NeverTooOld,
        Mutant::GivesUpLarge,
        Mutant::ForgetsVisitors,
        Mutant::RetriesRefused,
        Mutant::DropsReplies,
    ];
}
