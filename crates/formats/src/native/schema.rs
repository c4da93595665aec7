//! The JSON Schema of the native experiment format: as strict as `validate` is without a word, as far as a schema can say.
//! What it cannot say: that weights add up, keys are unique, slots do not overlap, steps are sorted, names are known.

use super::{KEY_BYTES_MAX, SCHEMA, effects};
use crate::schema::{
    boolean, choice, document, header_name, integer, list, map, nullable, number, object, or, text, with,
};
use edgesplit_engine::guardrail::{self, Guardrail};
use edgesplit_engine::hash::BUCKETS;
use serde_json::{Map, Value, json};

/// A share, a weight or a slot.
const SHARE: std::ops::RangeInclusive<u32> = 0..=BUCKETS;

/// The schema of a whole document.
pub fn schema() -> Value {
    let experiments = list(
        "The experiments, in the order in which they are decided and their effects applied.",
        json!({"$ref": "#/definitions/experiment"}),
    );
    let says = "Experiments in Edgesplit's native format, schema 1. Shares, weights and slots are in 1/10,000. null is the same \
                as leaving a field out.";
    let root = object(
        says,
        &["experiments"],
        &[
            ("$schema", json!({"description": "Where this schema is, for editors."})),
            ("schema", json!({"enum": [SCHEMA], "description": "The version of the format.", "default": SCHEMA})),
            (
                "revision",
                nullable(
                    json!({"type": "string", "description": "Your name for this state of the document; stands in events."}),
                ),
            ),
            (
                "holdout",
                nullable(object(
                    "Visitors who are in no running experiment.",
                    &["key", "share"],
                    &[
                        ("key", key("The holdout's name: another one holds out others.")),
                        ("share", share("How many of 10,000.")),
                    ],
                )),
            ),
            ("experiments", experiments),
            (
                "goals",
                nullable(list(
                    "Successes to count, for every identified visitor.",
                    json!({"$ref": "#/definitions/goal"}),
                )),
            ),
        ],
    );
    let definitions = json!({
        "experiment": experiment(),
        "variant": variant(),
        "route": route(),
        "goal": goal(),
        "condition": condition(),
        "check": check(),
        "operators": operators(),
    });
    document("Edgesplit experiments", root, definitions)
}

/// A key.
pub fn key(says: &str) -> Value {
    json!({"type": "string", "description": says, "minLength": 1, "maxLength": KEY_BYTES_MAX})
}

fn share(says: &str) -> Value {
    integer(says, &SHARE)
}

fn moment(says: &str) -> Value {
    let pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$";
    with(text(says, pattern), json!({"examples": ["2026-12-01T00:00:00Z"]}))
}

/// What stands under a name where it may also be absent: a reference, or null.
fn reference(name: &str, says: &str) -> Value {
    json!({"description": says, "anyOf": [{"$ref": format!("#/definitions/{name}")}, {"type": "null"}], "default": null})
}

