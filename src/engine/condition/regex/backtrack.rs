//! JavaScript's patterns with look-around or back-references, which `regex-lite` does not have: a backtracking matcher
//! whose work on one text is bounded. A text that would take more work does not match.
//!
//! The program is that of Pike's and Thompson's matchers, run depth first, as ECMA-262 defines the order of attempts.

use super::parse::{Ast, Parser, Reference, Set};
use super::upper;

/// How many steps one match may take.
const REGEX_STEPS_MAX: usize = 100_000;
/// How many untried ways a match may keep.
const REGEX_BRANCHES_MAX: usize = 50_000;
/// How many instructions a pattern may come to.
const REGEX_INSTRUCTIONS_MAX: usize = 10_000;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    code: Vec<Instruction>,
    slots: usize,
    folded: bool,
}

#[derive(Debug, Clone)]
enum Instruction {
    /// One character of the set, before or behind the place.
    One(Set, bool),
    Start,
    End,
    Boundary(bool),
    /// Goes on at the first, and at the second if that fails.
    Split(usize, usize),
    Jump(usize),
    /// Keeps the place in a slot.
    Save(usize),
    /// Forgets what is in the slots from the first up to the second.
    Clear(usize, usize),
    /// Fails where the place is the one in the slot: a repetition that went nowhere.
    Moved(usize),
    /// The code that follows matches from here or not; then on at `next`.
    Look {
        negative: bool,
        next: usize,
    },
    /// The text of a group again.
    Back(usize, bool),
    Accept,
}

impl Program {
    /// Compiles `pattern`, with the flag `i` where `folded`.
    pub(super) fn compile(pattern: &str, folded: bool) -> Result<Program, String> {
        let (ast, groups) = Parser::parse(pattern)?;
        let mut writer = Writer { code: Vec::new(), slots: 2 * (groups + 1), groups };
        writer.write(&ast, false)?;
        writer.push(Instruction::Accept)?;
        Ok(Program { code: writer.code, slots: writer.slots, folded })
    }

    /// Whether some part of `text` matches.
    pub(super) fn is_match(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let mut run = Run { program: self, text: &text, slots: vec![None; self.slots], steps: 0 };
        (0..=text.len()).any(|at| {
            run.slots.fill(None);
            run.matches(0, at)
        })
    }
}

struct Writer {
    code: Vec<Instruction>,
    slots: usize,
    groups: usize,
}

impl Writer {
    fn push(&mut self, instruction: Instruction) -> Result<usize, String> {
        if self.code.len() >= REGEX_INSTRUCTIONS_MAX {
            return Err("is too large".to_owned());
        }
        self.code.push(instruction);
        Ok(self.code.len() - 1)
    }

    fn set(&mut self, at: usize, instruction: Instruction) {
        if let Some(place) = self.code.get_mut(at) {
            *place = instruction;
        }
    }

    fn write(&mut self, ast: &Ast, backward: bool) -> Result<(), String> {
        match ast {
            Ast::One(set) => drop(self.push(Instruction::One(set.clone(), backward))?),
            Ast::Start => drop(self.push(Instruction::Start)?),
            Ast::End => drop(self.push(Instruction::End)?),
            Ast::Boundary(is) => drop(self.push(Instruction::Boundary(*is))?),
            Ast::Back(Reference::Number(group)) if (1..=self.groups).contains(group) => {
                self.push(Instruction::Back(*group, backward))?;
            }
            Ast::Back(_) => return Err("refers back to a group that it does not have".to_owned()),
            Ast::Group(inner, group) => {
                let (first, last) = if backward { (1, 0) } else { (0, 1) };
                if let Some(group) = group {
                    self.push(Instruction::Save(2 * group + first))?;
                }
                self.write(inner, backward)?;
                if let Some(group) = group {
                    self.push(Instruction::Save(2 * group + last))?;
                }
            }
            Ast::Sequence(parts) if backward => {
                parts.iter().rev().try_for_each(|part| self.write(part, backward))?;
            }
            Ast::Sequence(parts) => parts.iter().try_for_each(|part| self.write(part, backward))?,
            Ast::Either(ways) => self.either(ways, backward)?,
            Ast::Look { inner, behind, negative } => {
                let look = self.push(Instruction::Accept)?;
                self.write(inner, *behind)?;
                self.push(Instruction::Accept)?;
                self.set(look, Instruction::Look { negative: *negative, next: self.code.len() });
            }
            Ast::Repeat { inner, min, max, greedy, groups } => {
                for _ in 0..*min {
                    self.push(Instruction::Clear(2 * groups.0, 2 * groups.1))?;
                    self.write(inner, backward)?;
                }
                match max {
                    None => self.more(inner, *greedy, *groups, backward, true)?,
                    Some(max) => {
                        let mut ends = Vec::new();
                        for _ in *min..*max {
                            ends.push(self.code.len());
                            self.more(inner, *greedy, *groups, backward, false)?;
                        }
                        // A repetition that is not there ends all of them.
                        let end = self.code.len();
                        for at in ends {
                            let split =
                                if *greedy { Instruction::Split(at + 1, end) } else { Instruction::Split(end, at + 1) };
                            self.set(at, split);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// One more repetition or none, and over again where `again`.
    fn more(
        &mut self,
        inner: &Ast,
        greedy: bool,
        groups: (usize, usize),
        backward: bool,
        again: bool,
    ) -> Result<(), String> {
        let slot = self.slots;
        self.slots += 1;
        let split = self.push(Instruction::Accept)?;
        self.push(Instruction::Save(slot))?;
        self.push(Instruction::Clear(2 * groups.0, 2 * groups.1))?;
        self.write(inner, backward)?;
        self.push(Instruction::Moved(slot))?;
        if again {
            self.push(Instruction::Jump(split))?;
        }
        let end = self.code.len();
        self.set(split, if greedy { Instruction::Split(split + 1, end) } else { Instruction::Split(end, split + 1) });
        Ok(())
    }

    fn either(&mut self, ways: &[Ast], backward: bool) -> Result<(), String> {
        let mut jumps = Vec::new();
        let Some((last, others)) = ways.split_last() else { return Ok(()) };
        for way in others {
            let split = self.push(Instruction::Accept)?;
            self.write(way, backward)?;
            jumps.push(self.push(Instruction::Accept)?);
            self.set(split, Instruction::Split(split + 1, self.code.len()));
        }
        self.write(last, backward)?;
        for jump in jumps {
            self.set(jump, Instruction::Jump(self.code.len()));
        }
        Ok(())
    }
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
                    let is_word = |at: Option<usize>| {
                        let ch = at.and_then(|at| self.text.get(at));
                        ch.is_some_and(|ch| ch.is_ascii_alphanumeric() || *ch == '_')
                    };
                    ((is_word(at.checked_sub(1)) != is_word(Some(at))) == *is).then_some((pc + 1, at))
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
