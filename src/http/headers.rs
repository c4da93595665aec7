//! A header map as the proxy hands it over: one block of bytes, read in place, so that looking at a request copies
//! nothing. Lying lengths end the map early; they never read past the block.

/// Header names and values in their order. Values are bytes: clients send what they like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderMap {
    /// Little-endian u32 numbers: how many pairs, then each pair's two lengths; then each name and value, a NUL behind
    /// each.
    block: Vec<u8>,
}

impl HeaderMap {
    /// Takes over a block in the proxy's encoding.
    pub fn from_block(block: Vec<u8>) -> HeaderMap {
        HeaderMap { block }
    }

    /// Encodes pairs as the proxy would.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> HeaderMap {
        let mut block = Vec::new();
        block.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
        for (name, value) in pairs {
            block.extend_from_slice(&(name.as_ref().len() as u32).to_le_bytes());
            block.extend_from_slice(&(value.as_ref().len() as u32).to_le_bytes());
        }
        for (name, value) in pairs {
            for text in [name.as_ref(), value.as_ref()] {
                block.extend_from_slice(text);
                block.push(0);
            }
        }
        HeaderMap { block }
    }

    /// The block in the proxy's encoding.
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// Every header in order.
    pub fn iter(&self) -> Iter<'_> {
        let pairs = length(&self.block, 0).unwrap_or(0);
        // A count that the block has no room for is a lie: then there are no pairs.
        let text = pairs.checked_mul(8).and_then(|lengths| lengths.checked_add(4));
        let text = text.filter(|&text| text <= self.block.len());
        Iter { block: &self.block, lengths: 4, left: if text.is_some() { pairs } else { 0 }, text: text.unwrap_or(0) }
    }

    /// The first header called `name`, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Every header called `name`, which is in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }
}

/// Walks a [`HeaderMap`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    block: &'a [u8],
    /// Where the next pair's lengths are.
    lengths: usize,
    /// How many pairs are left.
    left: usize,
    /// Where the next name is.
    text: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.take(length(self.block, self.lengths)?)?;
        let value = self.take(length(self.block, self.lengths + 4)?)?;
        self.lengths += 8;
        Some((name, value))
    }
}

impl<'a> Iter<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.text.checked_add(length)?;
        let text = self.block.get(self.text..end)?;
        self.text = end + 1;
        Some(text)
    }
}

fn length(block: &[u8], at: usize) -> Option<usize> {
    let bytes = block.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_in_order_with_their_bytes() {
        let pairs: [(&str, &[u8]); 4] = [(":path", b"/"), ("cookie", b"a=1"), ("X-Odd", b"\xff\x00"), ("cookie", b"")];
        let map = HeaderMap::from_pairs(&pairs);
        let read: Vec<_> = map.iter().collect();
        assert_eq!(read, pairs.map(|(name, value)| (name.as_bytes(), value)));
        assert_eq!(map.get("x-odd"), Some(&b"\xff\x00"[..]));
        assert_eq!(map.all("cookie").collect::<Vec<_>>(), [&b"a=1"[..], b""]);
        assert_eq!(map.get("host"), None);
    }

    #[test]
    fn a_lying_block_ends_early_and_never_panics() {
        let whole = HeaderMap::from_pairs(&[("a", "1"), ("b", "2")]).block;
        for end in 0..whole.len() {
            let cut = HeaderMap::from_block(whole[..end].to_vec());
            assert!(cut.iter().count() <= 2);
        }
        for at in 0..12 {
            let mut lying = whole.clone();
            lying[at] = 0xff;
            lying[at.min(8) + 3] = 0xff;
            assert!(HeaderMap::from_block(lying).iter().count() <= 2, "byte {at}");
        }
        assert_eq!(HeaderMap::default().iter().count(), 0);
    }
}
