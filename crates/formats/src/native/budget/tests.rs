use super::*;
use crate::native::{Native, compile};
use serde_json::{Value, json};

/// A running experiment of two variants, one of them the baseline.
fn experiment(key: &str, route: Value) -> Value {
    let variants = json!([{"key": "a", "weight": 5000, "baseline": true}, {"key": "b", "weight": 5000}]);
    json!({"key": key, "state": "running", "route": route, "variants": variants})
}

/// Running experiments with these routes.
fn experiments(routes: impl Iterator<Item = Value>) -> Vec<Experiment> {
    let list: Vec<Value> = routes.enumerate().map(|(at, route)| experiment(&at.to_string(), route)).collect();
    let compiled = compile(&json!({"schema": 1, "experiments": list}), u64::MAX);
    let snapshot = compiled.snapshot.expect("a snapshot");
    assert_eq!(snapshot.disabled, []);
    snapshot.experiments
}

fn budget_of(combinations: u64) -> RouteBudget {
    RouteBudget::new(&Options::new(&Native, combinations))
}

/// The comparisons of each check, and the problems.
fn check_all(experiments: &[Experiment]) -> (Vec<u64>, Vec<String>) {
    let (mut budget, mut problems, mut comparisons) = (budget_of(64), Vec::new(), Vec::new());
    for (at, experiment) in experiments.iter().enumerate() {
        let before = budget.comparisons();
        problems.extend(budget.check(experiment, &experiments[..at]).map(|exceeded| exceeded.message));
        comparisons.push(budget.comparisons() - before);
    }
    (comparisons, problems)
}

#[test]
fn separate_routes_take_few_comparisons() {
    for route in [
        |n: usize| json!({"paths": [format!("/p{n}/*")]}),
        |n: usize| json!({"paths": ["/*"], "hosts": [format!("h{n}.example")]}),
        |n: usize| json!({"paths": [format!("/p{}/*", n / 6)]}),
    ] {
        let everywhere = json!({});
        let list = experiments((0..5_000).map(route).chain([everywhere]));
        let (comparisons, problems) = check_all(&list);
        assert!(problems.len() <= 1, "{problems:?}");
        let (last, separate) = comparisons.split_last().unwrap();
        assert!(separate.iter().all(|comparisons| *comparisons <= 40), "{:?}", separate.iter().max());
        assert!(*last <= 60_000, "{last} for a route that meets all others");
    }
}

#[test]
fn many_patterns_stay_within_the_limit() {
    let paths = |e: usize, count: usize| (0..count).map(|p| format!("/e{e}/p{p}*")).collect::<Vec<_>>();
    for (experiments_count, paths_count) in [(20, 4_000), (60, 300)] {
        let list = experiments((0..experiments_count).map(|e| json!({"paths": paths(e, paths_count)})));
        let (comparisons, problems) = check_all(&list);
        assert_eq!(problems, [""; 0]);
        assert!(comparisons.iter().all(|comparisons| *comparisons <= 20 * paths_count as u64));
    }
}

#[test]
fn too_many_comparisons_count_as_over_the_budget() {
    let paths = |e: usize| (0..2_000).map(|p| format!("*x{p}y{e}")).collect::<Vec<_>>();
    let list: Vec<Value> = (0..3).map(|e| experiment(&e.to_string(), json!({"paths": paths(e)}))).collect();
    let compiled = compile(&json!({"schema": 1, "experiments": list}), 64);
    let disabled = compiled.snapshot.expect("a snapshot").disabled;
    assert_eq!(disabled.len(), 2);
    assert!(disabled[0].problem.contains("takes more than 200000 comparisons"), "{disabled:?}");
}

#[test]
fn result_is_that_of_trying_every_group() {
    let mut state = 7_u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % below
    };
    let paths = ["/a*", "/a", "/a/b*", "/b*", "*", "*x", "/a*x", "/b/c", "/b*y", "/a/b/c*z"];
    let hosts = ["h", "g", "*.h", "h*"];
    for _ in 0..100 {
        let list = experiments((0..12).map(|_| {
            let path = |at: usize| paths[at];
            let (first, second) = (path(next(paths.len())), path(next(paths.len())));
            let own_hosts: Vec<&str> = (0..next(3)).map(|_| hosts[next(hosts.len())]).collect();
            json!({"paths": if next(3) == 0 { vec![] } else { vec![first, second] }, "hosts": own_hosts})
        }));
        let budget_max = [2, 4, 8, 16][next(4)];
        let mut budget = budget_of(budget_max);
        let mut in_force: Vec<Experiment> = Vec::new();
        for experiment in list {
            let exceeded = budget.check(&experiment, &in_force);
            let groups = 0..1_usize << in_force.len();
            let is_over = groups.into_iter().any(|group| {
                let chosen: Vec<&Experiment> =
                    in_force.iter().enumerate().filter(|(at, _)| group >> at & 1 == 1).map(|(_, one)| one).collect();
                let all: Vec<&Experiment> = chosen.into_iter().chain([&experiment]).collect();
                1_u64 << all.len() > budget_max
                    && all.iter().enumerate().all(|(at, a)| all[..at].iter().all(|b| a.route.meets(&b.route)))
            });
            assert_eq!(exceeded.is_some(), is_over, "{:?} beside {in_force:?}", experiment.route);
            if !is_over {
                in_force.push(experiment);
            }
        }
    }
}

#[test]
fn assignments_header_is_bounded() {
    let concluded = |key: &str, route: Value| {
        let mut one = experiment(key, route);
        one["state"] = json!("concluded");
        one["winner"] = json!("b");
        one
    };
    // Six pairs of `key-0=b` with the separators between them take 52 bytes.
    let (everywhere, shop) = (json!({}), json!({"paths": ["/shop*"]}));
    for (max, routes, disabled) in [
        (52, vec![&everywhere; 6], vec![]),
        (51, vec![&everywhere; 6], vec![5]),
        (51, vec![&everywhere, &everywhere, &everywhere, &shop, &shop, &shop], vec![5]),
        (25, vec![&everywhere, &shop, &everywhere, &shop, &shop, &everywhere], vec![3, 4, 5]),
    ] {
        let list: Vec<Value> =
            routes.iter().enumerate().map(|(at, route)| concluded(&format!("key-{at}"), (*route).clone())).collect();
        let options = Options { assignments_bytes_max: max, ..Options::new(&Native, 64) };
        let compiled = crate::compile_bytes(json!({"schema": 1, "experiments": list}).to_string().as_bytes(), &options);
        let snapshot = compiled.snapshot.expect("a snapshot");
        let found: Vec<usize> = snapshot.disabled.iter().map(|one| one.position).collect();
        assert_eq!(found, disabled, "{max}");
        let expected = "over the length of the assignments header";
        assert!(snapshot.disabled.iter().all(|one| one.problem.contains(expected)), "{:?}", snapshot.disabled);
    }
}