fn experiment() -> Value {
    let steps = object(
        "From when on which share takes part.",
        &["from", "share"],
        &[("from", moment("From when on.")), ("share", share("How many of 10,000 take part."))],
    );
    let slots = with(
        list("From and to, the latter exclusive. Slots of a layer may not overlap.", integer("", &SHARE)),
        json!({"minItems": 2, "maxItems": 2}),
    );
    let traffic = json!({
        "description": "The share of visitors that takes part, in 1/10,000; or steps sorted by time, of which the last that has \
                        begun counts, and nobody before the first.",
        "anyOf": [share("How many of 10,000 take part."), list("Steps, sorted by time.", steps), {"type": "null"}],
        "default": BUCKETS,
    });
    let audience =
        reference("condition", "Who takes part: a condition in GrowthBook's language. Everybody, if left out.");
    let states = "running; paused: nobody is in it; concluded: everyone gets the winner, and no exposure is reported.";
    let layer = object(
        "Experiments of one layer share no visitor.",
        &["name", "slots"],
        &[("name", key("The layer.")), ("slots", slots)],
    );
    let forced = map(
        "Variants by the unit's value: for them neither audience, holdout, layer nor traffic is asked.",
        json!({}),
        json!({"type": "string", "description": "The key of a variant."}),
    );
    let variants = json!({
        "type": "array", "minItems": 1, "items": {"$ref": "#/definitions/variant"},
        "description": "The variants; their weights add up to 10,000.",
    });
    let experiment = object(
        "An experiment.",
        &["key", "state", "variants"],
        &[
            ("key", key("Its name: in headers, cache keys, metrics and events. Unique in the document.")),
            ("state", choice(states, &["running", "paused", "concluded"])),
            (
                "winner",
                nullable(
                    json!({"type": "string", "description": "The key of the variant that won; needed where concluded."}),
                ),
            ),
            (
                "salt",
                nullable(
                    json!({"type": "string", "description": "What is hashed; the key, if left out. Another salt moves everybody."}),
                ),
            ),
            (
                "unit",
                or(
                    nullable(
                        json!({"type": "string", "minLength": 1, "description": "The attribute whose value is bucketed."}),
                    ),
                    "id",
                ),
            ),
            ("layer", nullable(layer)),
            ("route", reference("route", "Which requests it is about. Everywhere, if left out.")),
            ("audience", audience),
            ("traffic", traffic),
            ("starts", nullable(moment("When it starts."))),
            ("ends", nullable(moment("When it ends; nobody is in it from then on."))),
            ("forced", nullable(forced)),
            (
                "sticky",
                or(
                    nullable(boolean(
                        "Whether visitors keep the variant that they once had; needs request.sticky.",
                        false,
                    )),
                    false,
                ),
            ),
            ("sticky_version", or(nullable(integer("Raise it to bucket everybody anew.", &(0..=u32::MAX))), 0)),
            ("guardrail", nullable(guardrail())),
            ("variants", variants),
        ],
    );
    let concluded = json!({
        "if": {"properties": {"state": {"enum": ["concluded"]}}, "required": ["state"]},
        "then": {"properties": {"winner": {"type": "string"}}, "required": ["winner"]},
    });
    with(experiment, concluded)
}

fn guardrail() -> Value {
    let Guardrail { min_exposures, max_5xx_ratio_increase, confidence } = Guardrail::default();
    let says = "Switches a variant off, on the proxy that sees it, whose share of 5xx is significantly above the baseline's; \
                until the document's next revision.";
    object(
        says,
        &[],
        &[
            (
                "min_exposures",
                or(
                    nullable(integer(
                        "Responses that the variant and the baseline need each before they are compared.",
                        &guardrail::MIN_EXPOSURES_BOUNDS,
                    )),
                    min_exposures,
                ),
            ),
            (
                "max_5xx_ratio_increase",
                or(
                    nullable(number("How much higher the share of 5xx may be than the baseline's.", &(0.0..=1.0))),
                    max_5xx_ratio_increase,
                ),
            ),
            (
                "confidence",
                or(
                    nullable(number("How sure it has to be, over all comparisons.", &guardrail::CONFIDENCE_BOUNDS)),
                    confidence,
                ),
            ),
        ],
    )
}

fn variant() -> Value {
    let path = |says| text(says, "^/[!\"$->@-~]*$");
    let header = json!({"type": "string", "pattern": "^[^\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f]*$"});
    let set = object(
        "What the variant changes.",
        &[],
        &[
            (
                "request_headers",
                nullable(map(
                    "Headers for the origin. Clients may not send them.",
                    header_name(effects::REQUEST_HEADERS_REFUSED),
                    header.clone(),
                )),
            ),
            (
                "response_headers",
                nullable(map("Headers for the client.", header_name(effects::RESPONSE_HEADERS_REFUSED), header)),
            ),
            (
                "path",
                nullable(object(
                    "Replaces `prefix` at the start of the path by `with`.",
                    &["prefix", "with"],
                    &[("prefix", path("What the path starts with.")), ("with", path("What it starts with then."))],
                )),
            ),
            (
                "redirect",
                nullable(text(
                    "A URL or a path: answers 302 (GET, HEAD) or 307, with the request's query.",
                    "^(https?://[!-~]+|/([!-.0-\\[\\]-~][!-~]*)?)$",
                )),
            ),
        ],
    );
    let baseline =
        "Whether it is what visitors see who are in no experiment: it has no part in the cache key. One at most.";
    object(
        "A variant.",
        &["key", "weight"],
        &[
            ("key", key("Its name. Unique in the experiment.")),
            ("weight", share("Its part of the visitors, in 1/10,000; may be 0.")),
            ("baseline", or(nullable(boolean(baseline, false)), false)),
            ("set", nullable(set)),
        ],
    )
}

