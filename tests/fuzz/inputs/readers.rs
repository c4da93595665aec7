//! Configs of every format, read and compiled in steps: the result does not depend on their size. The first byte selects the
//! format.

use edgesplit_formats::{Compiled, FormatRef, Options, formats};

/// How many steps a config may take for each of its bytes.
const STEPS_PER_BYTE_MAX: usize = 100;

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    let Some(format) = formats().nth(usize::from(which % 16)) else { return };
    let [small, large] = [1, 1 << 20].map(|step| compiled(format, text, step));
    assert_eq!(small, large, "{format:?}");
}

/// The problems, and the keys of the experiments and of the disabled ones. None if the config is refused.
fn compiled(format: FormatRef, text: &[u8], step: usize) -> (Vec<String>, Option<Vec<Option<String>>>) {
    let options = Options::new(format, 64);
    let mut compilation = options.format.begin(text.to_vec(), &options);
    let mut steps = 0;
    while !compilation.advance(step) {
        steps += 1;
        assert!(steps < STEPS_PER_BYTE_MAX * (text.len() + 100), "steps of {step} bytes do not end");
    }
    let (Compiled { snapshot, problems }, _) = compilation.finish();
    let problems = problems.iter().map(ToString::to_string).collect();
    let keys = snapshot.map(|snapshot| {
        let enabled = snapshot.experiments.iter().map(|experiment| Some(experiment.key.to_string()));
        enabled.chain(snapshot.disabled.iter().map(|disabled| disabled.key.clone())).collect()
    });
    (problems, keys)
}
