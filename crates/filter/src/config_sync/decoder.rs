//! Decompression of a fetched config.

use flate2::bufread::GzDecoder;
use std::io::{BufRead, Cursor, Read};

/// How many members gzip data may have, which are decompressed behind each other. Even an empty one takes time.
const MEMBERS_MAX: usize = 1_000;

/// Decompresses a config step by step.
#[derive(Debug)]
pub struct Decoder {
    /// The current member.
    gzip: Option<Box<GzDecoder<Cursor<Vec<u8>>>>>,
    /// How many members may follow it.
    members_left: usize,
    /// The config so far.
    pub text: Vec<u8>,
    bytes_max: usize,
}

impl Decoder {
    /// The config in `text`, which is not compressed.
    pub fn plain(text: Vec<u8>) -> Decoder {
        Decoder { gzip: None, members_left: 0, bytes_max: text.len(), text }
    }

    /// A compressed config of at most `bytes_max` bytes.
    pub fn gzip(body: Vec<u8>, bytes_max: usize) -> Decoder {
        let gzip = Some(Box::new(GzDecoder::new(Cursor::new(body))));
        Decoder { gzip, members_left: MEMBERS_MAX - 1, text: Vec::new(), bytes_max }
    }

    /// Decompresses the next `step` bytes. True once the config is complete; an error has the reason.
    pub fn advance(&mut self, step: usize) -> Result<bool, String> {
        let damaged = |error| format!("the gzip data is damaged: {error}");
        // One byte more than allowed is enough to see that there are too many.
        let mut left = step.min(self.bytes_max.saturating_sub(self.text.len()).saturating_add(1));
        while let Some(mut gzip) = self.gzip.take() {
            left -= gzip.by_ref().take(left as u64).read_to_end(&mut self.text).map_err(damaged)?;
            if self.text.len() > self.bytes_max {
                return Err(format!("decompressed, more bytes than experiments.max_bytes ({})", self.bytes_max));
            }
            if left == 0 {
                self.gzip = Some(gzip);
                return Ok(false);
            }
            let mut rest = gzip.into_inner();
            if !rest.fill_buf().map_err(damaged)?.is_empty() {
                let members_left = self.members_left.checked_sub(1);
                self.members_left =
                    members_left.ok_or_else(|| format!("the gzip data has over {MEMBERS_MAX} members"))?;
                self.gzip = Some(Box::new(GzDecoder::new(rest)));
            }
        }
        Ok(true)
    }
}
