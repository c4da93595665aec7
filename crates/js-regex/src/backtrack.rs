//! Runs programs that look around or refer back: depth first, as ECMA-262 defines the order of attempts, and with a bounded amount of
//! work on one text. A text that would take more work does not match.

use super::parse::Set;
use super::program::{Instruction, Program, is_word};
use super::upper;

/// How many steps one match may take.
const REGEX_STEPS_MAX: usize = 100_000;
/// How many untried ways a match may keep.
const REGEX_BRANCHES_MAX: usize = 50_000;

/// Whether some part of `text` matches.
pub(super) fn is_match(program: &Program, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut run = Run { program, text: &text, slots: vec![None; program.slots], steps: 0 };
    (0..=text.len()).any(|at| {
        run.slots.fill(None);
        run.matches(0, at)
    })
}

struct Run<'a> {
    program: &'a Program,
    text: &'a [char],
    slots: Vec<Option<usize>>,
    steps: usize,
}

/// What to take back, or to try, once a way has failed.
enum Undo {
    Slot(usize, Option<usize>),
    Branch(usize, usize),
}

impl Run<'_> {
    /// Whether the code from `pc` on matches at `at`. The recursion is as deep as look-around stands in look-around.
    fn matches(&mut self, mut pc: usize, mut at: usize) -> bool {
        let mut undo: Vec<Undo> = Vec::new();
        loop {
            self.steps += 1;
            if self.steps > REGEX_STEPS_MAX || undo.len() > REGEX_BRANCHES_MAX {
                return false;
            }
            let Some(instruction) = self.program.code.get(pc) else { return false };
            let next = match instruction {
                Instruction::Accept => return true,
                Instruction::Split(first, second) => {
                    undo.push(Undo::Branch(*second, at));
                    Some((*first, at))
                }
                Instruction::Jump(to) => Some((*to, at)),
                Instruction::Save(slot) => {
                    self.keep(*slot, Some(at), &mut undo);
                    Some((pc + 1, at))
                }
                Instruction::Clear(from, to) => {
                    (*from..*to).for_each(|slot| self.keep(slot, None, &mut undo));
                    Some((pc + 1, at))
                }
                Instruction::Moved(slot) => (self.slot(*slot) != Some(at)).then_some((pc + 1, at)),
                Instruction::Look { negative, next } => {
                    let before = self.slots.clone();
                    let found = self.matches(pc + 1, at);
                    if found && !negative {
                        // Groups within stay, until what follows fails.
                        let changed = before.iter().zip(&self.slots).enumerate().filter(|(_, (old, new))| old != new);
                        undo.extend(changed.map(|(slot, (old, _))| Undo::Slot(slot, *old)));
                    } else {
                        self.slots = before;
                    }
                    (found != *negative).then_some((*next, at))
                }
                Instruction::Back(group, backward) => self.back(*group, at, *backward).map(|at| (pc + 1, at)),
                Instruction::One(set, backward) => self.one(set, at, *backward).map(|at| (pc + 1, at)),
                Instruction::Start => (at == 0).then_some((pc + 1, at)),
                Instruction::End => (at == self.text.len()).then_some((pc + 1, at)),
                Instruction::Boundary(is) => {
                    let before = at.checked_sub(1).and_then(|before| self.text.get(before));
                    let here = self.text.get(at);
                    ((is_word(before.copied()) != is_word(here.copied())) == *is).then_some((pc + 1, at))
                }
            };
            match next {
                Some(next) => (pc, at) = next,
                None => loop {
                    match undo.pop() {
                        Some(Undo::Branch(to, place)) => {
                            (pc, at) = (to, place);
                            break;
                        }
                        Some(Undo::Slot(slot, old)) => self.set(slot, old),
                        None => return false,
                    }
                },
            }
        }
    }

    fn slot(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot).copied().flatten()
    }

    fn set(&mut self, slot: usize, value: Option<usize>) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = value;
        }
    }

    fn keep(&mut self, slot: usize, value: Option<usize>, undo: &mut Vec<Undo>) {
        let old = self.slot(slot);
        if old != value {
            undo.push(Undo::Slot(slot, old));
            self.set(slot, value);
        }
    }

    /// The place behind one character of `set`, or before it.
    fn one(&self, set: &Set, at: usize, backward: bool) -> Option<usize> {
        let from = if backward { at.checked_sub(1)? } else { at };
        let ch = *self.text.get(from)?;
        set.holds(ch, self.program.folded).then_some(if backward { from } else { at + 1 })
    }

    /// The place behind the text of `group`, or before it. A group that has none matches everywhere.
    fn back(&mut self, group: usize, at: usize, backward: bool) -> Option<usize> {
        let (Some(from), Some(to)) = (self.slot(2 * group), self.slot(2 * group + 1)) else { return Some(at) };
        let text = self.text.get(from..to)?;
        self.steps += text.len();
        let start = if backward { at.checked_sub(text.len())? } else { at };
        let here = self.text.get(start..start + text.len())?;
        let same = |(a, b): (&char, &char)| a == b || (self.program.folded && upper(*a) == upper(*b));
        text.iter().zip(here).all(same).then_some(if backward { start } else { start + text.len() })
    }
}
