//! Tests that run the vendors' own cases. The cases are not part of this repository.

use crate::root;
use crate::skip::skip_test;
use libtest_mimic::{Arguments, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A test over the folder with a vendor's cases.
pub struct CaseTest {
    pub name: &'static str,
    pub vendor: &'static str,
    pub run: fn(&Path),
}

/// Runs the tests like libtest. Without a vendor's cases, its tests end as ignored and name the missing folder.
pub fn main(tests: &[CaseTest]) -> ExitCode {
    let cases =
        std::env::var_os("EDGESPLIT_CONFORMANCE").map_or_else(|| root().join("../shared/conformance"), PathBuf::from);
    let trials = tests.iter().map(|test| {
        let folder = cases.join(test.vendor);
        let is_missing = !folder.is_dir();
        let kind = if is_missing { format!("no cases in {}", folder.display()) } else { String::new() };
        let run = test.run;
        Trial::test(test.name, move || {
            run(&folder);
            Ok(())
        })
        .with_kind(kind)
        .with_ignored_flag(is_missing)
    });
    let (args, trials) = (Arguments::from_args(), trials.collect::<Vec<_>>());
    let missing = tests.iter().filter(|test| !args.list && !cases.join(test.vendor).is_dir());
    for test in missing {
        skip_test(
            test.name,
            &format!("needs the test cases of {}: EDGESPLIT_CONFORMANCE names their folder", test.vendor),
        );
    }
    libtest_mimic::run(&args, trials).exit_code()
}
