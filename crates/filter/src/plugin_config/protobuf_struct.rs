//! Decoding `google.protobuf.Struct`, as Envoy hands over a configuration that is given as one.
//!
//! Strict, because success distinguishes a Struct from a damaged text: only fields of the
//! [definition](https://protobuf.dev/reference/protobuf/google.protobuf/#struct) with their own wire types, each at
//! most once, and nothing left over.

use serde_json::{Map, Number, Value};

/// The depth of nested structs and lists. It is more than protobuf decoders allow (100 messages, three for each level here), so no
/// configuration that reaches the filter exceeds it, and far less than a VM's stack holds.
const DEPTH_MAX: usize = 64;

/// Doubles distinguish every whole number up to here from its neighbours.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The Struct that `bytes` encode, as a JSON object; `None` if they encode none.
pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
    object(bytes, DEPTH_MAX)
}

/// A field as it comes off the wire.
enum Field<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next field's number and content; the inner `None` is the end, the outer one an error.
    fn next(&mut self) -> Option<Option<(u64, Field<'a>)>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                let (double, rest) = self.rest.split_first_chunk()?;
                self.rest = rest;
                Field::Double(f64::from_le_bytes(*double))
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        Some(Some((tag >> 3, field)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if (bits << shift) >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// `message Struct { map<string, Value> fields = 1; }`
fn object(bytes: &[u8], depth: usize) -> Option<Value> {
    let mut reader = Reader::new(bytes);
    let mut members = Map::new();
    while let Some(field) = reader.next()? {
        let (1, Field::Bytes(entry)) = field else { return None };
        let (name, value) = map_entry(entry, depth)?;
        if members.insert(name, value).is_some() {
            return None;
        }
    }
    Some(Value::Object(members))
}

/// An entry of the map: `string key = 1; Value value = 2;`
fn map_entry(bytes: &[u8], depth: usize) -> Option<(String, Value)> {
    let mut reader = Reader::new(bytes);
    let (mut name, mut content) = (None, None);
    while let Some(field) = reader.next()? {
        let previous = match field {
            (1, Field::Bytes(bytes)) => name.replace(text(bytes)?).is_some(),
            (2, Field::Bytes(bytes)) => content.replace(value(bytes, depth)?).is_some(),
            _ => return None,
        };
        if previous {
            return None;
        }
    }
    Some((name?, content?))
}

/// `message ListValue { repeated Value values = 1; }`
fn list(bytes: &[u8], depth: usize) -> Option<Value> {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while let Some(field) = reader.next()? {
        let (1, Field::Bytes(element)) = field else { return None };
        values.push(value(element, depth)?);
    }
    Some(Value::Array(values))
}

/// `message Value`, of whose fields exactly one is set.
fn value(bytes: &[u8], depth: usize) -> Option<Value> {
    let mut reader = Reader::new(bytes);
    let value = match reader.next()?? {
        (1, Field::Varint(0)) => Value::Null,
        (2, Field::Double(double)) => number(double)?,
        (3, Field::Bytes(bytes)) => Value::String(text(bytes)?),
        (4, Field::Varint(boolean @ 0..=1)) => Value::Bool(boolean == 1),
        (5, Field::Bytes(bytes)) => object(bytes, depth.checked_sub(1)?)?,
        (6, Field::Bytes(bytes)) => list(bytes, depth.checked_sub(1)?)?,
        _ => return None,
    };
    reader.rest.is_empty().then_some(value)
}

/// Every number of a Struct is a double: whole ones become integers again, as they were written.
fn number(double: f64) -> Option<Value> {
    if double.fract() == 0.0 && double.abs() <= WHOLE_MAX {
        return Some(Value::from(double as i64));
    }
    Number::from_f64(double).map(Value::Number) // not a number, or infinite: no JSON
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
pub(super) mod tests;
