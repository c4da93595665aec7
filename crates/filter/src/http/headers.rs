//! Headers of a request or response. The native module borrows them from the proxy. The wasm module gets a copy, which is one
//! block of bytes in the proxy's encoding.

pub use edgesplit_engine::header_name::{HeaderLengthMask, NameSet, folded, is_name};

/// A header's name and value.
pub type Header<'a> = (&'a [u8], &'a [u8]);

/// Header names and values in their order. Values are arbitrary bytes.
#[derive(Debug, Clone)]
pub struct HeaderMap<'a> {
    form: Form<'a>,
}

#[derive(Debug, Clone)]
enum Form<'a> {
    /// In a block.
    Copied(&'a HeaderBlock),
    /// Each in a place of its own.
    Borrowed(Vec<Header<'a>>),
}

impl<'a> FromIterator<Header<'a>> for HeaderMap<'a> {
    fn from_iter<I: IntoIterator<Item = Header<'a>>>(headers: I) -> HeaderMap<'a> {
        HeaderMap { form: Form::Borrowed(headers.into_iter().collect()) }
    }
}

impl<'a> HeaderMap<'a> {
    /// These names and values.
    pub fn of<V: AsRef<[u8]> + ?Sized>(pairs: &[(&'a str, &'a V)]) -> HeaderMap<'a> {
        pairs.iter().map(|&(name, value)| (name.as_bytes(), value.as_ref())).collect()
    }

    /// A copy of the headers behind one more.
    pub fn with_first(&self, name: &str, value: &str) -> HeaderBlock {
        let first = (name.as_bytes(), value.as_bytes());
        HeaderBlock::from_pairs(&[first].into_iter().chain(self.iter()).collect::<Vec<_>>())
    }

    /// Every header in order.
    pub fn iter(&self) -> Iter<'_, 'a> {
        self.iter_with(HeaderLengthMask::ANY)
    }

    /// The headers whose names have one of these lengths, in order. Others cost next to nothing, and most headers of a
    /// request have other lengths.
    #[inline(always)]
    pub fn iter_with(&self, wanted: HeaderLengthMask) -> Iter<'_, 'a> {
        match &self.form {
            Form::Copied(block) => Iter::Copied(block.walk(), wanted),
            Form::Borrowed(headers) => Iter::Borrowed(headers.iter(), wanted),
        }
    }

    /// Passes the headers whose names have one of these lengths to `visit`, in the order of [`HeaderMap::iter_with`].
    #[inline(always)]
    pub fn each_with(&self, wanted: HeaderLengthMask, mut visit: impl FnMut(&'a [u8], &'a [u8])) {
        let mut headers = self.iter_with(wanted);
        while let Some((name, value)) = headers.advance() {
            visit(name, value);
        }
    }

    /// The first header called `name`, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let mut called = self.iter_with(HeaderLengthMask::of(&[name.len()]));
        called.find(|(found, _)| is_name(found, name.as_bytes())).map(|(_, value)| value)
    }

    /// Every header called `name`, which is in lower case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let called = self.iter_with(HeaderLengthMask::of(&[name.len()]));
        called.filter(move |(found, _)| is_name(found, name.as_bytes())).map(|(_, value)| value)
    }
}

/// Walks the headers of a [`HeaderMap`] whose names have one of these lengths.
#[derive(Debug, Clone)]
pub enum Iter<'m, 'a> {
    /// Through a block.
    Copied(BlockWalk<'a>, HeaderLengthMask),
    /// From place to place.
    Borrowed(std::slice::Iter<'m, Header<'a>>, HeaderLengthMask),
}

impl<'a> Iter<'_, 'a> {
    #[inline(always)]
    fn advance(&mut self) -> Option<Header<'a>> {
        match self {
            Iter::Copied(walk, wanted) => walk.advance(*wanted),
            Iter::Borrowed(headers, wanted) => headers.find(|(name, _)| wanted.contains(name.len())).copied(),
        }
    }
}

impl<'a> Iterator for Iter<'_, 'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.advance()
    }
}

/// A copy of headers in the proxy's encoding, which is read in place. Invalid lengths end the headers early; reads never pass
/// the end of the block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    /// Little-endian u32 numbers: the number of pairs, then each pair's two lengths. Then each name and value, followed by a
    /// NUL.
    bytes: Vec<u8>,
    /// The position of the last byte before the first name.
    before_texts: usize,
}

