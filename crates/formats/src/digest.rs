//! The digests that vendors bucket by: the starts of MD5 (RFC 1321) and SHA-1 (RFC 3174). Neither protects anything here.

/// The first 4 bytes of the MD5 of `parts` together, as a big-endian number.
pub(crate) fn md5_start(parts: &[&str]) -> u32 {
    let message = padded(parts, u64::to_le_bytes);
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in message.as_chunks::<64>().0 {
        md5_block(&mut state, &words(block, u32::from_le_bytes));
    }
    state[0].swap_bytes()
}

/// The first 8 bytes of the SHA-1 of `parts` together, as a big-endian number.
pub(crate) fn sha1_start(parts: &[&str]) -> u64 {
    let message = padded(parts, u64::to_be_bytes);
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in message.as_chunks::<64>().0 {
        sha1_block(&mut state, words(block, u32::from_be_bytes));
    }
    u64::from(state[0]) << 32 | u64::from(state[1])
}

/// `parts` behind each other, filled up to whole blocks with the end mark and the length in bits.
fn padded(parts: &[&str], length: fn(u64) -> [u8; 8]) -> Vec<u8> {
    let mut message = parts.concat().into_bytes();
    let bits = 8 * message.len() as u64;
    message.push(0x80);
    message.resize((message.len() + 8).next_multiple_of(64) - 8, 0);
    message.extend(length(bits));
    message
}

fn words(block: &[u8; 64], word: fn([u8; 4]) -> u32) -> [u32; 16] {
    let mut words = [0; 16];
    words.iter_mut().zip(block.as_chunks().0).for_each(|(into, bytes)| *into = word(*bytes));
    words
}

/// The words of a block are used in four different orders.
fn at(words: &[u32; 16], position: usize) -> u32 {
    words.get(position % 16).copied().unwrap_or_default()
}

fn md5_block(state: &mut [u32; 4], words: &[u32; 16]) {
    let [mut a, mut b, mut c, mut d] = *state;
    for (step, sine) in SINES.iter().enumerate() {
        let (mixed, position, shifts) = match step / 16 {
            0 => (b & c | !b & d, step, [7, 12, 17, 22]),
            1 => (d & b | !d & c, 5 * step + 1, [5, 9, 14, 20]),
            2 => (b ^ c ^ d, 3 * step + 5, [4, 11, 16, 23]),
            _ => (c ^ (b | !d), 7 * step, [6, 10, 15, 21]),
        };
        let sum = a.wrapping_add(mixed).wrapping_add(*sine).wrapping_add(at(words, position));
        let shift = shifts.get(step % 4).copied().unwrap_or_default();
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(shift)));
    }
    *state = add(*state, [a, b, c, d]);
}

fn sha1_block(state: &mut [u32; 5], mut words: [u32; 16]) {
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for step in 0..80 {
        let word = if step < 16 {
            at(&words, step)
        } else {
            let next = at(&words, step) ^ at(&words, step + 2) ^ at(&words, step + 8) ^ at(&words, step + 13);
            next.rotate_left(1)
        };
        if let Some(place) = words.get_mut(step % 16) {
            *place = word;
        }
        let (mixed, constant) = match step / 20 {
            0 => (b & c | !b & d, 0x5a82_7999_u32),
            1 => (b ^ c ^ d, 0x6ed9_eba1),
            2 => (b & c | b & d | c & d, 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6),
        };
        let sum = a.rotate_left(5).wrapping_add(mixed).wrapping_add(constant);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, sum.wrapping_add(e).wrapping_add(word));
    }
    *state = add(*state, [a, b, c, d, e]);
}

fn add<const N: usize>(mut state: [u32; N], block: [u32; N]) -> [u32; N] {
    state.iter_mut().zip(block).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
    state
}

/// The first 32 bits after the point of the sines of 1 to 64.
const SINES: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8,
    0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340,
    0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87,
    0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
    0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039,
    0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92,
    0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
    0xeb86d391,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_follows_the_rfc() {
        for (parts, expected) in [
            (&[""][..], 0xd41d_8cd9),
            (&["message ", "digest"], 0xf96b_697d),
            (&["abcdefghijklmnopqrstuvwxyz"], 0xc3fc_d3d7),
            (&["1234567890"; 8], 0x57ed_f4a2),
        ] {
            assert_eq!(md5_start(parts), expected, "{parts:?}");
        }
        for (salt, id, shards, expected) in [
            ("split-nav", "u1", 10_000, 9_145),
            ("split-nav", "größe 7", 10_000, 8_782),
            ("traffic-nav", "u42", 1_000_000, 460_184),
        ] {
            assert_eq!(md5_start(&[salt, "-", id]) % shards, expected, "{salt} {id}");
        }
    }

    #[test]
    fn sha1_follows_the_rfc() {
        for (parts, expected) in [
            (&["a", "bc"][..], 0xa999_3e36_4706_816a),
            (&["abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"], 0x8498_3e44_1c3b_d26e),
            (&["0123456701234567012345670123456701234567012345670123456701234567"; 10], 0xdea3_56a2_cddd_90c7),
        ] {
            assert_eq!(sha1_start(parts), expected, "{parts:?}");
        }
    }
}
