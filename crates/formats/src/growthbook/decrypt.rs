//! Encrypted payloads: AES-CBC with a key of 128 bits and PKCS#7 padding, written `iv.text`, all in base64.

use aes::Aes128;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cbc::Decryptor;
use cbc::cipher::{Array, BlockModeDecrypt, KeyIvInit};

/// Base64 as browsers read it: padding is optional, and so are the bits that it leaves over.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How many characters of base64 stand for a whole number of bytes.
const BASE64_GROUP: usize = 4;
const BLOCK_BYTES: usize = 16;

/// The plain text of `encrypted`; none if `key` does not decrypt it.
pub fn decrypt(encrypted: &str, key: &str) -> Option<String> {
    let mut decryption = Decryption::begin(encrypted, key, Vec::new())?;
    while !decryption.advance(encrypted, usize::MAX)? {}
    Some(String::from_utf8_lossy(&decryption.finish()?).into_owned())
}

/// A text that is being decrypted, part by part.
#[derive(Debug)]
pub(super) struct Decryption {
    cipher: Decryptor<Aes128>,
    /// The position in the encrypted text.
    at: usize,
    /// Characters of base64 that were read and not decoded yet.
    characters: Vec<u8>,
    /// The text in front of the decrypted one, the decrypted text, and bytes that are less than a block.
    text: Vec<u8>,
    /// Where these bytes begin.
    decrypted: usize,
    start: usize,
}

impl Decryption {
    /// Begins with `encrypted`, whose text is appended to `text`. None if the key or the start of the text is wrong.
    pub(super) fn begin(encrypted: &str, key: &str, text: Vec<u8>) -> Option<Decryption> {
        let at = encrypted.find('.')?;
        let iv = decode(&without_spaces(encrypted.get(..at)?))?;
        let cipher = Decryptor::new_from_slices(&decode(&without_spaces(key))?, &iv).ok()?;
        let start = text.len();
        Some(Decryption { cipher, at: at + 1, characters: Vec::new(), text, decrypted: start, start })
    }

    /// Decrypts the next `bytes_max` bytes of `encrypted`, with which it began. True at the end; none if they are invalid.
    pub(super) fn advance(&mut self, encrypted: &str, bytes_max: usize) -> Option<bool> {
        let end = self.at.saturating_add(bytes_max).min(encrypted.len());
        let part = encrypted.as_bytes().get(self.at..end)?;
        let (part, is_end) = match part.iter().position(|byte| *byte == b'.') {
            Some(length) => (part.get(..length)?, true),
            None => (part, end == encrypted.len()),
        };
        self.at = end;
        self.characters.extend(part.iter().filter(|byte| !byte.is_ascii_whitespace()));
        // The last group may be incomplete, and padding may only stand in it.
        let kept = if is_end { 0 } else { BASE64_GROUP + self.characters.len() % BASE64_GROUP };
        let now = self.characters.len().saturating_sub(kept);
        self.text.extend(decode(self.characters.get(..now)?)?);
        self.characters.drain(..now);
        let (blocks, _) = Array::slice_as_chunks_mut(self.text.get_mut(self.decrypted..)?);
        self.cipher.decrypt_blocks(blocks);
        self.decrypted += blocks.len() * BLOCK_BYTES;
        Some(is_end)
    }

    /// The decrypted text; none if its end is wrong.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        let padding = usize::from(*self.text.get(self.start..)?.last()?);
        let length = self.text.len().checked_sub(padding).filter(|length| *length >= self.start)?;
        let is_padded = self.text.get(length..)?.iter().all(|byte| usize::from(*byte) == padding);
        let is_whole = self.decrypted == self.text.len() && (1..=BLOCK_BYTES).contains(&padding);
        self.text.truncate(length);
        Some(self.text).filter(|_| is_padded && is_whole)
    }
}

fn without_spaces(text: &str) -> Vec<u8> {
    text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

fn decode(characters: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(characters).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_decrypt_to_the_whole() {
        // Encrypted by OpenSSL.
        const ENCRYPTED: &str = "Dw4NDAsKCQgHBgUEAwIBAA==.AlKh4xeBrsOUec/t5T4hzmYHya+UHQsxewbPRSYmQO3gYVSejL5qtJqQn408PEg6gmBplr5YNZHV0c5oqrNZ3w==";
        let (key, plain) = ("AAECAwQFBgcICQoLDA0ODw==", "feature flags, encrypted with a key of 128 bits!");
        let spaced = ENCRYPTED.replace('A', "A \n");
        for encrypted in [ENCRYPTED, spaced.as_str(), &format!("{ENCRYPTED}.more"), ENCRYPTED.trim_end_matches('=')] {
            assert_eq!(decrypt(encrypted, key).as_deref(), Some(plain), "{encrypted}");
            for bytes_max in 1..60 {
                let mut decryption = Decryption::begin(encrypted, key, b"> ".to_vec()).unwrap();
                while !decryption.advance(encrypted, bytes_max).unwrap() {}
                assert_eq!(decryption.finish().unwrap(), format!("> {plain}").into_bytes(), "{bytes_max} at a time");
            }
        }
        for end in 0..ENCRYPTED.len() - 2 {
            assert_eq!(decrypt(ENCRYPTED.get(..end).unwrap(), key), None, "cut at {end}");
        }
    }
}
