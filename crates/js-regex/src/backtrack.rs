//! Runs programs with look-around or back-references, depth first, in the order of attempts that ECMA-262 defines.

use super::program::{Instruction, Program, is_word};
use super::set::CharSet;
use super::steps::{COPIES_PER_STEP, LimitExceeded, Steps};

/// How many alternatives a match may keep for later. It bounds the match's memory.
const BRANCHES_MAX: usize = 50_000;

/// Whether some part of `text` matches.
pub(super) fn is_match(program: &Program, text: &str, steps: &mut Steps<'_>) -> Result<bool, LimitExceeded> {
    steps.spend(text.len() + program.slots / COPIES_PER_STEP)?;
    let text: Vec<char> = program.chars(text).collect();
    let mut run = Run { program, text: &text, slots: vec![None; program.slots], steps };
    for start in 0..=text.len() {
        // A failed attempt leaves the slots as it found them: empty.
        if run.matches(0, start)? {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Run<'a, 's> {
    program: &'a Program,
    text: &'a [char],
    slots: Vec<Option<usize>>,
    steps: &'a mut Steps<'s>,
}

/// An entry of the stack to return to after a failure.
enum Undo {
    /// Restores a slot.
    Slot(usize, Option<usize>),
    /// Continues at an instruction and a position.
    Branch(usize, usize),
}

impl Run<'_, '_> {
    /// Whether the code from `pc` on matches at `at`. The recursion is as deep as look-around is nested.
    fn matches(&mut self, mut pc: usize, mut at: usize) -> Result<bool, LimitExceeded> {
        let mut undo: Vec<Undo> = Vec::new();
        loop {
            self.steps.spend(1)?;
            if undo.len() > BRANCHES_MAX {
                return Err(LimitExceeded);
            }
            let Some(instruction) = self.program.code.get(pc) else { return Ok(false) };
            if matches!(instruction, Instruction::Accept) {
                return Ok(true);
            }
            match self.step(instruction, (pc, at), &mut undo)? {
                Some(next) => (pc, at) = next,
                None => match self.undo(&mut undo)? {
                    Some(branch) => (pc, at) = branch,
                    None => return Ok(false),
                },
            }
        }
    }

    /// Runs one instruction. Gives the next one and its position, or none if the attempt fails.
    fn step(
        &mut self,
        instruction: &Instruction,
        (pc, at): (usize, usize),
        undo: &mut Vec<Undo>,
    ) -> Result<Option<(usize, usize)>, LimitExceeded> {
        Ok(match instruction {
            Instruction::Accept => None,
            Instruction::Split(first, second) => {
                undo.push(Undo::Branch(*second, at));
                Some((*first, at))
            }
            Instruction::Jump(to) => Some((*to, at)),
            Instruction::Save(slot) => {
                self.keep(*slot, Some(at), undo);
                Some((pc + 1, at))
            }
            Instruction::Clear(from, to) => {
                self.steps.spend((to - from) / COPIES_PER_STEP)?;
                (*from..*to).for_each(|slot| self.keep(slot, None, undo));
                Some((pc + 1, at))
            }
            Instruction::Moved(slot) => (self.slot(*slot) != Some(at)).then_some((pc + 1, at)),
            Instruction::Look { negative, next } => self.look((pc + 1, at), *negative, undo)?.then_some((*next, at)),
            Instruction::Back(group, backward) => self.back(*group, at, *backward)?.map(|at| (pc + 1, at)),
            Instruction::Char(ch, backward) => {
                self.char_at(at, *backward).filter(|(here, _)| here == ch).map(|(_, at)| (pc + 1, at))
            }
            Instruction::Set(set, backward) => self.one_of(set, at, *backward)?.map(|at| (pc + 1, at)),
            Instruction::Start => (at == 0).then_some((pc + 1, at)),
            Instruction::End => (at == self.text.len()).then_some((pc + 1, at)),
            Instruction::Boundary(expected) => {
                let before = at.checked_sub(1).and_then(|before| self.text.get(before));
                let here = self.text.get(at);
                ((is_word(before.copied()) != is_word(here.copied())) == *expected).then_some((pc + 1, at))
            }
        })
    }

    /// Returns to the last alternative that was kept, if there is one.
    fn undo(&mut self, undo: &mut Vec<Undo>) -> Result<Option<(usize, usize)>, LimitExceeded> {
        while let Some(last) = undo.pop() {
            self.steps.spend(1)?;
            match last {
                Undo::Branch(to, at) => return Ok(Some((to, at))),
                Undo::Slot(slot, old) => self.set(slot, old),
            }
        }
        Ok(None)
    }

    /// Whether the look-around whose code begins at the first of `from` holds at the second.
    fn look(&mut self, from: (usize, usize), negative: bool, undo: &mut Vec<Undo>) -> Result<bool, LimitExceeded> {
        self.steps.spend(2 * self.slots.len() / COPIES_PER_STEP)?;
        let before = self.slots.clone();
        let found = self.matches(from.0, from.1)?;
        if found && !negative {
            // Captures within stay, until the code that follows fails.
            let changed = before.iter().zip(&self.slots).enumerate().filter(|(_, (old, new))| old != new);
            undo.extend(changed.map(|(slot, (old, _))| Undo::Slot(slot, *old)));
        } else {
            self.slots = before;
        }
        Ok(found != negative)
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

    /// The character behind `at`, or before it, with the position on its other side.
    fn char_at(&self, at: usize, backward: bool) -> Option<(char, usize)> {
        let from = if backward { at.checked_sub(1)? } else { at };
        let ch = *self.text.get(from)?;
        Some((ch, if backward { from } else { at + 1 }))
    }

    /// The position on the other side of one character of `set`.
    fn one_of(&mut self, set: &CharSet, at: usize, backward: bool) -> Result<Option<usize>, LimitExceeded> {
        let Some((ch, next)) = self.char_at(at, backward) else { return Ok(None) };
        Ok(set.contains(ch, self.steps)?.then_some(next))
    }

    /// The position on the other side of the text of `group`. A group without text matches everywhere.
    fn back(&mut self, group: usize, at: usize, backward: bool) -> Result<Option<usize>, LimitExceeded> {
        let (Some(from), Some(to)) = (self.slot(2 * group), self.slot(2 * group + 1)) else { return Ok(Some(at)) };
        let Some(text) = self.text.get(from..to) else { return Ok(None) };
        self.steps.spend(text.len())?;
        let Some(start) = (if backward { at.checked_sub(text.len()) } else { Some(at) }) else { return Ok(None) };
        let Some(here) = self.text.get(start..start + text.len()) else { return Ok(None) };
        Ok((text == here).then_some(if backward { start } else { start + text.len() }))
    }
}
