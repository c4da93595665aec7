//! The names of request headers that configs make the filter own.
//!
//! A name that a config once gave to a variant stays owned for the life of the process: origins and caches may trust it
//! long after the experiment. All VMs share the names, and a new VM knows them before its first config.

use crate::env::Env;
use crate::host::Host;
use crate::http::headers::NameSet;
use crate::http::owned_names::OwnedNames;
use crate::metrics::Counter;
use crate::plugin_config::Request;
use crate::shared_data::{self, Reader, Record, Writer};

/// How many names are remembered beyond their config. Further names are owned while their config is in force.
pub const OWNED_NAMES_MAX: usize = 4_096;

/// The names of all configs so far, as all VMs of the process know them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownNames(Vec<String>);

impl Record for KnownNames {
    const MARK: &'static [u8] = b"edgesplit names 1\n";

    fn write(&self, out: &mut Writer) {
        out.bytes(self.0.join("\n").as_bytes());
    }

    fn read(bytes: &mut Reader<'_>) -> Option<KnownNames> {
        let text = std::str::from_utf8(bytes.rest()).ok()?;
        let names: Vec<String> = text.lines().map(str::to_owned).collect();
        (names.len() <= OWNED_NAMES_MAX).then_some(KnownNames(names))
    }
}

/// Owns the names of all configs so far, and `names` of the config that comes into force.
pub(crate) fn own(owned: &mut OwnedNames, request: &Request, names: &NameSet, key: &str, env: &mut Env<'_, impl Host>) {
    let new_beside = |known: &KnownNames| {
        let known = NameSet::new(known.0.clone());
        names.names().iter().filter(|name| !known.contains(name.as_bytes())).cloned().collect::<Vec<String>>()
    };
    let mut all = shared_data::read::<KnownNames>(env, key).ok().flatten().unwrap_or_default();
    let mut is_full = false;
    if !new_beside(&all).is_empty() {
        // A failure is counted there. This VM then owns the names all the same.
        let _ = shared_data::update(env, key, |known: &mut KnownNames| {
            let new = new_beside(known);
            is_full = known.0.len() + new.len() > OWNED_NAMES_MAX;
            if new.is_empty() || is_full {
                return None;
            }
            known.0.extend(new);
            all = known.clone();
            Some(())
        });
    }
    if is_full {
        env.metrics.add(Counter::OwnedNames, 1);
        *owned = request.owned_names();
    }
    all.0.extend(names.names().iter().cloned());
    owned.add(&all.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::plugin_config::PluginConfig;
    use crate::test_host::TestHost;
    use serde_json::json;

    fn config() -> PluginConfig {
        PluginConfig::from_value(&json!({"experiments": {"cluster": "c"}})).unwrap()
    }

    fn names(names: &[&str]) -> NameSet {
        NameSet::new(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn known_names_have_one_stored_form() {
        let known = KnownNames(vec!["x-a".to_owned(), "x-b".to_owned()]);
        assert_eq!(known.encode(), b"edgesplit names 1\nx-a\nx-b");
        assert_eq!(KnownNames::decode(&known.encode()), Some(known));
    }

    #[test]
    fn names_stay_owned_and_a_new_vm_knows_them_before_its_first_config() {
        let (host, config) = (TestHost::default(), config());
        let mut metrics = Metrics::define(&host, "test");
        let mut env = Env::new(&host, 0, &mut metrics);
        let mut owned = config.request.owned_names();
        for snapshot in [&["x-button"][..], &["x-other"], &[]] {
            own(&mut owned, &config.request, &names(snapshot), "names", &mut env);
        }
        let mut of_new_vm = config.request.owned_names();
        own(&mut of_new_vm, &config.request, &names(&[]), "names", &mut env);
        for owned in [owned, of_new_vm] {
            assert!(["x_button", "X-Other", "x-ab_assignments"].iter().all(|name| owned.contains(name.as_bytes())));
            assert!(!owned.contains(b"x-third"));
        }
    }

    #[test]
    fn too_many_names_are_counted_and_those_in_force_stay_owned() {
        let (host, config) = (TestHost::default(), config());
        let mut metrics = Metrics::define(&host, "test");
        let mut env = Env::new(&host, 0, &mut metrics);
        let many: Vec<String> = (0..OWNED_NAMES_MAX).map(|at| format!("x-{at}")).collect();
        let mut owned = config.request.owned_names();
        own(&mut owned, &config.request, &NameSet::new(many), "names", &mut env);
        own(&mut owned, &config.request, &names(&["x-new"]), "names", &mut env);
        assert!(owned.contains(b"x_new") && owned.contains(b"x-0") && owned.contains(b"x-ab-cache-key"));
        metrics.flush(&host);
        assert_eq!(host.count("errors.owned_names"), 1);
    }
}
