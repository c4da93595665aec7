//! Encrypted payloads: AES-CBC with a key of 128 bits and PKCS#7 padding, written `iv.text`, all in base64.

use aes::Aes128;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};

/// Base64 as browsers read it: padding is optional, and so are the bits that it leaves over.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The text behind `encrypted`; none where it does not fit `key`.
pub fn decrypt(encrypted: &str, key: &str) -> Option<String> {
    let mut parts = encrypted.split('.');
    let iv = decode(parts.next()?)?;
    let mut text = decode(parts.next()?)?;
    let cipher = cbc::Decryptor::<Aes128>::new_from_slices(&decode(key)?, &iv).ok()?;
    let plain = cipher.decrypt_padded::<Pkcs7>(&mut text).ok()?;
    Some(String::from_utf8_lossy(plain).into_owned())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let spaced = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0C');
    let bytes: Vec<u8> = text.bytes().filter(|&byte| !spaced(byte)).collect();
    BASE64.decode(bytes).ok()
}