/// The members of a route.
pub fn route_fields() -> [(&'static str, Value); 3] {
    let list = |says, pattern| or(nullable(list(says, json!({"type": "string", "pattern": pattern}))), json!([]));
    [
        (
            "hosts",
            list(
                "Hosts without port, in any case; * stands for any run of characters. Empty asks nothing.",
                "^[^/:\\s]+$",
            ),
        ),
        (
            "paths",
            list(
                "Paths without query; * stands for any run of characters, / among them. Empty asks nothing.",
                "^[/*][^?#]*$",
            ),
        ),
        ("methods", list("Methods; GET means HEAD too. Empty asks nothing.", "^[A-Za-z_-]+$")),
    ]
}

fn route() -> Value {
    object("Which requests.", &[], &route_fields())
}

/// A goal.
pub fn goal() -> Value {
    let status = json!({"anyOf": [
        {"type": "string", "pattern": "^[1-5](xx|[0-9]{2})$"},
        {"type": "integer", "minimum": 100, "maximum": 599},
    ]});
    object(
        "A success to count.",
        &["key"],
        &[
            ("key", key("Its name in events. Unique.")),
            ("route", nullable(object("Which requests; every request, if left out.", &[], &route_fields()))),
            ("statuses", nullable(list("Statuses that count, such as \"2xx\" or \"201\"; any, if left out.", status))),
        ],
    )
}

/// A condition: every attribute passes its check, and what stands under `$and` and the like holds.
fn condition() -> Value {
    let conditions = |says| list(says, json!({"$ref": "#/definitions/condition"}));
    json!({
        "type": "object",
        "description": "What attributes have to be: each name is an attribute, such as country, id, path, header.x-plan or cookie.plan.",
        "properties": {
            "$and": conditions("All of these hold."),
            "$or": conditions("One of these holds."),
            "$nor": conditions("None of these holds."),
            "$not": {"$ref": "#/definitions/condition"},
        },
        "propertyNames": {"anyOf": [{"enum": ["$and", "$or", "$nor", "$not", "$groups"]}, {"not": {"pattern": "^\\$"}}]},
        "additionalProperties": {"$ref": "#/definitions/check"},
    })
}

/// What one attribute has to be: a value, or operators.
fn check() -> Value {
    json!({"anyOf": [
        {"$ref": "#/definitions/operators"},
        {"type": ["string", "number", "boolean", "array", "null"]},
        {"type": "object", "propertyNames": {"not": {"pattern": "^\\$"}}},
    ]})
}

fn operators() -> Value {
    let check = json!({"$ref": "#/definitions/check"});
    let scalar = json!({"type": ["string", "number", "boolean", "null"]});
    let ordered = json!({"type": ["string", "number"]});
    let pattern = json!({"type": "string", "description": "A regular expression, as JavaScript has them."});
    let scalars = json!({"type": "array", "items": scalar});
    let checks = json!({"type": "array", "items": check});
    let kinds = [
        (&["$eq", "$ne"][..], scalar),
        (&["$lt", "$lte", "$gt", "$gte", "$veq", "$vne", "$vlt", "$vlte", "$vgt", "$vgte"], ordered),
        (&["$in", "$nin", "$ini", "$nini"], scalars),
        (&["$regex", "$regexi"], pattern),
        (&["$all", "$alli"], checks),
        (&["$not", "$size"], check),
        (&["$exists"], json!({"type": "boolean"})),
        (&["$type"], json!({"enum": ["string", "number", "boolean", "array", "object", "null"]})),
        (&["$elemMatch"], json!({"anyOf": [{"$ref": "#/definitions/operators"}, {"$ref": "#/definitions/condition"}]})),
    ];
    let properties: Map<String, Value> =
        kinds.iter().flat_map(|(names, kind)| names.iter().map(|name| ((*name).to_owned(), kind.clone()))).collect();
    json!({
        "type": "object", "description": "Operators, which all have to hold.", "properties": properties,
        "minProperties": 1, "additionalProperties": false,
    })
}
