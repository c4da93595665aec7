//! The table of formats.

use crate::eppo::Eppo;
use crate::flagd::Flagd;
use crate::format::FormatRef;
use crate::growthbook::GrowthBook;
use crate::native::Native;
use crate::optimizely::Optimizely;
use crate::posthog::PostHog;
use crate::unleash::Unleash;
use serde_json::Value;
use std::sync::OnceLock;

/// Edgesplit's own format, which is the default.
pub const NATIVE: FormatRef = &Native;

/// The built-in formats, Edgesplit's own first. New ones are added at the end, because stored events name the format of
/// their batch by its position here.
const BUILT_IN: &[FormatRef] = &[NATIVE, &Optimizely, &GrowthBook, &Unleash, &Eppo, &Flagd, &PostHog];

static ADDED: OnceLock<&'static [FormatRef]> = OnceLock::new();

/// Adds formats to the built-in ones, for programs with formats of their own. Only the first call has an effect; it must
/// come before any configuration is read.
pub fn add(formats: &'static [FormatRef]) {
    let _ = ADDED.set(formats);
}

/// All formats. The order never changes.
pub fn formats() -> impl Iterator<Item = FormatRef> {
    let added = ADDED.get().copied().unwrap_or_default();
    BUILT_IN.iter().chain(added).copied()
}

/// The format with this name.
pub fn find(name: &str) -> Option<FormatRef> {
    formats().find(|format| format.name() == name)
}

/// The format of the config `document`, if its shape shows it.
pub fn recognise(document: &Value) -> Option<FormatRef> {
    formats().find(|format| format.recognises(document))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_find_their_formats() {
        for format in formats() {
            assert_eq!(find(format.name()), Some(format));
        }
        assert_eq!(find("json"), None);
    }

    #[test]
    fn documents_show_their_format() {
        let example = |name: &str| -> Value {
            let path = format!("{}/../../examples/{name}.json", env!("CARGO_MANIFEST_DIR"));
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        for (document, name) in [
            (example("experiments"), "native"),
            (example("optimizely"), "optimizely"),
            (example("growthbook"), "growthbook"),
            (json!({"experiments": []}), "native"),
            (json!({"version": "4", "experiments": [], "featureFlags": []}), "optimizely"),
            (json!({"features": {}, "experiments": []}), "growthbook"),
            (json!({"encryptedFeatures": "a.b"}), "growthbook"),
            (json!({"version": 2, "features": []}), "unleash"),
            (json!({"createdAt": "2026-11-27T00:00:00Z", "flags": {}}), "eppo"),
            (json!({"flags": {"f": {"allocations": []}}}), "eppo"),
            (json!({"flags": {"f": {"state": "ENABLED", "variants": {}}}}), "flagd"),
            (json!({"flags": []}), "posthog"),
        ] {
            assert_eq!(recognise(&document).map(|format| format.name()), Some(name), "{document}");
        }
        for document in [json!({}), json!([]), json!({"flags": {}})] {
            assert_eq!(recognise(&document), None, "{document}");
        }
    }
}
