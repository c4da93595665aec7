//! Runs programs without look-around and back-references, breadth first (Thompson's and Pike's algorithm): at each
//! position of the text, every instruction runs once at most.

use super::program::{Instruction, Program, is_word};
use super::steps::{COPIES_PER_STEP, LimitExceeded, Steps};
use std::mem::swap;

/// Whether some part of `text` matches.
pub(super) fn is_match(program: &Program, text: &str, steps: &mut Steps<'_>) -> Result<bool, LimitExceeded> {
    let code = program.code.as_slice();
    steps.spend(text.len() + code.len() / COPIES_PER_STEP)?;
    // The number of the position, counted from 1, at which each instruction ran last.
    let mut visited = vec![0_u32; code.len()];
    let (mut now, mut next) = (Vec::new(), Vec::new());
    let mut chars = program.chars(text);
    let mut before = None;
    for position in 1.. {
        let here = chars.next();
        // A match may begin anywhere.
        now.push(0);
        while let Some(pc) = now.pop() {
            steps.spend(1)?;
            let (Some(instruction), Some(visited)) = (code.get(pc), visited.get_mut(pc)) else { continue };
            if std::mem::replace(visited, position) == position {
                continue;
            }
            let goes_on = match instruction {
                Instruction::Accept => return Ok(true),
                Instruction::Split(first, second) => {
                    now.extend([*first, *second]);
                    false
                }
                Instruction::Jump(to) => {
                    now.push(*to);
                    false
                }
                Instruction::Char(ch, _) => {
                    if here == Some(*ch) {
                        next.push(pc + 1);
                    }
                    false
                }
                Instruction::Set(set, _) => {
                    if let Some(here) = here
                        && set.contains(here, steps)?
                    {
                        next.push(pc + 1);
                    }
                    false
                }
                Instruction::Start => before.is_none(),
                Instruction::End => here.is_none(),
                Instruction::Boundary(expected) => (is_word(before) != is_word(here)) == *expected,
                // Only programs that backtrack have these.
                Instruction::Save(_)
                | Instruction::Clear(..)
                | Instruction::Moved(_)
                | Instruction::Look { .. }
                | Instruction::Back(..) => true,
            };
            if goes_on {
                now.push(pc + 1);
            }
        }
        if here.is_none() {
            break;
        }
        before = here;
        swap(&mut now, &mut next);
    }
    Ok(false)
}
