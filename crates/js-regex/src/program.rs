//! Programs: the compiled form of patterns.

use super::case::upper;
use super::error::CompileError;
use super::parse::{Ast, Parsed, Parser, Reference, Repeat};
use super::set::CharSet;
use std::sync::Arc;

/// Longer patterns are refused.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// How many instructions a program may have. Counted repetitions are written out: `a{100}` takes a hundred.
pub const INSTRUCTIONS_MAX: usize = 3_000;
/// How many nodes of the syntax tree may be written, those of repetitions once for each. It bounds repetitions of groups
/// without instructions, such as `(?:){1000000000}`.
const WRITES_MAX: usize = 4 * INSTRUCTIONS_MAX;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) code: Vec<Instruction>,
    /// How many positions a match keeps: two of each group, and one of each repetition.
    pub(super) slots: usize,
    ignore_case: bool,
    /// Whether the program has instructions that only the backtracking matcher knows.
    pub(super) backtracks: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Instruction {
    /// This character, in the case that is compared; the one before the position if `true`.
    Char(char, bool),
    /// One character of the set; the one before the position if `true`.
    Set(Arc<CharSet>, bool),
    Start,
    End,
    Boundary(bool),
    /// Continues at the first, and at the second if that fails.
    Split(usize, usize),
    Jump(usize),
    /// Keeps the position in a slot.
    Save(usize),
    /// Empties the slots from the first up to the second.
    Clear(usize, usize),
    /// Fails if the position is the one in the slot: a repetition of nothing.
    Moved(usize),
    /// Runs the code that follows from here, then continues at `next`.
    Look {
        negative: bool,
        next: usize,
    },
    /// The text of a group again.
    Back(usize, bool),
    Accept,
}

impl Program {
    /// Compiles `pattern`, for the backtracking matcher if `backtracks` or if the pattern needs it.
    pub(super) fn compile(pattern: &str, ignore_case: bool, backtracks: bool) -> Result<Program, CompileError> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(CompileError::TooLarge(format!("is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let Parsed { ast, groups, needs_backtracking } = Parser::parse(pattern, ignore_case)?;
        let backtracks = backtracks || needs_backtracking;
        let mut writer = Writer { code: Vec::new(), slots: 2 * (groups + 1), backtracks, ignore_case, writes: 0 };
        writer.write(&ast, false)?;
        writer.push(Instruction::Accept)?;
        writer.code.shrink_to_fit();
        Ok(Program { code: writer.code, slots: writer.slots, ignore_case, backtracks })
    }

    /// The characters of `text` as the instructions compare them.
    pub(super) fn chars<'t>(&self, text: &'t str) -> impl Iterator<Item = char> + use<'t> {
        let ignore_case = self.ignore_case;
        text.chars().map(move |ch| compared(ch, ignore_case))
    }
}

/// Whether `\w` matches a character.
pub(super) fn is_word(ch: Option<char>) -> bool {
    ch.is_some_and(|ch| ch.is_ascii_alphanumeric() || ch == '_')
}

fn compared(ch: char, ignore_case: bool) -> char {
    if ignore_case { upper(ch) } else { ch }
}

fn too_large() -> CompileError {
    CompileError::TooLarge(format!("takes more than {INSTRUCTIONS_MAX} instructions"))
}

impl Repeat {
    /// Empties the groups within: each repetition begins without captures.
    fn clear(&self) -> Instruction {
        Instruction::Clear(2 * self.groups.0, 2 * self.groups.1)
    }

    /// The choice at `split` between another repetition and `end`.
    fn split(&self, split: usize, end: usize) -> Instruction {
        if self.greedy { Instruction::Split(split + 1, end) } else { Instruction::Split(end, split + 1) }
    }
}

struct Writer {
    code: Vec<Instruction>,
    slots: usize,
    backtracks: bool,
    ignore_case: bool,
    writes: usize,
}

impl Writer {
    fn push(&mut self, instruction: Instruction) -> Result<usize, CompileError> {
        if self.code.len() >= INSTRUCTIONS_MAX {
            return Err(too_large());
        }
        self.code.push(instruction);
        Ok(self.code.len() - 1)
    }

    /// Adds an instruction about kept positions, which only the backtracking matcher needs.
    fn push_kept(&mut self, instruction: Instruction) -> Result<(), CompileError> {
        if self.backtracks { self.push(instruction).map(drop) } else { Ok(()) }
    }

    fn set(&mut self, at: usize, instruction: Instruction) {
        if let Some(place) = self.code.get_mut(at) {
            *place = instruction;
        }
    }

    /// Writes the instructions of `ast`. Look-behind reads the text `backward`.
    fn write(&mut self, ast: &Ast, backward: bool) -> Result<(), CompileError> {
        self.writes += 1;
        if self.writes > WRITES_MAX {
            return Err(too_large());
        }
        match ast {
            Ast::Char(ch) => drop(self.push(Instruction::Char(compared(*ch, self.ignore_case), backward))?),
            Ast::Set(set) => drop(self.push(Instruction::Set(set.clone(), backward))?),
            Ast::Start => drop(self.push(Instruction::Start)?),
            Ast::End => drop(self.push(Instruction::End)?),
            Ast::Boundary(is) => drop(self.push(Instruction::Boundary(*is))?),
            Ast::Back(Reference::Number(group)) => drop(self.push(Instruction::Back(*group, backward))?),
            // The parser has replaced names by numbers.
            Ast::Back(Reference::Name(_)) => {}
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
            Ast::Repeat(repeat) => self.repeat(repeat, backward)?,
        }
        Ok(())
    }

    fn repeat(&mut self, repeat: &Repeat, backward: bool) -> Result<(), CompileError> {
        for _ in 0..repeat.min {
            self.push_kept(repeat.clear())?;
            self.write(&repeat.inner, backward)?;
        }
        let Some(max) = repeat.max else { return self.optional(repeat, backward, true) };
        let mut splits = Vec::new();
        for _ in repeat.min..max {
            splits.push(self.code.len());
            self.optional(repeat, backward, false)?;
        }
        // Leaving out one repetition leaves out all that follow.
        let end = self.code.len();
        splits.into_iter().for_each(|split| self.set(split, repeat.split(split, end)));
        Ok(())
    }

    /// Writes one optional repetition, which starts over if `again`.
    fn optional(&mut self, repeat: &Repeat, backward: bool, again: bool) -> Result<(), CompileError> {
        let slot = self.slots;
        self.slots += 1;
        let split = self.push(Instruction::Accept)?;
        self.push_kept(Instruction::Save(slot))?;
        self.push_kept(repeat.clear())?;
        self.write(&repeat.inner, backward)?;
        self.push_kept(Instruction::Moved(slot))?;
        if again {
            self.push(Instruction::Jump(split))?;
        }
        self.set(split, repeat.split(split, self.code.len()));
        Ok(())
    }

    fn either(&mut self, ways: &[Ast], backward: bool) -> Result<(), CompileError> {
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
