//! Compressed configs: the output never exceeds its limit, and is the same in small steps and in large ones.

use edgesplit_filter::config_sync::decoder::Decoder;

const BYTES_MAX: usize = 64 << 10;
/// The limit of gzip members: a step may do no more than start one.
const MEMBERS_MAX: usize = 1_000;

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let [small, large] = [97, 1 << 20].map(|step| {
        let mut decoder = Decoder::gzip(data.to_vec(), BYTES_MAX);
        for _ in 0..=BYTES_MAX / 97 + MEMBERS_MAX + 1 {
            let is_complete = decoder.advance(step);
            assert!(decoder.text.len() <= BYTES_MAX + 1, "{} bytes", decoder.text.len());
            match is_complete {
                Ok(true) => return Some(decoder.text),
                Ok(false) => {}
                Err(problem) => {
                    assert!(!problem.is_empty(), "refused without a reason");
                    return None;
                }
            }
        }
        panic!("steps of {step} bytes do not end");
    });
    assert_eq!(small, large);
}
