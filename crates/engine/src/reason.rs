//! The reasons of decisions. Results, metrics and the debug header use the same names.

/// Declares the reasons once: the enum, its names, and the list of all.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a visitor is in an experiment or not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
            /// A reason that only one vendor's format has, by its name in results and metrics.
            Vendor(&'static str),
        }

        /// Numbers the reasons.
        enum Position {
            $($variant,)*
            Vendor,
        }

        impl Reason {
            /// Every reason that is not a vendor's alone.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The name in results and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)*
                    Reason::Vendor(name) => name,
                }
            }

            /// The position in [`Reason::ALL`]; for a vendor's reason, the number of reasons there.
            pub const fn position(self) -> usize {
                let position = match self {
                    $(Reason::$variant => Position::$variant,)*
                    Reason::Vendor(_) => Position::Vendor,
                };
                position as usize
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
    /// Checking the audience exceeded a limit: its patterns took too many steps, or a text is too long for them.
    Limit = "limit",
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
}