impl HeaderBlock {
    /// Takes over a block in the proxy's encoding.
    #[inline(always)]
    pub fn new(bytes: Vec<u8>) -> HeaderBlock {
        let claimed = bytes.first_chunk().map_or(0, |count| u32::from_le_bytes(*count)) as usize;
        // A count that exceeds the block is invalid: there are no headers then.
        let before_texts = claimed.checked_mul(8).and_then(|lengths| lengths.checked_add(3));
        HeaderBlock { before_texts: before_texts.filter(|before| *before < bytes.len()).unwrap_or(3), bytes }
    }

    /// Encodes pairs as the proxy would.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> HeaderBlock {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
        for (name, value) in pairs {
            bytes.extend_from_slice(&(name.as_ref().len() as u32).to_le_bytes());
            bytes.extend_from_slice(&(value.as_ref().len() as u32).to_le_bytes());
        }
        for (name, value) in pairs {
            for text in [name.as_ref(), value.as_ref()] {
                bytes.extend_from_slice(text);
                bytes.push(0);
            }
        }
        HeaderBlock::new(bytes)
    }

    /// The block in the proxy's encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The headers in the block.
    #[inline(always)]
    pub fn map(&self) -> HeaderMap<'_> {
        HeaderMap { form: Form::Copied(self) }
    }

    #[inline(always)]
    fn walk(&self) -> BlockWalk<'_> {
        let lengths = self.bytes.get(4..=self.before_texts).unwrap_or_default().as_chunks().0;
        let texts = self.bytes.get(self.before_texts..).unwrap_or_default();
        BlockWalk { lengths: lengths.iter(), texts }
    }
}

/// Walks a block.
#[derive(Debug, Clone)]
pub struct BlockWalk<'a> {
    lengths: std::slice::Iter<'a, [u8; 8]>,
    /// The names and values that are left, and the byte before them.
    texts: &'a [u8],
}

impl<'a> BlockWalk<'a> {
    #[inline(always)]
    fn advance(&mut self, wanted: HeaderLengthMask) -> Option<Header<'a>> {
        for lengths in self.lengths.by_ref() {
            let both = u64::from_le_bytes(*lengths);
            let (name_len, value_len) = (both as u32 as usize, (both >> 32) as usize);
            // A NUL precedes each text.
            let (header, texts) = self.texts.split_at_checked(name_len.checked_add(value_len)?.checked_add(2)?)?;
            self.texts = texts;
            if wanted.contains(name_len) {
                return Some((header.get(1..=name_len)?, header.get(name_len + 2..)?));
            }
        }
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_in_order_with_their_bytes() {
        let pairs: [(&str, &[u8]); 4] = [(":path", b"/"), ("cookie", b"a=1"), ("X-Odd", b"\xff\x00"), ("cookie", b"")];
        let block = HeaderBlock::from_pairs(&pairs);
        for map in [block.map(), HeaderMap::of(&pairs)] {
            assert_eq!(map.iter().collect::<Vec<_>>(), pairs.map(|(name, value)| (name.as_bytes(), value)));
            assert_eq!(map.iter_with(HeaderLengthMask::of(&[6])).count(), 2);
            assert_eq!(map.get("x-odd"), Some(&b"\xff\x00"[..]));
            assert_eq!(map.all("cookie").collect::<Vec<_>>(), [&b"a=1"[..], b""]);
            assert_eq!(map.get("host"), None);
        }
    }

    #[test]
    fn first_header_stands_before_the_others() {
        let block = HeaderBlock::from_pairs(&[(":path", "/"), ("cookie", "a=1")]);
        let first = HeaderBlock::from_pairs(&[("cookie", "b=2"), (":path", "/"), ("cookie", "a=1")]);
        assert_eq!(block.map().with_first("cookie", "b=2"), first);
        assert_eq!(HeaderBlock::default().map().with_first("a", ""), HeaderBlock::from_pairs(&[("a", "")]));
    }

    #[test]
    fn malformed_block_ends_early() {
        let whole = HeaderBlock::from_pairs(&[("a", "1"), ("b", "2")]).bytes;
        for end in 0..whole.len() {
            let cut = HeaderBlock::new(whole[..end].to_vec());
            assert!(cut.map().iter().count() <= 2, "{end} bytes");
        }
        for at in 0..12 {
            let mut lying = whole.clone();
            lying[at] = 0xff;
            lying[at.min(8) + 3] = 0xff;
            assert!(HeaderBlock::new(lying).map().iter().count() <= 2, "byte {at}");
        }
        assert_eq!(HeaderBlock::default().map().iter().count(), 0);
    }
}
