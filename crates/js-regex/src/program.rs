//! Patterns as programs, and those run in time bounded by pattern times text that neither look around nor refer back.

use super::backtrack;
use super::parse::{Ast, Parsed, Parser, Reference, Set};
use std::mem::swap;
use std::sync::Arc;

/// How many instructions a pattern may come to whose steps are counted.
const REGEX_INSTRUCTIONS_COUNTED_MAX: usize = 10_000;
/// How many instructions any other pattern may come to, each of which may be run for each character of a text.
const REGEX_INSTRUCTIONS_MAX: usize = 3_000;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) code: Vec<Instruction>,
    pub(super) slots: usize,
    pub(super) folded: bool,
    backtracks: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Instruction {
    /// One character of the set, before or behind the place.
    One(Arc<Set>, bool),
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
        let Parsed { ast, groups, backtracks } = Parser::parse(pattern)?;
        let mut writer = Writer { code: Vec::new(), slots: 2 * (groups + 1), groups, backtracks };
        writer.write(&ast, false)?;
        writer.push(Instruction::Accept)?;
        Ok(Program { code: writer.code, slots: writer.slots, folded, backtracks })
    }

    /// Whether some part of `text` matches.
    pub(super) fn is_match(&self, text: &str) -> bool {
        if self.backtracks { backtrack::is_match(self, text) } else { self.is_match_in_one_pass(text) }
    }

    /// Breadth first: at each place of the text, every instruction is run once at most.
    fn is_match_in_one_pass(&self, text: &str) -> bool {
        let (mut now, mut next) = (Vec::new(), Vec::new());
        let mut has_run = vec![false; self.code.len()];
        let mut text = text.chars();
        let mut before = None;
        loop {
            let here = text.next();
            has_run.fill(false);
            // A match may begin anywhere.
            now.push(0);
            while let Some(pc) = now.pop() {
                let (Some(instruction), Some(has_run)) = (self.code.get(pc), has_run.get_mut(pc)) else { continue };
                if std::mem::replace(has_run, true) {
                    continue;
                }
                let goes_on = match instruction {
                    Instruction::Accept => return true,
                    Instruction::Split(first, second) => {
                        now.extend([*first, *second]);
                        false
                    }
                    Instruction::Jump(to) => {
                        now.push(*to);
                        false
                    }
                    Instruction::One(set, _) => {
                        if here.is_some_and(|ch| set.holds(ch, self.folded)) {
                            next.push(pc + 1);
                        }
                        false
                    }
                    Instruction::Start => before.is_none(),
                    Instruction::End => here.is_none(),
                    Instruction::Boundary(is) => (is_word(before) != is_word(here)) == *is,
                    // What only programs have that backtrack.
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
                return false;
            }
            before = here;
            swap(&mut now, &mut next);
        }
    }
}

/// Whether there is a character for which `\w` stands.
pub(super) fn is_word(ch: Option<char>) -> bool {
    ch.is_some_and(|ch| ch.is_ascii_alphanumeric() || ch == '_')
}

struct Writer {
    code: Vec<Instruction>,
    slots: usize,
    groups: usize,
    backtracks: bool,
}

impl Writer {
    fn push(&mut self, instruction: Instruction) -> Result<usize, String> {
        let max = if self.backtracks { REGEX_INSTRUCTIONS_COUNTED_MAX } else { REGEX_INSTRUCTIONS_MAX };
        if self.code.len() >= max {
            return Err("is too large".to_owned());
        }
        self.code.push(instruction);
        Ok(self.code.len() - 1)
    }

    /// Writes an instruction about places that are kept, which only programs do that backtrack.
    fn push_kept(&mut self, instruction: Instruction) -> Result<(), String> {
        if self.backtracks { self.push(instruction).map(drop) } else { Ok(()) }
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
                    self.push_kept(Instruction::Save(2 * group + first))?;
                }
                self.write(inner, backward)?;
                if let Some(group) = group {
                    self.push_kept(Instruction::Save(2 * group + last))?;
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
                    self.push_kept(Instruction::Clear(2 * groups.0, 2 * groups.1))?;
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
        self.push_kept(Instruction::Save(slot))?;
        self.push_kept(Instruction::Clear(2 * groups.0, 2 * groups.1))?;
        self.write(inner, backward)?;
        self.push_kept(Instruction::Moved(slot))?;
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
