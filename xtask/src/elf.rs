//! Dependencies of a shared library on the system that loads it.

use crate::module::output;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// The needs of a shared library.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The other libraries, such as `libc.so.6`.
    pub(crate) libraries: Vec<String>,
    /// The oldest glibc that has all functions in use, such as `2.34`.
    pub(crate) glibc: String,
}

/// Reads the needs of `library` with binutils' `readelf`, which comes with the C compiler.
pub(crate) fn needs(library: &Path) -> Result<Needs> {
    let mut readelf = Command::new("readelf");
    readelf.args(["--wide", "--dynamic", "--version-info"]).arg(library).env("LC_ALL", "C");
    parse(&output(&mut readelf)?).with_context(|| format!("{} needs no version of glibc", library.display()))
}

fn parse(listing: &str) -> Option<Needs> {
    let libraries = listing.lines().filter_map(|line| line.split_once("(NEEDED)")?.1.split(['[', ']']).nth(1));
    let versions = listing.lines().filter_map(|line| line.split_once("Name: GLIBC_")?.1.split_whitespace().next());
    let numbers = |version: &&str| version.split('.').filter_map(|part| part.parse().ok()).collect::<Vec<u32>>();
    let glibc = versions.max_by_key(numbers)?.to_owned();
    Some(Needs { libraries: libraries.map(str::to_owned).collect(), glibc })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_is_needed() {
        let listing = "
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x0000000000000001 (NEEDED)             Shared library: [ld-linux-x86-64.so.2]
 0x000000000000000e (SONAME)             Library soname: [libedgesplit.so]
  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 3
  0x0020:   Name: GLIBC_2.34  Flags: none  Version: 4
  0x0030:   Name: GLIBC_2.2.5  Flags: none  Version: 2
";
        let libraries = ["libc.so.6", "ld-linux-x86-64.so.2"].map(str::to_owned).to_vec();
        assert_eq!(parse(listing), Some(Needs { libraries, glibc: "2.34".to_owned() }));
        assert_eq!(parse(""), None);
    }
}
