use super::*;
use crate::conditions;
use edgesplit_engine::attribute::{AttributeName, AttributeValue, Attributes};
use edgesplit_engine::condition::{CHECK_STEPS, CONDITION_DEPTH_MAX, LimitExceeded, StepBudget, request_budget};
use js_regex::{STEPS_MAX, TEXT_BYTES_MAX};
use serde_json::json;

/// Attributes that are all text, as those of a request are: the same text under every name but `missing`.
struct Request(&'static str);

impl Attributes for Request {
    fn attribute<'a>(&'a self, name: &'a AttributeName) -> AttributeValue<'a> {
        if name.written() == "missing" { AttributeValue::Missing } else { AttributeValue::Text(self.0.into()) }
    }
}

fn compile_with(condition: &Value, groups: &Value) -> (Condition, Vec<String>) {
    let mut problems = Problems::new();
    let compiled = conditions::compile(&Node::root(condition), groups, &mut problems);
    (compiled, problems.iter().map(ToString::to_string).collect())
}

fn compile(condition: &Value) -> (Condition, Vec<String>) {
    compile_with(condition, &Value::Null)
}

/// Whether `condition` holds, within the limits.
fn holds(condition: &Condition, attributes: &impl Attributes) -> bool {
    condition.matches(attributes, &request_budget()).expect("within the limits")
}

/// Whether the one attribute `a`, being `value`, passes `check`, which must be without problems.
fn passes(check: Value, value: Value) -> bool {
    let (condition, problems) = compile(&json!({"a": check}));
    assert!(problems.is_empty(), "{problems:?}");
    holds(&condition, &json!({"a": value}))
}

#[test]
fn text_of_a_request_is_compared_as_a_json_string_is() {
    for (check, text, expected) in [
        (json!("DE"), "DE", true),
        (json!("DE"), "de", false),
        (json!(10), "10", true),
        (json!(10), "1e1", true),
        (json!(true), "false", true), // any text but the empty one is true
        (json!(false), "", true),
        (json!(null), "", false),
        (json!({"$eq": 10}), "10", false),
        (json!({"$gt": 9}), "10", true),
        (json!({"$gt": "9"}), "10", false), // two texts, so by their letters
        (json!({"$gt": 9}), "ten", false),
        (json!({"$in": ["DE", "AT"]}), "AT", true),
        (json!({"$in": [1, 2]}), "1", false),
        (json!({"$ini": ["Ärger"]}), "äRGER", true),
        (json!({"$nini": ["de"]}), "DE", false),
        (json!({"$vgte": "1.10.0"}), "v1.9.0", false),
        (json!({"$regex": "^D"}), "DE", true),
        (json!({"$regexi": "^d"}), "DE", true),
        (json!({"$exists": true}), "", true),
        (json!({"$type": "string"}), "1", true),
        (json!({"$size": 2}), "DE", false),
        (json!({"$elemMatch": {"$eq": "D"}}), "DE", false),
        (json!({"$not": {"$in": ["DE"]}}), "DE", false),
        (json!(["DE"]), "DE", false),
    ] {
        let (condition, problems) = compile(&json!({"header.x-a": check}));
        assert!(problems.is_empty(), "{check}: {problems:?}");
        assert_eq!(holds(&condition, &Request(text)), expected, "{check} on {text:?}");
        let typed = compile(&json!({"a": check})).0;
        assert_eq!(holds(&typed, &json!({"a": text})), expected, "{check} on {text:?} as JSON");
    }
}

#[test]
fn missing_attribute_is_null() {
    for (check, expected) in [
        (json!(null), true),
        (json!(false), false),
        (json!(0), true),
        (json!("null"), true),
        (json!({"$lt": 1}), true),
        (json!({"$lt": "1"}), true),
        (json!({"$exists": false}), true),
        (json!({"$ne": "x"}), true),
        (json!({"$nin": ["x"]}), true),
        (json!({"$type": "null"}), true),
        (json!({"$veq": "0"}), true),
        (json!({"$regex": "^null$"}), true),
    ] {
        let (condition, problems) = compile(&json!({"missing": check}));
        assert!(problems.is_empty(), "{check}: {problems:?}");
        assert_eq!(holds(&condition, &Request("x")), expected, "{check}");
    }
}

#[test]
fn lists_and_objects_are_compared_by_content_and_by_element() {
    assert!(passes(json!({"b": [1, {"c": null}]}), json!({"b": [1.0, {"c": null}]})));
    assert!(!passes(json!({"b": [1]}), json!({"b": [1, 2]})));
    assert!(passes(json!({"$elemMatch": {"$in": [0, ""]}}), json!([null, 0])));
    assert!(!passes(json!({"$elemMatch": {"$exists": false}}), json!([null])));
    // Within an element, a name means the member of the element, even if a request has an attribute of this name.
    assert!(passes(json!({"$elemMatch": {"id": 7, "header.X": 1}}), json!([{"id": 7, "header": {"X": 1}}])));
    assert!(passes(json!({"$all": [{"$gt": 5}, "a"]}), json!(["a", 6])));
    assert!(passes(json!({"$alli": ["A"]}), json!(["a"])));
    assert!(passes(json!({"$size": {"$gte": 2}}), json!([1, 2])));
    assert!(passes(json!({"$in": [-0.0]}), json!(0)));
}

#[test]
fn problems_are_reported_with_their_path() {
    for (condition, expected) in [
        (json!({"age": {"$gt": 1, "$foo": 2}}), "age.$foo: unknown operator; known here: $eq, "),
        (json!({"$xor": []}), "$xor: unknown operator where an attribute is expected"),
        (json!({"$or": [{"a": 1}, {"b": {"$near": 1}}]}), "$or[1].b.$near: unknown operator"),
        (json!({"$and": {"a": 1}}), "$and: expected a list of conditions"),
        (json!([]), "expected a condition, which is an object"),
        (json!({"a": {"$in": 1}}), "a.$in: expected a list"),
        (json!({"a": {"$eq": [1]}}), "a.$eq: expected a text, a number, true, false or null"),
        (json!({"a": {"$gt": null}}), "a.$gt: expected a number or a text"),
        (json!({"a": {"$gt": 1, "b": 2}}), "a: operators and plain members may not be mixed"),
        (json!({"a": {"$exists": "no"}}), "a.$exists: expected true or false"),
        (json!({"a": {"$type": "int"}}), "a.$type: expected one of string, number, boolean, array, object, null"),
        (json!({"a": {"$vgt": null}}), "a.$vgt: expected a version"),
        (json!({"a": {"$inGroup": "g"}}), "a.$inGroup: there is no saved group \"g\""),
        (json!({"a": {"$in": [1, []]}}), "a.$in[1]: the list [] equals no value"),
        (json!({"a": {"$regex": 5}}), "a.$regex: expected a string"),
        (json!({"a": {"$regex": "("}}), "a.$regex: as a pattern, the string \"(\" has a ( without its )"),
        (
            json!({"a": {"$not": {"$regexi": "x(?=y"}}}),
            "a.$not.$regexi: as a pattern, the string \"x(?=y\" has a ( without its )",
        ),
    ] {
        let (_, problems) = compile(&condition);
        assert_eq!(problems.len(), 1, "{condition}: {problems:?}");
        assert!(problems[0].starts_with(expected), "{condition}: {problems:?}");
    }
}

#[test]
fn invalid_conditions_match_as_in_growthbook() {
    let attributes = json!({"a": 1, "list": [1]});
    for (condition, expected) in [
        (json!({"a": {"$foo": 1}}), false),
        (json!({"a": {"$not": {"$foo": 1}}}), true),
        (json!({"a": {"$regex": "["}}), false),
        (json!({"a": {"$nin": 1}}), false),
        (json!({"$or": {}}), true),
        (json!({"$nor": {}}), false),
        (json!({"$not": 5}), false),
        (json!({"list": {"$elemMatch": 5}}), true),
        (json!({"a": {"$inGroup": "g"}}), false),
        (json!({"a": {"$notInGroup": "g"}}), true),
    ] {
        let (compiled, problems) = compile(&condition);
        assert!(!problems.is_empty(), "{condition}");
        assert_eq!(holds(&compiled, &attributes), expected, "{condition}");
    }
}

#[test]
fn saved_group_is_a_list_in_either_form() {
    let groups =
        json!({"old": [1, "b"], "new": {"type": "list", "attributeKey": "id", "values": [1]}, "odd": {"type": "x"}});
    for (check, expected, errors) in [
        (json!({"$inGroup": "old"}), true, 0),
        (json!({"$notInGroup": "old"}), false, 0),
        (json!({"$inGroup": "new"}), true, 0),
        (json!({"$inGroup": "odd"}), false, 1),
        (json!({"$notInGroup": "odd"}), false, 1),
        (json!({"$notInGroup": "none"}), true, 0),
    ] {
        let mut problems = Problems::new();
        let condition = conditions::compile(&Node::root(&json!({"a": check})), &groups, &mut problems);
        assert_eq!((holds(&condition, &json!({"a": 1})), problems.errors()), (expected, errors), "{check}");
    }
}

#[test]
fn nesting_is_limited() {
    type Wrap = fn(Value) -> Value;
    let wraps: [(&str, Wrap); 5] = [
        ("$not", |inner| json!({"$not": inner})),
        ("$and", |inner| json!({"$and": [inner]})),
        ("$elemMatch", |inner| json!({"a": {"$elemMatch": inner}})),
        ("not", |inner| json!({"a": {"$not": inner["a"]}})),
        ("same", |inner| json!({"a": [inner["a"]]})),
    ];
    for (name, wrap) in wraps {
        let nested = |times| (0..times).fold(json!({"a": {"$exists": true}}), |inner, _| wrap(inner));
        let (_, problems) = compile(&nested(CONDITION_DEPTH_MAX - 2));
        assert!(problems.is_empty(), "{name}: {problems:?}");
        let (condition, problems) = compile(&nested(3 * CONDITION_DEPTH_MAX));
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert!(problems[0].ends_with("conditions may be nested at most 32 deep"), "{name}: {problems:?}");
        holds(&condition, &json!({"a": [[[1]]]}));
    }
}

#[test]
fn patterns_are_javascript_patterns() {
    for (pattern, text, expected) in [
        ("a/b", "a/b", true),
        (r"a\/b", "a/b", true),
        (r"^\s$", "\u{A0}", true),
        (r"^[^\s]$", "\u{2028}", false),
        ("^.$", "\r", false),
        ("^[^]$", "\n", true),
        ("[]", "a", false),
        (r"^\u00e4\x41\e$", "äAe", true),
        (r"^\ud83d\ude00$", "\u{1F600}", true),
        ("^{a,2}$", "{a,2}", true),
        ("^a{2}$", "aa", true),
        ("^[[a&&b~~-]+$", "[&~-ab", true),
        (r"^[\w-.]+$", "a-.", true),
        (r"^(?<year>\d{4})$", "2026", true),
        (r"\<b\>", "<b>", true),
        ("(?:a*)*b$", "aab", true),
        ("^(?:a|b?){2,3}$", "aab", true),
        ("^(?:a|b?){2,3}$", "aabb", false),
        (r"\Ba\b", "ba c", true),
        (r"\Ba\b", "a ab", false),
        ("a^b|a$b", "ab", false),
        ("^$", "", true),
        (r"^(?!.*bot).*$", "a robot", false),
        (r"^(?!.*bot).*$", "a person", true),
        (r"\d+(?= ?EUR)", "12 EUR", true),
        (r"(?<=\$)\d+(?!\d|\.)", "$12.5", false),
        (r"(?<!\$)\b\d+$", "$12", false),
        (r"^(?<q>['\x22]).*\k<q>$", "'it\"", false),
        (r"^(?<q>['\x22]).*\k<q>$", "'it'", true),
        (r"^(?:(a)|b)*\1(?=$)", "ab", true),
    ] {
        assert_eq!(passes(json!({"$regex": pattern}), json!(text)), expected, "{pattern} on {text:?}");
    }
    assert!(passes(json!({"$regexi": "^[à-ö]É$"}), json!("Äé")));
    assert!(passes(json!({"$regexi": r"(É)\1(?!x)"}), json!("éÉ")));
    let long = "a".repeat(5000);
    for (pattern, reason) in [
        ("a**", "has nothing before * to repeat"),
        (r"(a)\2", "refers back to a group that it does not have"),
        (r"(?<x>a)\k<y>", "refers back to a group that it does not have"),
        ("(?<!a)*b", "has nothing to repeat before a quantifier"),
        ("(?=a){9,2}", "repeats from more times to fewer"),
        ("(?=a)b{99999}", "takes more than 3000 instructions"),
        ("(?i)a", "has an invalid group"),
        ("[b-a]", "has a range whose ends are the wrong way round"),
        ("[a", "has a [ without its ]"),
        ("a)", "has a ) without its ("),
        ("a\\", "ends with \\"),
        (r"\ud83d", "has half of a surrogate pair"),
        ("((a{99}){99}){99}", "takes more than 3000 instructions"),
        ("^*", "has nothing before * to repeat"),
        ("(?:a|{2})", "has nothing before {2} to repeat"),
        (&long, "is longer than 4096 bytes"),
    ] {
        let (condition, problems) = compile(&json!({"a": {"$regex": pattern}}));
        assert_eq!(problems.len(), 1, "{pattern}: {problems:?}");
        assert!(problems[0].contains(reason), "{pattern}: {problems:?}");
        assert!(!holds(&condition, &json!({"a": pattern})), "{pattern}");
    }
}

#[test]
fn limit_has_no_result_in_any_operator() {
    let slow = json!({"a": {"$regex": r"^(?=(a+)+$)(a+)+$"}});
    let long = "a".repeat(TEXT_BYTES_MAX + 1);
    for (attribute, expected) in
        [("aaaa".to_owned(), Ok(true)), ("a".repeat(40) + "b", Err(LimitExceeded)), (long, Err(LimitExceeded))]
    {
        let attributes = json!({"a": attribute, "b": [attribute]});
        for condition in [
            slow.clone(),
            json!({"$or": [{"c": 1}, slow]}),
            json!({"$and": [slow]}),
            json!({"$not": {"$not": slow}}),
            json!({"$nor": [{"$nor": [slow]}]}),
            json!({"a": {"$not": {"$not": slow["a"]}}}),
            json!({"b": {"$elemMatch": slow["a"]}}),
        ] {
            let (compiled, problems) = compile(&condition);
            assert!(problems.is_empty(), "{problems:?}");
            assert_eq!(compiled.matches(&attributes, &request_budget()), expected, "{condition} on {attribute}");
        }
    }
}

#[test]
fn budget_is_shared_by_all_conditions() {
    let (condition, _) = compile(&json!({"a": {"$regex": r"[\w.+-]{1,64}@example\.com$"}}));
    let (attributes, budget) = (json!({"a": "a".repeat(TEXT_BYTES_MAX)}), request_budget());
    let calls = (0..100).take_while(|_| condition.matches(&attributes, &budget).is_err() && budget.left() > 0).count();
    assert!((2..=4).contains(&calls), "{calls} matches of at most {STEPS_MAX} steps");
    assert_eq!(condition.matches(&json!({"a": "x"}), &budget), Err(LimitExceeded));
}

#[test]
fn tests_take_steps_too() {
    let many: Vec<Value> = (0..300).map(|_| json!({"a": {"$ini": ["y"]}})).collect();
    let (condition, _) = compile(&json!({ "$or": many }));
    assert_eq!(condition.matches(&json!({"a": "x".repeat(60_000)}), &request_budget()), Err(LimitExceeded));
    assert_eq!(condition.matches(&json!({"a": "x".repeat(2_000)}), &request_budget()), Ok(false));
    // Also without a value.
    let (condition, _) = compile(&json!({"a": "y"}));
    assert_eq!(condition.matches(&json!({}), &StepBudget::new(CHECK_STEPS - 1)), Err(LimitExceeded));
}

#[test]
fn saved_group_has_its_own_attribute_or_condition() {
    let groups = json!({
        "list": {"type": "list", "attributeKey": "id", "values": ["u1"]},
        "rule": {"type": "condition", "condition": {"plan": "pro", "$not": {"$savedGroup": {"id": "list"}}}},
        "loop": {"type": "condition", "condition": {"$savedGroup": {"id": "loop"}}},
        "old": ["u1"],
    });
    for (reference, attributes, expected, errors) in [
        (json!({"id": "list"}), json!({"id": "u1"}), true, 0),
        (json!({"id": "list"}), json!({"id": "u2"}), false, 0),
        (json!({"id": "list", "attributeKey": "account"}), json!({"account": "u1"}), true, 0),
        (json!({"id": "rule"}), json!({"id": "u2", "plan": "pro"}), true, 0),
        (json!({"id": "rule"}), json!({"id": "u1", "plan": "pro"}), false, 0),
        (json!({"id": "loop"}), json!({}), false, 1),
        (json!({"id": "old"}), json!({"id": "u1"}), false, 1),
        (json!({"id": "none"}), json!({}), false, 0),
        (json!({}), json!({}), false, 1),
        (json!("list"), json!({"id": "u1"}), false, 1),
    ] {
        let mut problems = Problems::new();
        let condition = json!({ "$savedGroup": reference });
        let condition = conditions::compile(&Node::root(&condition), &groups, &mut problems);
        assert_eq!((holds(&condition, &attributes), problems.errors()), (expected, errors), "{reference}");
    }
}

#[test]
fn conditions_that_grow_out_of_groups_are_limited() {
    let doubled =
        |id: usize| json!({"$and": [{"$savedGroup": {"id": id.to_string()}}, {"$savedGroup": {"id": id.to_string()}}]});
    let group = |id: usize| (id.to_string(), json!({"type": "condition", "condition": doubled(id + 1)}));
    let mut groups = SavedGroups::new(&Value::Object((0..15).map(group).collect()));
    let mut problems = Problems::new();
    let condition = doubled(0);
    assert!(conditions::compile_as_sdk(&Node::root(&condition), &mut groups, &mut problems).is_none());
    assert!(problems.iter().any(|problem| problem.message.contains("at most 10000 tests")), "{problems:?}");
}
