//! The folder of the spool. Only the native module can have one.

#[cfg(not(target_arch = "wasm32"))]
pub(super) use native::SPOOL;
#[cfg(not(target_arch = "wasm32"))]
pub use native::SpoolFolder;
#[cfg(target_arch = "wasm32")]
pub(super) use wasm::SPOOL;
#[cfg(target_arch = "wasm32")]
pub use wasm::SpoolFolder;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use edgesplit_formats::document::{Nullable, Text};

    /// The absolute path of a folder.
    pub type SpoolFolder = String;

    /// The longest path in characters.
    const PATH_CHARS_MAX: usize = 1_024;

    pub(crate) const SPOOL: Nullable<Text> = Nullable(Text::new("an absolute path", "^/[^\\u0000]{1,1023}$", |path| {
        path.starts_with('/') && (2..=PATH_CHARS_MAX).contains(&path.chars().count()) && !path.contains('\0')
    }));
}

#[cfg(target_arch = "wasm32")]
mod wasm {
    use edgesplit_formats::diagnostics::{Node, Problems};
    use edgesplit_formats::document::{Absent, Kind, MemberReader};
    use serde_json::Value;
    use std::convert::Infallible;

    /// A wasm module has no disk, and no folder.
    pub type SpoolFolder = Infallible;

    /// Refuses every value.
    pub(crate) struct NativeOnly;

    pub(crate) const SPOOL: NativeOnly = NativeOnly;

    impl Kind for NativeOnly {
        type Value = Option<SpoolFolder>;

        fn expected(&self) -> String {
            String::new()
        }

        fn read(&self, _: Node<'_>, _: &mut Problems) -> Option<Self::Value> {
            None
        }

        fn member(
            &self,
            members: &mut MemberReader<'_>,
            name: &'static str,
            _: Absent<Self::Value>,
        ) -> Option<Self::Value> {
            if members.find(name, true).is_some() {
                members.problems.error(&members.node.path.field(name), "needs the native module, libedgesplit.so");
            }
            Some(None)
        }

        fn schema(&self) -> Value {
            Value::Null
        }
    }
}
