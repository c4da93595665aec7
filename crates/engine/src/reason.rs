//! Why a decision came out as it did. The same names stand in the command's output and in the metrics.

/// Declares the reasons once: the enum, its names and the list of all.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a visitor is in an experiment or not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The name in results and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// The plugin configuration keeps the filter off this path.
    PathExcluded = "path_excluded",
    /// The experiment is invalid and switched off alone.
    Disabled = "disabled",
    /// The experiment is paused.
    Paused = "paused",
    /// The experiment is about other requests.
    Route = "route",
    /// A preview link asks for this variant.
    Preview = "preview",
    /// The experiment is concluded: everyone gets the winner.
    Winner = "winner",
    /// It is before `starts`.
    NotStarted = "not_started",
    /// It is `ends` or later.
    Ended = "ended",
    /// The user agent is a bot's.
    Bot = "bot",
    /// The visitor has not consented, or has objected.
    NoConsent = "no_consent",
    /// The attribute that is bucketed has no value.
    NoUnit = "no_unit",
    /// The config forces this unit's variant.
    Forced = "forced",
    /// The visitor is not in the audience.
    Audience = "audience",
    /// The visitor is held out of all experiments.
    Holdout = "holdout",
    /// The visitor's slot of the layer belongs to another experiment.
    Layer = "layer",
    /// The visitor's browser has had this variant before.
    Sticky = "sticky",
    /// The visitor is not in the share that takes part.
    Traffic = "traffic",
    /// The variant is the one of the visitor's bucket.
    Bucketed = "bucketed",
    /// The visitor's variant answers with too many errors and is switched off on this proxy.
    Guardrail = "guardrail",
    /// Optimizely: bucketed into a variation of one of the flag's experiments.
    FeatureTest = "feature_test",
    /// A vendor's: the visitor is in an experiment.
    Experiment = "experiment",
    /// Optimizely: bucketed into one of the rules of the flag's rollout.
    Rollout = "rollout",
    /// Optimizely: a contextual bandit would have to be asked, and no request waits for that.
    Cmab = "cmab",
    /// Optimizely: there is no rule to decide by.
    NoRule = "no_rule",
    /// Optimizely: the last rule's experiment does not run.
    NotRunning = "not_running",
    /// Optimizely: another experiment of the group has the visitor, or none of them.
    Group = "group",
    /// GrowthBook: no rule was for the visitor.
    DefaultValue = "default_value",
    /// GrowthBook: a rule gave everyone it is for the same value.
    Force = "force",
    /// GrowthBook: a prerequisite was not met that keeps the whole feature back.
    Prerequisite = "prerequisite",
    /// GrowthBook: features are prerequisites of each other in a circle.
    CyclicPrerequisite = "cyclic_prerequisite",
    /// GrowthBook: the payload has no such feature.
    UnknownFeature = "unknown_feature",
    /// GrowthBook: the outcome was set from outside.
    Override = "override",
}

impl Reason {
    /// Whether only a vendor's rules give it.
    pub const fn is_vendors(self) -> bool {
        self as usize >= Reason::FeatureTest as usize
    }
}
