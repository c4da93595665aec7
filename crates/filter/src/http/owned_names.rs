//! The names of request headers that the filter owns. A client cannot send them in any spelling.

use super::headers::{HeaderLengthMask, NameSet, folded};

/// The names that the filter owns.
#[derive(Debug, Clone, Default)]
pub struct OwnedNames {
    /// Those of the plugin configuration and of configs.
    names: NameSet,
    /// The starts of names, each with its `*`, folded.
    starts: Vec<Vec<u8>>,
}

impl OwnedNames {
    /// The names that match one of `patterns`: names, or the starts of names with a `*` behind them.
    pub fn new<'a>(patterns: impl Iterator<Item = &'a String>) -> OwnedNames {
        let (starts, whole): (Vec<&String>, Vec<&String>) = patterns.partition(|name| name.ends_with('*'));
        OwnedNames {
            names: NameSet::new(whole.into_iter().cloned().collect()),
            starts: starts.into_iter().map(|start| folded(start.as_bytes())).collect(),
        }
    }

    /// Also owns `names` from now on.
    pub fn add(&mut self, names: &[String]) {
        self.names = NameSet::new(self.names.names().iter().chain(names).cloned().collect());
    }

    /// The lengths that owned names can have.
    #[inline(always)]
    pub fn lengths(&self) -> HeaderLengthMask {
        if self.starts.is_empty() { self.names.lengths() } else { HeaderLengthMask::ANY }
    }

    /// Whether the filter owns `name`, in any spelling.
    #[inline(always)]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.names.contains(name) || (!self.starts.is_empty() && self.has_start_of(name))
    }

    #[inline(never)]
    fn has_start_of(&self, name: &[u8]) -> bool {
        let name = folded(name);
        self.starts.iter().any(|start| pattern_matches(start, &name))
    }
}

/// Whether `pattern`, a folded name or start of names, stands for `name`, which is folded too.
pub fn pattern_matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [start @ .., b'*'] => name.starts_with(start),
        whole => whole == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_names_match_every_spelling() {
        let mut owned = OwnedNames::new(["x-ab-assignments".to_owned(), "x-shop_*".to_owned()].iter());
        owned.add(&["x-button".to_owned()]);
        for (name, expected) in [
            ("X_AB-Assignments", true),
            ("x_button", true),
            ("X-Shop-", true),
            ("x_shop_id", true),
            ("x-shop", false),
            ("x-ab-assignment", false),
            ("", false),
        ] {
            assert_eq!(owned.contains(name.as_bytes()), expected, "{name}");
            assert!(!expected || owned.lengths().contains(name.len()), "{name}");
        }
    }
}
