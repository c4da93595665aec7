//! From the bytes of a file to its text.

/// The starts of files that are no text, with their names.
const BINARY: [(&[u8], &str); 4] = [
    (b"\0asm", "a WebAssembly module"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x7fELF", "a program"),
];

/// The text in `bytes`, without a byte-order mark. An error names the kind of file.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, String> {
    if let Some((_, kind)) = BINARY.iter().find(|(start, _)| bytes.starts_with(start)) {
        return Err(format!("not JSON or YAML: the file is {kind}"));
    }
    // In UTF-16, every other byte of ASCII text is 0.
    let is_utf16 = |bytes: &[u8]| match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [a, b, c, d, ..] => [*a == 0, *b == 0] == [*c == 0, *d == 0] && (*a == 0) != (*b == 0),
        _ => false,
    };
    if is_utf16(&bytes) {
        return Err("not JSON or YAML in UTF-8: the text seems to be UTF-16; save it as UTF-8".to_owned());
    }
    let bytes = edgesplit_formats::without_byte_order_mark(bytes);
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("not JSON or YAML in UTF-8: byte {} is not valid UTF-8; save the file as UTF-8", at + 1)
    })?;
    if text.trim().is_empty() {
        return Err("not JSON or YAML: the file is empty".to_owned());
    }
    Ok(text)
}
