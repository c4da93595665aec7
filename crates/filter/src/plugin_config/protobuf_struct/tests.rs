use super::*;
use serde_json::json;

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2], &varint(content.len())[..], content].concat()
}

/// Encodes a JSON object as a Struct, as Envoy would.
pub(in crate::plugin_config) fn encode(object: &Value) -> Vec<u8> {
    let entry = |(name, value): (&String, &Value)| {
        field(1, &[field(1, name.as_bytes()), field(2, &encode_value(value))].concat())
    };
    object.as_object().unwrap().iter().flat_map(entry).collect()
}

fn encode_value(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![0x08, 0],
        Value::Number(number) => [&[0x11], &number.as_f64().unwrap().to_le_bytes()[..]].concat(),
        Value::String(text) => field(3, text.as_bytes()),
        Value::Bool(boolean) => vec![0x20, u8::from(*boolean)],
        Value::Object(_) => field(5, &encode(value)),
        Value::Array(values) => {
            field(6, &values.iter().flat_map(|value| field(1, &encode_value(value))).collect::<Vec<u8>>())
        }
    }
}

fn sample() -> Value {
    json!({
        "text": "ünicode", "none": null, "yes": true, "no": false, "": {},
        "numbers": [0, 1, -1, 0.25, 1e300, 9_007_199_254_740_992_u64],
        "long": "x".repeat(200),
        "nested": {"a": [{"b": []}, [[]]]},
    })
}

#[test]
fn decodes_what_was_encoded() {
    assert_eq!(decode(&encode(&sample())), Some(sample()));
    assert_eq!(decode(&[]), Some(json!({})));
    assert_eq!(decode(b"\x0a\x0d\x0a\x02pi\x12\x07"), None, "a lying length");
    // Bytes written by protobuf itself: Struct(fields={"a": Value(number_value=2)}).
    assert_eq!(decode(b"\x0a\x0e\x0a\x01a\x12\x09\x11\0\0\0\0\0\0\0\x40"), Some(json!({"a": 2})));
}

#[test]
fn malformed_encodings_are_refused() {
    let entry = |value: &[u8]| field(1, &[field(1, b"k"), field(2, value)].concat());
    let null = [0x08, 0];
    let cases: [(&str, Vec<u8>); 16] = [
        ("another field", field(2, b"")),
        ("another wire type", vec![0x08, 1]),
        ("a group", vec![0x0b]),
        ("an entry without a value", field(1, &field(1, b"k"))),
        ("an entry without a key", field(1, &field(2, &null))),
        ("an entry with two keys", field(1, &[field(1, b"k"), field(1, b"k"), field(2, &null)].concat())),
        ("a key twice", [entry(&null), entry(&null)].concat()),
        ("a key that is not UTF-8", field(1, &[field(1, b"\xff"), field(2, &null)].concat())),
        ("a string that is not UTF-8", entry(&field(3, b"\xff"))),
        ("a value of no kind", entry(&[])),
        ("a value of two kinds", entry(&[null, null].concat())),
        ("a boolean that is 2", entry(&[0x20, 2])),
        ("a null that is 1", entry(&[0x08, 1])),
        ("not a number", entry(&[&[0x11], &f64::NAN.to_le_bytes()[..]].concat())),
        ("infinite", entry(&[&[0x11], &f64::INFINITY.to_le_bytes()[..]].concat())),
        ("a length beyond 64 bits", [&[0x0a], &[0xff; 9][..], &[0x7f]].concat()),
    ];
    for (name, bytes) in cases {
        assert_eq!(decode(&bytes), None, "{name}");
    }
    assert_eq!(decode(&entry(&null)), Some(json!({"k": null})), "the cases are bad for their own reason only");
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        let list = (0..levels).fold(json!(1), |inner, _| json!([inner]));
        encode(&json!({"a": list}))
    };
    assert!(decode(&nested(DEPTH_MAX)).is_some());
    assert!(decode(&nested(DEPTH_MAX + 1)).is_none());
}

#[test]
fn damaged_bytes_never_panic_and_a_cut_is_noticed() {
    let bytes = encode(&sample());
    // A Struct that is cut between two members is a Struct again; anywhere else it is none.
    let whole: Vec<usize> = (0..bytes.len()).filter(|&length| decode(&bytes[..length]).is_some()).collect();
    assert_eq!(whole.len(), sample().as_object().unwrap().len(), "{whole:?}");
    for at in 0..bytes.len() {
        let mut mutated = bytes.clone();
        for byte in 0..=u8::MAX {
            mutated[at] = byte;
            if let Some(value) = decode(&mutated) {
                assert!(value.is_object());
            }
        }
    }
}
