//! Decompression of a fetched config.

use super::gzip::Gzip;

/// Decompresses a config step by step.
pub struct Decoder {
    /// None where the config is not compressed.
    gzip: Option<Gzip>,
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
        Decoder { gzip: Some(Gzip::new(body)), text: Vec::new(), bytes_max }
    }

    /// Decompresses the next `step` bytes. True once the config is complete; an error has the reason.
    pub fn advance(&mut self, step: usize) -> Result<bool, String> {
        let Some(gzip) = &mut self.gzip else { return Ok(true) };
        // One byte more than allowed is enough to see that there are too many.
        let left = self.bytes_max.saturating_sub(self.text.len()).saturating_add(1);
        let is_complete = gzip.advance(&mut self.text, step.min(left))?;
        if self.text.len() > self.bytes_max {
            return Err(format!("decompressed, more bytes than experiments.max_bytes ({})", self.bytes_max));
        }
        Ok(is_complete)
    }
}
