//! The seam between experiment formats and the rest of the product. A format is a folder that implements [`Format`], and
//! one line in the table of [`registry`](crate::registry).

#[cfg(not(target_arch = "wasm32"))]
use crate::attribute_use::AttributeUse;
pub use crate::compilation::{Compilation, Compiled};
#[cfg(not(target_arch = "wasm32"))]
use crate::diagnostics::Node;
use crate::effect_policy::EffectPolicy;
use crate::events::EventWire;
use crate::stepwise::{Steps, Stepwise};
use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::Goal;
use serde_json::Value;
use std::fmt;

/// A format of experiment configs, with everything that only this format does.
pub trait Format: Sync {
    /// The name in configurations.
    fn name(&self) -> &'static str;

    /// Whether `document` has the shape of a config in this format.
    fn recognises(&self, document: &Value) -> bool;

    /// Begins to compile the config in `text`.
    fn begin(&self, text: Vec<u8>, options: &Options) -> Box<dyn Compilation> {
        Stepwise::begin(text, self.steps(options))
    }

    /// The steps of compiling a config.
    fn steps(&self, options: &Options) -> Box<dyn Steps>;

    /// Whether configs contain routes and goals. If not, the plugin configuration has them.
    fn has_routes(&self) -> bool {
        false
    }

    /// Whether configs can be encrypted.
    fn has_encryption(&self) -> bool {
        false
    }

    /// Whether the vendor's SDKs have several generations of bucketing.
    fn has_generations(&self) -> bool {
        false
    }

    /// The start of the names of the vendor's own cookies for sticky bucketing, if it has any.
    fn sticky_cookie_prefix(&self) -> Option<&'static str> {
        None
    }

    /// Passes the attributes that the config at `config` reads to `each`.
    #[cfg(not(target_arch = "wasm32"))]
    fn attribute_uses(&self, _config: Node<'_>, _each: &mut dyn FnMut(&AttributeUse<'_>)) {}

    /// The config that an answer with this status stands for, if the vendor's SDKs see one in it.
    fn config_of_status(&self, _status: u16) -> Option<&'static str> {
        None
    }

    /// The format of the vendor's events, if it takes any.
    fn event_wire(&self) -> Option<&dyn EventWire> {
        None
    }
}

/// A registered format.
pub type FormatRef = &'static dyn Format;

impl fmt::Debug for dyn Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Formats are equal if their names are.
impl PartialEq for dyn Format {
    fn eq(&self, other: &dyn Format) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Format {}

/// The longest assignments header, by default: common servers refuse lines over 8 kB.
pub const ASSIGNMENTS_BYTES_MAX: usize = 4096;

/// The generation of a vendor's bucketing, by default.
pub const GENERATION: u32 = 2;

/// The settings that compiling a config depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The config's format.
    pub format: FormatRef,
    /// How many different cache keys a route may have.
    pub budget: u64,
    /// Whether a vendor's flag that exceeds the budget is disabled. If not, the problem is only reported, because the flag is
    /// on in the vendor's SDKs.
    pub is_budget_kept: bool,
    /// The longest assignments header that a route may have, in bytes.
    pub assignments_bytes_max: usize,
    /// Whether a vendor's flag that exceeds it is disabled. If not, the problem is only reported, and a header that would
    /// be too long lacks the last flags.
    pub is_assignments_limit_kept: bool,
    /// The host that events are sent to, if a plugin configuration names one.
    pub events_host: Option<String>,
    /// The path that events are sent to, with its query.
    pub events_path: Option<String>,
    /// The effects that experiments may have.
    pub effects: EffectPolicy,
    /// The key of a vendor's encrypted payload.
    pub decryption_key: Option<DecryptionKey>,
    /// The generation of the vendor's bucketing.
    pub generation: u32,
    /// The routes of a vendor's flags.
    pub routes: Vec<FlagRoute>,
    /// The goals beside a vendor's flags.
    pub goals: Vec<Goal>,
}

impl Options {
    /// The settings of a config without a plugin configuration.
    pub fn new(format: FormatRef, budget: u64) -> Options {
        let (routes, goals) = (Vec::new(), Vec::new());
        Options {
            format,
            budget,
            is_budget_kept: false,
            assignments_bytes_max: ASSIGNMENTS_BYTES_MAX,
            is_assignments_limit_kept: false,
            events_host: None,
            events_path: None,
            effects: EffectPolicy::default(),
            decryption_key: None,
            generation: GENERATION,
            routes,
            goals,
        }
    }
}

/// A decryption key, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DecryptionKey(String);

impl DecryptionKey {
    /// The key with this text.
    pub fn new(text: &str) -> DecryptionKey {
        DecryptionKey(text.to_owned())
    }

    /// Its text.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecryptionKey")
    }
}

/// Restricts flags to a route and names their baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagRoute {
    /// Patterns of flags' keys; empty for all flags.
    pub keys: Vec<Pattern>,
    /// The requests that the flags apply to.
    pub route: Route,
    /// The key of the variant that visitors see if they are in no experiment.
    pub baseline: Option<String>,
}
