//! Decompressing gzip data (RFC 1952) step by step.

use crc::{CRC_32_ISO_HDLC, Crc, Digest};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// How many bytes are read at a time: they may decompress to nothing.
const READ_BYTES_PER_STEP: usize = 64 << 10;

/// How long the header of a member may be.
const HEADER_BYTES_MAX: usize = 128 << 10;

const DAMAGED: &str = "the gzip data is damaged";

/// Data that is being decompressed: members, one after another.
pub(super) struct Gzip {
    data: Vec<u8>,
    /// The bytes of `data` that have been read.
    read: usize,
    member: Option<Member>,
}

/// A member that is being decompressed.
struct Member {
    inflate: Box<DecompressorOxide>,
    /// Its start in the text.
    start: usize,
    checksum: Digest<'static, u32>,
}

impl Gzip {
    pub(super) fn new(data: Vec<u8>) -> Gzip {
        Gzip { data, read: 0, member: None }
    }

    /// Appends at most `bytes_max` bytes to `text`. True at the end of the data.
    pub(super) fn advance(&mut self, text: &mut Vec<u8>, bytes_max: usize) -> Result<bool, &'static str> {
        let mut rest = self.data.get(self.read..).unwrap_or_default();
        let mut member = match self.member.take() {
            Some(member) => member,
            None => {
                let start = rest.get(..rest.len().min(HEADER_BYTES_MAX)).unwrap_or_default();
                let header = start.len() - after_header(start).ok_or(DAMAGED)?.len();
                rest = rest.get(header..).unwrap_or_default();
                Member { inflate: Box::default(), start: text.len(), checksum: CRC.digest() }
            }
        };
        // The text is also the window that back-references point into.
        let text_len = text.len();
        text.resize(text_len + bytes_max, 0);
        let window = text.get_mut(member.start..).unwrap_or_default();
        let position = text_len - member.start;
        let part = rest.get(..rest.len().min(READ_BYTES_PER_STEP)).unwrap_or_default();
        let has_more = if part.len() < rest.len() { TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | has_more;
        let (status, read, written) = decompress(&mut member.inflate, part, window, position, flags);
        text.truncate(text_len + written);
        member.checksum.update(text.get(text_len..).unwrap_or_default());
        rest = rest.get(read..).unwrap_or_default();
        match status {
            TINFLStatus::HasMoreOutput => self.member = Some(member),
            TINFLStatus::NeedsMoreInput if has_more != 0 => self.member = Some(member),
            TINFLStatus::Done => {
                let (checksum, after) = rest.split_first_chunk().ok_or(DAMAGED)?;
                let (len, after) = after.split_first_chunk().ok_or(DAMAGED)?;
                let is_intact = u32::from_le_bytes(*checksum) == member.checksum.finalize()
                    && u32::from_le_bytes(*len) == (text.len() - member.start) as u32;
                rest = Some(after).filter(|_| is_intact).ok_or(DAMAGED)?;
            }
            _ => return Err(DAMAGED),
        }
        self.read = self.data.len() - rest.len();
        Ok(self.member.is_none() && self.read == self.data.len())
    }
}

/// The bytes after the header of a member.
fn after_header(data: &[u8]) -> Option<&[u8]> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let [0x1f, 0x8b, 8, flags @ ..=0x1f, _, _, _, _, _, _, rest @ ..] = data else { return None };
    let (has, mut rest) = (|flag| flags & flag != 0, rest);
    if has(EXTRA) {
        let (len, after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    for _ in [NAME, COMMENT].into_iter().filter(|flag| has(*flag)) {
        rest = rest.splitn(2, |byte| *byte == 0).nth(1)?;
    }
    if has(HEADER_CRC) { rest.get(2..) } else { Some(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder};
    use std::io::Write;

    fn decompress(data: &[u8], step: usize) -> Result<Vec<u8>, &'static str> {
        let (mut gzip, mut text) = (Gzip::new(data.to_vec()), Vec::new());
        while !gzip.advance(&mut text, step)? {}
        Ok(text)
    }

    fn compress(builder: GzBuilder, text: &[u8]) -> Vec<u8> {
        let mut encoder = builder.write(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_and_header_fields_are_read_in_steps() {
        let first: Vec<u8> = (0..100_000_u32).flat_map(|number| (number % 1_000).to_le_bytes()).collect();
        let named = GzBuilder::new().filename("a").comment("b").extra(b"cd".to_vec()).mtime(7);
        let data =
            [compress(named, &first), compress(GzBuilder::new(), b""), compress(GzBuilder::new(), b"end")].concat();
        let expected = [&first[..], b"end"].concat();
        for step in [1, 1_000, 1 << 20] {
            assert!(decompress(&data, step).unwrap() == expected, "{step}");
        }
    }

    #[test]
    fn damage_is_noticed() {
        let data = compress(GzBuilder::new(), b"twelve bytes, and twelve bytes");
        assert!(decompress(&data, 8).is_ok());
        for length in 0..data.len() {
            assert_eq!(decompress(&data[..length], 8), Err(DAMAGED), "{length}");
        }
        // The method and the flags, and the trailer.
        for at in (0..4).chain(data.len() - 8..data.len()) {
            let mut damaged = data.clone();
            damaged[at] ^= 0x40;
            assert_eq!(decompress(&damaged, 8), Err(DAMAGED), "{at}");
        }
        assert_eq!(decompress(&[&data[..], b"x"].concat(), 8), Err(DAMAGED));
    }
}
