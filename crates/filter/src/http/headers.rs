//! A header map in the proxy's encoding: one block of bytes, which is read in place and not copied. Invalid lengths end the
//! map early; reads never pass the end of the block.

pub use edgesplit_engine::header_name::{HeaderLengthMask, NameSet, folded, is_name};

/// Header names and values in their order. Values are arbitrary bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderMap {
    /// Little-endian u32 numbers: the number of pairs, then each pair's two lengths. Then each name and value, followed by a
    /// NUL.
    block: Vec<u8>,
    /// The position of the last byte before the first name.
    before_texts: usize,
}

impl HeaderMap {
    /// Takes over a block in the proxy's encoding.
    #[inline(always)]
    pub fn from_block(block: Vec<u8>) -> HeaderMap {
        let claimed = block.first_chunk().map_or(0, |count| u32::from_le_bytes(*count)) as usize;
        // A count that exceeds the block is invalid: the map is empty then.
        let before_texts = claimed.checked_mul(8).and_then(|lengths| lengths.checked_add(3));
        HeaderMap { before_texts: before_texts.filter(|before| *before < block.len()).unwrap_or(3), block }
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
        HeaderMap::from_block(block)
    }

    /// The same headers behind one more.
    pub fn with_first(&self, name: &str, value: &str) -> HeaderMap {
        let (lengths, texts) = self.block.split_at_checked(self.before_texts + 1).unwrap_or_default();
        let lengths = lengths.get(4..).unwrap_or_default();
        let number = |length: usize| (length as u32).to_le_bytes();
        let [count, name_len, value_len] = [lengths.len() / 8 + 1, name.len(), value.len()].map(number);
        let first = [name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat();
        HeaderMap::from_block([&count, &name_len, &value_len, lengths, &first, texts].concat())
    }

    /// The block in the proxy's encoding.
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// Every header in order.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_with(HeaderLengthMask::ANY)
    }

    /// The headers whose names have one of these lengths, in order. Others cost next to nothing, and most headers of a
    /// request have other lengths.
    #[inline(always)]
    pub fn iter_with(&self, wanted: HeaderLengthMask) -> Iter<'_> {
        let lengths = self.block.get(4..=self.before_texts).unwrap_or_default().as_chunks().0;
        let texts = self.block.get(self.before_texts..).unwrap_or_default();
        Iter { lengths: lengths.iter(), texts, wanted }
    }

    /// Passes the headers whose names have one of these lengths to `visit`, in the order of [`HeaderMap::iter_with`].
    #[inline(always)]
    pub fn each_with<'a>(&'a self, wanted: HeaderLengthMask, mut visit: impl FnMut(&'a [u8], &'a [u8])) {
        let mut headers = self.iter_with(wanted);
        while let Some((name, value)) = headers.advance() {
            visit(name, value);
        }
    }

    /// The first header called `name`, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let mut called = self.iter_with(HeaderLengthMask::of(&[name.len()]));
        called.find(|(found, _)| is_name(found, name.as_bytes())).map(|(_, value)| value)
    }

    /// Every header called `name`, which is in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        let called = self.iter_with(HeaderLengthMask::of(&[name.len()]));
        called.filter(|(found, _)| is_name(found, name.as_bytes())).map(|(_, value)| value)
    }
}

/// The elements of a header that is a list, with the blanks around them. A comma in quotes does not separate.
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    value.split(move |byte| {
        is_quoted ^= *byte == b'"';
        *byte == b',' && !is_quoted
    })
}

/// Walks a [`HeaderMap`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    lengths: std::slice::Iter<'a, [u8; 8]>,
    /// The names and values that are left, and the byte before them.
    texts: &'a [u8],
    wanted: HeaderLengthMask,
}

impl<'a> Iter<'a> {
    #[inline(always)]
    fn advance(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        for lengths in self.lengths.by_ref() {
            let both = u64::from_le_bytes(*lengths);
            let (name, texts) = split_text(self.texts, both as u32 as usize)?;
            let (value, texts) = split_text(texts, (both >> 32) as usize)?;
            self.texts = texts;
            if self.wanted.contains(name.len()) {
                return Some((name, value));
            }
        }
        None
    }
}

/// The text of this length behind the first byte of `texts`, and the rest. The first byte is the NUL of the text before.
#[inline(always)]
fn split_text(texts: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    texts.get(1..)?.split_at_checked(length)
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.advance()
    }
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
    fn first_header_stands_before_the_others() {
        let pairs = [(":path", "/"), ("cookie", "a=1")];
        let first = [("cookie", "b=2"), (":path", "/"), ("cookie", "a=1")];
        assert_eq!(HeaderMap::from_pairs(&pairs).with_first("cookie", "b=2"), HeaderMap::from_pairs(&first));
        assert_eq!(HeaderMap::default().with_first("a", ""), HeaderMap::from_pairs(&[("a", "")]));
    }

    #[test]
    fn malformed_block_ends_early() {
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
