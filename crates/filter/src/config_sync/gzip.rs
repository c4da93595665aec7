//! Gzip data (RFC 1952), decompressed step by step.

use crc::{CRC_32_ISO_HDLC, Crc, Digest};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// How many members gzip data may have, which are decompressed behind each other. Even an empty one takes time.
const MEMBERS_MAX: usize = 1_000;
/// How many bytes of text take as long as the start of a member.
const MEMBER_COST: usize = 16 << 10;
/// How many bytes are decompressed at once.
const CHUNK: usize = 32 << 10;
/// How a member starts: two bytes of magic, and deflate as the method.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
const CUT_OFF: &str = "it ends in the middle";

// The optional parts of a member's head, by the bits of its flags.
const HEAD_CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

/// Decompresses a body.
pub(super) struct Gzip {
    body: Vec<u8>,
    /// How many bytes of it are read.
    position: usize,
    members: usize,
    inflate: Box<InflateState>,
    /// The checksum and the length of the current member's text so far; none between members.
    member: Option<(Digest<'static, u32>, u32)>,
}

impl Gzip {
    pub(super) fn new(body: Vec<u8>) -> Gzip {
        Gzip { body, position: 0, members: 0, inflate: InflateState::new_boxed(DataFormat::Raw), member: None }
    }

    /// Appends up to `step` bytes of text. True once it is complete; an error has the reason.
    pub(super) fn advance(&mut self, text: &mut Vec<u8>, step: usize) -> Result<bool, String> {
        let mut left = step;
        while left > 0 {
            if self.member.is_none() {
                if self.members > 0 && self.position == self.body.len() {
                    return Ok(true);
                }
                self.start_member()?;
                left = left.saturating_sub(MEMBER_COST).max(1);
            }
            left -= self.inflate(text, left).map_err(|reason| format!("the gzip data is damaged: {reason}"))?;
        }
        Ok(false)
    }

    fn start_member(&mut self) -> Result<(), String> {
        if self.members == MEMBERS_MAX {
            return Err(format!("the gzip data has over {MEMBERS_MAX} members"));
        }
        self.members += 1;
        self.head().map_err(|reason| format!("the gzip data is damaged: {reason}"))?;
        self.inflate.reset(DataFormat::Raw);
        self.member = Some((CRC.digest(), 0));
        Ok(())
    }

    /// Skips a member's head.
    fn head(&mut self) -> Result<(), &'static str> {
        if !self.body.get(self.position..).is_some_and(|rest| rest.starts_with(&MAGIC)) {
            return Err("not a gzip header");
        }
        let &[.., flags, _, _, _, _, _, _] = self.take(10)? else { return Err(CUT_OFF) };
        if flags & EXTRA != 0 {
            let length = self.take(2)?.try_into().map(u16::from_le_bytes).unwrap_or_default();
            self.take(length.into())?;
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                let rest = self.body.get(self.position..).unwrap_or_default();
                self.position += 1 + rest.iter().position(|byte| *byte == 0).ok_or(CUT_OFF)?;
            }
        }
        if flags & HEAD_CHECKSUM != 0 {
            self.take(2)?;
        }
        Ok(())
    }

    /// Appends up to `bytes_max` bytes of the current member's text. Gives their number.
    fn inflate(&mut self, text: &mut Vec<u8>, bytes_max: usize) -> Result<usize, &'static str> {
        let start = text.len();
        text.resize(start + bytes_max.min(CHUNK), 0);
        let (input, output) = (self.body.get(self.position..), text.get_mut(start..));
        let result = inflate(&mut self.inflate, input.unwrap_or_default(), output.unwrap_or_default(), MZFlush::None);
        let written = result.bytes_written;
        self.position += result.bytes_consumed;
        text.truncate(start + written);
        if let Some((checksum, length)) = &mut self.member {
            checksum.update(text.get(start..).unwrap_or_default());
            *length = length.wrapping_add(written as u32);
        }
        match result.status {
            Ok(MZStatus::StreamEnd) => self.end_member()?,
            Ok(_) if result.bytes_consumed + written > 0 => {}
            Ok(_) | Err(MZError::Buf) => return Err(CUT_OFF),
            Err(_) => return Err("invalid deflate data"),
        }
        Ok(written)
    }

    /// Compares a member's text with the checksum and the length behind it.
    fn end_member(&mut self) -> Result<(), &'static str> {
        let (checksum, length) = self.member.take().map_or((0, 0), |(checksum, length)| (checksum.finalize(), length));
        let expected = [checksum.to_le_bytes(), length.to_le_bytes()];
        if self.take(8)? == expected.as_flattened() { Ok(()) } else { Err("its checksum does not match") }
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8], &'static str> {
        let taken = self.body.get(self.position..).and_then(|rest| rest.get(..bytes)).ok_or(CUT_OFF)?;
        self.position += bytes;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder};
    use std::io::Write;

    fn decompress(body: Vec<u8>, step: usize) -> Result<Vec<u8>, String> {
        let (mut gzip, mut text) = (Gzip::new(body), Vec::new());
        while !gzip.advance(&mut text, step)? {}
        Ok(text)
    }

    fn member(builder: GzBuilder, text: &[u8]) -> Vec<u8> {
        let mut encoder = builder.write(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_part_of_a_head_is_skipped() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let named = || GzBuilder::new().extra([1, 0, 0, 9]).filename("a").comment("");
        let mut checked = member(GzBuilder::new(), &text);
        checked[3] = HEAD_CHECKSUM;
        checked.splice(10..10, [7, 7]);
        for body in [member(GzBuilder::new(), &text), member(named(), &text), checked] {
            for step in [1, 1_000, 1 << 20] {
                assert!(decompress(body.clone(), step).unwrap() == text, "{step}");
            }
        }
    }

    #[test]
    fn damaged_data_is_refused_with_the_reason() {
        let good = member(GzBuilder::new().filename("name"), b"text of a config");
        for end in MAGIC.len()..good.len() {
            assert_eq!(
                decompress(good[..end].to_vec(), 10).unwrap_err(),
                "the gzip data is damaged: it ends in the middle"
            );
        }
        let text = decompress(good.clone(), 10).unwrap();
        for (from_end, expected) in [(1, "checksum"), (5, "checksum"), (8, "checksum"), (good.len(), "gzip header")] {
            let mut body = good.clone();
            let at = body.len() - from_end;
            body[at] ^= 1;
            let error = decompress(body, 10).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut body = good.clone();
                body[at] ^= 1 << bit;
                let result = decompress(body, 10);
                assert!(
                    result.as_ref().is_ok_and(|read| *read == text) || result.is_err(),
                    "bit {bit} of {at}: {result:?}"
                );
            }
        }
        assert!(decompress([good, b"<html>".to_vec()].concat(), 10).unwrap_err().contains("not a gzip header"));
    }
}
