//! The reports of decisions: which there are, and their content.

use super::*;
use crate::events::EventWire;
use crate::format::Options;

#[test]
fn impressions_equal_those_of_the_sdks() {
    let cases = [
        (json!({}), true),
        (json!({"holdouts": [holdout("7", json!({}))]}), true),
        (json!({"experiments": [rule("1", 0)]}), true),
        (json!({"experiments": [rule("1", 0)], "sendFlagDecisions": false}), false),
        (json!({"experiments": [rule("1", 0)], "rollouts": []}), true),
        (json!({"experiments": [rule("1", 0)], "rollouts": [], "sendFlagDecisions": false}), false),
        (json!({"sendFlagDecisions": false}), true),
    ];
    for (members, exposure) in cases {
        let datafile = compiled(&document(members.clone()));
        let decision = datafile.decide(&datafile.flags[0], "user", &json!({}), &mut ());
        assert_eq!(decision.exposure, exposure, "{members}");
    }
}

/// Ids that Optimizely does not take are left out; a holdout, which has no layer, stands for itself.
#[test]
fn impression_has_the_ids_that_optimizely_accepts() {
    let mut held = holdout("7", json!({}));
    held["variations"][0]["id"] = "$opt_dummy".into();
    held["trafficAllocation"][0]["entityId"] = "$opt_dummy".into();
    let datafile = compiled(&document(json!({"holdouts": [held]})));
    let flag = &datafile.flags[0];
    let impression = flag.impression(datafile.decide(flag, "user", &json!({}), &mut ()).outcome).unwrap();
    assert_eq!((impression.campaign_id.as_str(), impression.experiment_id.as_str()), ("7", "7"));
    assert_eq!((impression.variation_id.as_deref(), impression.rule_type), (None, RuleType::Holdout));
    let default = flag.impression(0).unwrap();
    assert_eq!((default.campaign_id.as_str(), default.rule_type), ("", RuleType::Rollout));
    let experiment = flag.impression(2).unwrap();
    assert_eq!((experiment.campaign_id.as_str(), experiment.variation_id.as_deref()), ("layer-1", Some("91")));
}

/// The exposures of the only flag: the rule's key, the variation's key and the rule's type.
fn exposures(document: &Value) -> Vec<[String; 3]> {
    let datafile = compiled(document);
    let flag = &datafile.flags[0];
    let decision = datafile.decide(flag, "user", &json!({}), &mut ());
    let reported = [decision.exposure.then_some(decision.outcome), decision.holdout].into_iter().flatten();
    let impressions = reported.map(|outcome| flag.impression(outcome).unwrap());
    impressions.map(|it| [it.rule_key.clone(), it.variation_key.clone(), it.rule_type.name().to_owned()]).collect()
}

#[test]
fn holdout_that_spares_deliveries_is_reported_beside_them() {
    let spares = holdout("7", json!({"excludeTargetedDeliveries": true}));
    let document = |members: Value| document(with(json!({"holdouts": [spares.clone()]}), members));
    let held = || ["key-7", "in-7", "holdout"].map(str::to_owned);
    let delivered = || ["key-2", "in-2", "rollout"].map(str::to_owned);
    assert_eq!(exposures(&document(json!({}))), [delivered(), held()]);
    assert_eq!(exposures(&document(json!({"sendFlagDecisions": false}))), [held()]);
    // A rollout that gives nothing leaves the default, not the holdout's variation.
    let nothing = json!({"rollouts": [{"id": "5", "experiments": [rule("2", 0)]}]});
    assert_eq!(outcome(&document(nothing.clone())), (None, "holdout"));
    assert_eq!(exposures(&document(nothing)), [["", "", "rollout"].map(str::to_owned), held()]);
    let local = with(holdout("8", json!({})), json!({"includedRules": ["2"]}));
    let both = exposures(&document(json!({"localHoldouts": [local]})));
    assert_eq!(both, [["key-8", "in-8", "holdout"].map(str::to_owned), held()]);
}

#[test]
fn batch_of_an_eu_project_names_its_host() {
    let us_host = "logx.optimizely.com";
    for (region, host) in [(json!("EU"), Some("eu.logx.optimizely.com")), (json!("US"), None), (json!(null), None)] {
        let document = document(json!({"region": region}));
        let mut head = Vec::new();
        compiled(&document).project.write_batch_head(&mut head);
        assert_eq!(Optimizely.host(&head, us_host), host, "{region}");
        assert_eq!(Optimizely.host(&head, "collector.internal"), None);
        for (events_host, is_reported) in [(None, true), (Some(us_host), true), (Some("eu.logx.optimizely.com"), false)]
        {
            let options = Options { events_host: events_host.map(str::to_owned), ..Options::new(&Optimizely, 64) };
            let problems = crate::compile_at(Node::root(&document), &options).problems;
            let expected = is_reported && host.is_some();
            assert_eq!(problems.iter().any(|problem| problem.path == "region"), expected, "{region} {events_host:?}");
        }
    }
}

#[test]
fn attributes_of_the_sdks_are_all_reported() {
    let datafile = compiled(&document(json!({"attributes": [{"id": "20", "key": "plan"}], "botFiltering": true})));
    let visitor =
        json!({"plan": "pro", "$opt_user_agent": "Firefox", "$opt_anything": 5, "other": "x", "$opt_null": null});
    let names = visitor.as_object().unwrap().keys().map(String::as_str);
    let reported = datafile.project.visitor_attributes(&visitor, names);
    let ids: Vec<&str> = reported.iter().map(|attribute| attribute["entity_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["20", "$opt_anything", "$opt_user_agent", "$opt_bot_filtering"]);
}
