//! The reasons of decisions. Reasons that the native format also has carry the same names.

use edgesplit_engine::reason;

/// The reason of the decision about a flag, or about an experiment that no flag uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Bucketed into a variation of one of the flag's experiments.
    FeatureTest,
    /// Bucketed into a variation of an experiment that no flag uses.
    Experiment,
    /// Bucketed into one of the rules of the flag's rollout.
    Rollout,
    /// The experiment's whitelist (`forcedVariations`) names the user.
    Forced,
    /// Held out, of everything or of a rule.
    Holdout,
    /// The last rule is a contextual bandit: it chooses by a call to Optimizely for each decision, and no request waits
    /// for that.
    Cmab,
    /// There is no rule to decide by.
    NoRule,
    /// The last rule's experiment does not run.
    NotRunning,
    /// The user is not in the last rule's audience.
    Audience,
    /// Another experiment of the group has the user, or none of them.
    Group,
    /// The user is not in the last rule's traffic.
    Traffic,
    /// It is invalid in the datafile, so it is disabled alone.
    Disabled,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Reason] = &[
        Reason::FeatureTest,
        Reason::Experiment,
        Reason::Rollout,
        Reason::Forced,
        Reason::Holdout,
        Reason::Cmab,
        Reason::NoRule,
        Reason::NotRunning,
        Reason::Audience,
        Reason::Group,
        Reason::Traffic,
        Reason::Disabled,
    ];

    /// The same among the reasons of all formats.
    pub const fn reason(self) -> reason::Reason {
        match self {
            Reason::FeatureTest => reason::Reason::Vendor("feature_test"),
            Reason::Experiment => reason::Reason::Vendor("experiment"),
            Reason::Rollout => reason::Reason::Vendor("rollout"),
            Reason::Forced => reason::Reason::Forced,
            Reason::Holdout => reason::Reason::Holdout,
            Reason::Cmab => reason::Reason::Vendor("cmab"),
            Reason::NoRule => reason::Reason::Vendor("no_rule"),
            Reason::NotRunning => reason::Reason::Vendor("not_running"),
            Reason::Audience => reason::Reason::Audience,
            Reason::Group => reason::Reason::Vendor("group"),
            Reason::Traffic => reason::Reason::Traffic,
            Reason::Disabled => reason::Reason::Disabled,
        }
    }

    /// The name in results and metrics.
    pub const fn name(self) -> &'static str {
        self.reason().name()
    }
}
