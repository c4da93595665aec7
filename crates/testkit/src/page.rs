//! The pages of the docs: their fenced blocks, and the commands in these.

use super::root;
use super::skip::skip;
use std::collections::VecDeque;
use std::fs;
use std::process::Command;

/// A fenced block of a page.
#[derive(Debug)]
pub struct Block {
    /// The words behind the fence: language and purpose.
    pub info: String,
    pub lines: Vec<String>,
}

/// The blocks of `docs/NAME.md`.
pub fn blocks(name: &str) -> Vec<Block> {
    let page = fs::read_to_string(root().join(format!("docs/{name}.md"))).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(info) => {
                is_open = true;
                blocks.push(Block { info: info.to_owned(), lines: Vec::new() });
            }
            None if is_open => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            None => {}
        }
    }
    blocks
}

/// The commands of a block, each with its expected output.
pub fn commands(block: &Block) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in &block.lines {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command.to_owned(), Vec::new())),
            None => commands.last_mut().expect("a block starts with a command").1.push(line.clone()),
        }
    }
    commands
}

/// Checks that `text` has the lines `expected`, in their order and without others between them, except at `…`.
pub fn contains(text: &str, expected: &[String], here: impl Fn(&str) -> String) -> Result<(), String> {
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: VecDeque<String> = text.lines().map(squeezed).collect();
    let mut may_skip = true;
    for line in expected {
        if line == "…" {
            may_skip = true;
            continue;
        }
        let wanted = squeezed(&here(line));
        let at = lines.iter().position(|line| *line == wanted).filter(|at| may_skip || *at == 0);
        lines.drain(..=at.ok_or_else(|| line.clone())?);
        may_skip = false;
    }
    Ok(())
}

/// Whether this machine can run the commands of the docs, which use curl. Without it, the test is skipped.
pub fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        skip("needs curl: the packages of your system have it");
    }
    found
}
