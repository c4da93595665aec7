//! Decompression of a fetched config.

use flate2::read::MultiGzDecoder;
use std::io::{Cursor, Read};

/// Decompresses a config step by step.
#[derive(Debug)]
pub struct Decoder {
    gzip: Option<Box<MultiGzDecoder<Cursor<Vec<u8>>>>>,
    /// The config so far.
    pub text: Vec<u8>,
    bytes_max: usize,
}

impl Decoder {
    /// The config in `text`, which is not compressed.
    pub fn plain(text: Vec<u8>) -> Decoder {
        Decoder { gzip: None, bytes_max: text.len(), text }
    }

    /// A compressed config of at most `bytes_max` bytes.
    pub fn gzip(body: Vec<u8>, bytes_max: usize) -> Decoder {
        Decoder { gzip: Some(Box::new(MultiGzDecoder::new(Cursor::new(body)))), text: Vec::new(), bytes_max }
    }

    /// Decompresses the next `step` bytes. True once the config is complete; an error has the reason.
    pub fn advance(&mut self, step: usize) -> Result<bool, String> {
        let Some(gzip) = &mut self.gzip else { return Ok(true) };
        // One byte more than allowed is enough to see that there are too many.
        let step = step.min(self.bytes_max.saturating_sub(self.text.len()).saturating_add(1));
        let read = gzip.take(step as u64).read_to_end(&mut self.text);
        let read = read.map_err(|error| format!("the gzip data is damaged: {error}"))?;
        if self.text.len() > self.bytes_max {
            return Err(format!("decompressed, more bytes than experiments.max_bytes ({})", self.bytes_max));
        }
        Ok(read < step)
    }
}
