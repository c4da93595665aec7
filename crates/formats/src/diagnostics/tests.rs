use super::*;
use serde_json::json;

#[test]
fn path_syntax() {
    let experiments = Path::Root.field("experiments").to_string();
    assert_eq!(experiments, "experiments");
    let root = Path::Root;
    let list = root.field("experiments");
    let third = list.index(3);
    let odd = third.field("a.b");
    assert_eq!(odd.index(0).to_string(), r#"experiments[3]["a.b"][0]"#);
    assert_eq!(third.field("weight").to_string(), "experiments[3].weight");
}

#[test]
fn whole_numbers_may_be_doubles() {
    let mut problems = Problems::new();
    for (value, expected) in [
        (json!(3), Some(3)),
        (json!(3.0), Some(3)),
        (json!(3.5), None),
        (json!(-1), None),
        (json!(11), None),
        (json!("3"), None),
    ] {
        assert_eq!(Node::root(&value).integer(0..=10, &mut problems), expected, "{value}");
    }
    assert_eq!(problems.errors(), 4);
    assert_eq!(
        problems.iter().next().map(ToString::to_string).as_deref(),
        Some("expected a whole number from 0 to 10, found the number 3.5")
    );
}

#[test]
fn unknown_fields_name_the_known_ones() {
    let mut problems = Problems::new();
    let value = json!({"paths": 1, "path": 2, "b": 3});
    Node::root(&value).unknown_fields(&["hosts", "paths"], Severity::Warning, &mut problems);
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let expected = [
        "b: unknown field; known here: hosts, paths",
        "path: unknown field, did you mean `paths`? known here: hosts, paths",
    ];
    assert_eq!(shown, expected);
    assert_eq!(problems.errors(), 0);
}

#[test]
fn further_unknown_fields_are_listed_without_hints() {
    let mut problems = Problems::new();
    let fields: Map<String, Value> = (0..2_000).map(|number| (format!("path{number:04}"), Value::Null)).collect();
    Node::root(&fields.into()).unknown_fields(&["paths"], Severity::Error, &mut problems);
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!((shown.len(), problems.errors()), (PROBLEMS_MAX + 1, 2_000));
    assert_eq!(shown[HINTED_PROBLEMS_MAX - 1], "path0015: unknown field, did you mean `paths`? known here: paths");
    assert_eq!(shown[HINTED_PROBLEMS_MAX], "path0016: unknown field");
    assert_eq!(shown[PROBLEMS_MAX], "there are more problems, which are not listed");
}

#[test]
fn long_messages_are_cut_between_characters() {
    let mut problems = Problems::new();
    problems.error(&Path::Root, "ü".repeat(1_000));
    problems.error(&Path::Root, "aü".repeat(1_000));
    let lengths: Vec<_> = problems.iter().map(|problem| problem.message.chars().count()).collect();
    assert_eq!(lengths, [1_000, 1_334]);
    assert!(problems.iter().last().is_some_and(|problem| problem.message.ends_with("a…")));
}
