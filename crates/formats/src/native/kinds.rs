//! The kinds of values that only experiments have.

use crate::conditions;
use crate::diagnostics::{Node, Problems};
use crate::document::{Kind, List, Object, Parsed, Then, Whole, schema, strict, whole};
use crate::moment;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::Condition;
use edgesplit_engine::hash::BUCKETS;
use edgesplit_engine::number;
use edgesplit_engine::snapshot::{StatusClass, TrafficStep};
use serde_json::{Value, json};

/// A share, a weight or a slot, in 1/10,000.
pub(super) const SHARE: Whole<u32> = whole(0, BUCKETS as u64);

/// The name of an attribute.
pub(super) const ATTRIBUTE: Parsed<AttributeName> = Parsed {
    expected: "the name of an attribute",
    pattern: "^[\\s\\S]+$",
    parse: |text| (!text.is_empty()).then(|| AttributeName::parse(text)),
    write: |name| name.written().into_owned(),
};

/// A moment, in milliseconds since the epoch.
pub(super) const MOMENT: Parsed<i64> = Parsed {
    expected: "a time in RFC 3339, such as \"2026-12-01T00:00:00Z\"",
    pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$",
    parse: moment::millis,
    write: i64::to_string,
};

/// The slots of a layer: from, and to, which is exclusive.
pub(super) const SLOTS: Then<List<Whole<u32>>, (u32, u32)> = Then {
    kind: List(SHARE),
    then: |slots, node, problems| match slots.as_slice() {
        [from, to] if from < to => Some((*from, *to)),
        _ => {
            node.expected(problems, "two whole numbers [from, to) with 0 <= from < to <= 10000");
            None
        }
    },
};

/// A condition in GrowthBook's language.
pub(super) struct Audience;

impl Kind for Audience {
    type Value = Condition;

    fn expected(&self) -> String {
        "a condition".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Condition> {
        Some(conditions::compile(&node, &Value::Null, problems))
    }

    fn schema(&self) -> Value {
        json!({"$ref": "#/definitions/condition"})
    }
}

/// One share, or a list of steps.
pub(super) struct Traffic;

const STEPS: Then<List<Object<TrafficStep>>, Vec<TrafficStep>> = Then {
    kind: List(strict()),
    then: |steps, node, problems| {
        for (at, pair) in steps.windows(2).enumerate() {
            if let [before, step] = pair
                && before.from_ms >= step.from_ms
            {
                let message = "steps have to be sorted by time: this one is not after the one before";
                problems.error(&node.path.index(at + 1).field("from"), message);
            }
        }
        Some(steps)
    },
};

impl Kind for Traffic {
    type Value = Vec<TrafficStep>;

    fn expected(&self) -> String {
        "a share from 0 to 10000, or a list of steps {\"from\", \"share\"}".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<Vec<TrafficStep>> {
        match node.value {
            Value::Array(_) => STEPS.read(node, problems),
            Value::Number(_) => Some(vec![TrafficStep { from_ms: i64::MIN, share: SHARE.read(node, problems)? }]),
            _ => {
                node.expected(problems, &self.expected());
                None
            }
        }
    }

    fn schema(&self) -> Value {
        json!({"anyOf": [SHARE.schema(), STEPS.schema()]})
    }

    fn show(&self, value: &Vec<TrafficStep>) -> Option<Value> {
        value.first().map(|step| json!(step.share))
    }
}

/// A status class such as `"2xx"`, or one status such as `"201"` or `201`.
pub(super) struct Status;

impl Kind for Status {
    type Value = StatusClass;

    fn expected(&self) -> String {
        "a status such as \"201\" or a class such as \"2xx\"".to_owned()
    }

    fn read(&self, node: Node<'_>, problems: &mut Problems) -> Option<StatusClass> {
        let text = match node.value {
            Value::Number(number) => number::javascript(number.as_f64().unwrap_or_default()),
            value => value.as_str().unwrap_or_default().to_owned(),
        };
        let class = match text.as_bytes() {
            [class @ b'1'..=b'5', b'x', b'x'] => {
                let first = u16::from(class - b'0') * 100;
                Some(StatusClass { first, last: first + 99 })
            }
            [b'1'..=b'5', _, _] => text.parse().ok().map(|status| StatusClass { first: status, last: status }),
            _ => None,
        };
        if class.is_none() {
            node.expected(problems, &self.expected());
        }
        class
    }

    fn schema(&self) -> Value {
        let whole = json!({"type": "integer", "minimum": 100, "maximum": 599});
        json!({"anyOf": [schema::text("^[1-5](xx|[0-9]{2})$"), whole]})
    }
}
