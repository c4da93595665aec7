//! Documents that people write: each object is declared once, with [`document!`](crate::document!), and the declaration
//! gives the reader, the JSON Schema and the reference.
//!
//! A field has a name, a type, a [`Kind`] (the values allowed) and, unless it is required, a default. Reading collects
//! every problem with its path, the value found and the values allowed. `None` means that a problem was reported, so
//! an object reads all of its fields before it gives up.

mod containers;
mod kind;
mod kinds;
mod pattern;
pub mod schema;

pub use containers::{AnyObject, InPlace, List, Map, Nullable, Object, Then, in_place, lenient, open, strict};
pub use kind::{Absent, Document, Kind, MemberReader, of};
pub use kinds::{Anything, Choice, Flag, KEY, KEY_BYTES_MAX, Number, Parsed, TEXT, Text, Whole, number, whole};
pub use pattern::{TOKEN, is_token};

/// Declares an object of a document.
///
/// ```
/// use edgesplit_formats::{diagnostics::{Node, Problems}, document, document::{Kind, strict, whole}};
///
/// document! {
///     /// When a buffer becomes a batch.
///     pub struct Batch {
///         /// Events in it.
///         pub max_events: usize = 500 => whole(1, 10_000),
///         /// Bytes, written as `max_bytes`.
///         pub bytes as "max_bytes": usize => whole(1, 1 << 20),
///     }
/// }
///
/// let mut problems = Problems::new();
/// let batch = strict::<Batch>().read(Node::root(&serde_json::json!({"max_bytes": 7})), &mut problems).unwrap();
/// assert_eq!((batch.max_events, batch.bytes), (500, 7));
/// ```
///
/// - `field: Type => kind` is required; `= default` makes it optional; with `| null = default`, null stands for the
///   default.
/// - If every field has a default, the struct has `Default`.
/// - `for Type { … }` declares how an existing struct is written.
/// - The doc comment of a field is its description in the schema.
#[macro_export]
macro_rules! document {
    (@absent) => { $crate::document::Absent::Required };
    (@absent = $default:expr) => { $crate::document::Absent::Default(|| $default) };
    (@absent $null:ident = $default:expr) => { $crate::document::Absent::OrNull(|| $default) };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $key:literal) => { $key };
    (for $name:ty {$(
        $(#[doc = $doc:literal])+
        $field:ident $(as $key:literal)? : $ty:ty $(| $null:ident)? $(= $default:expr)? => $kind:expr
    ),+ $(,)?}) => {
        impl $crate::document::Document for $name {
            fn read(members: &mut $crate::document::MemberReader<'_>) -> Option<Self> {
                use $crate::document::Kind as _;
                $(let $field = $crate::document::of::<$ty, _>($kind).member(
                    members,
                    $crate::document!(@name $field $($key)?),
                    $crate::document!(@absent $($null)? $(= $default)?),
                );)+
                Some(Self { $($field: $field?),+ })
            }

            fn describe(members: &mut $crate::document::schema::Members) {
                use $crate::document::Kind as _;
                $($crate::document::of::<$ty, _>($kind).describe(
                    $crate::document!(@name $field $($key)?),
                    concat!($($doc),+),
                    &$crate::document!(@absent $($null)? $(= $default)?),
                    members,
                );)+
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident {$(
        $(#[doc = $doc:literal])+
        $field_vis:vis $field:ident $(as $key:literal)? : $ty:ty $(| $null:ident)? = $default:expr => $kind:expr
    ),+ $(,)?}) => {
        $crate::document! {
            @struct $(#[$meta])* $vis struct $name {$(
                $(#[doc = $doc])+ $field_vis $field $(as $key)?: $ty $(| $null)? = $default => $kind
            ),+}
        }
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $($rest:tt)+) => {
        $crate::document! { @struct $(#[$meta])* $vis struct $($rest)+ }
    };
    (@struct $(#[$meta:meta])* $vis:vis struct $name:ident {$(
        $(#[doc = $doc:literal])+
        $field_vis:vis $field:ident $(as $key:literal)? : $ty:ty $(| $null:ident)? $(= $default:expr)? => $kind:expr
    ),+ $(,)?}) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[doc = $doc])+ $field_vis $field: $ty),+
        }
        $crate::document! {
            for $name {$(
                $(#[doc = $doc])+ $field $(as $key)?: $ty $(| $null)? $(= $default)? => $kind
            ),+}
        }
    };
}

#[cfg(test)]
mod tests;
