//! Configs of every format, read and compiled in steps: the result does not depend on their size. The first byte selects the
//! format.

use edgesplit_formats::{Compiled, Options, find};

/// How many steps a config may take for each of its bytes.
const STEPS_PER_BYTE_MAX: usize = 100;

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    let name = ["native", "optimizely", "growthbook"][usize::from(which % 3)];
    let [small, large] = [1, 1 << 20].map(|step| compiled(name, text, step));
    assert_eq!(small, large, "{name}");
}

/// The problems, and the keys of the experiments and of the disabled ones. None if the config is refused.
fn compiled(name: &str, text: &[u8], step: usize) -> (Vec<String>, Option<Vec<Option<String>>>) {
    let options = Options::new(find(name).expect("a registered format"), 64);
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
