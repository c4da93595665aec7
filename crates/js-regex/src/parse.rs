//! Patterns as syntax trees.

use super::error::CompileError;
use super::scan::{Item, Scanner, names_set};
use super::set::{CharSet, LINE_END, complement, named_ranges};
use std::sync::Arc;

/// How deep groups may be nested. It bounds the stack that parsing, compiling and matching take.
const DEPTH_MAX: usize = 50;

/// A pattern or a part of one.
#[derive(Debug)]
pub(super) enum Ast {
    Char(char),
    Set(Arc<CharSet>),
    Start,
    End,
    Boundary(bool),
    /// A group, with its number if it captures.
    Group(Box<Ast>, Option<usize>),
    Sequence(Vec<Ast>),
    Either(Vec<Ast>),
    Repeat(Repeat),
    Look {
        inner: Box<Ast>,
        behind: bool,
        negative: bool,
    },
    Back(Reference),
}

/// A repetition.
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) inner: Box<Ast>,
    pub(super) min: usize,
    pub(super) max: Option<usize>,
    pub(super) greedy: bool,
    /// The numbers of the groups within, from the first up to the second.
    pub(super) groups: (usize, usize),
}

/// The group of a back-reference.
#[derive(Debug)]
pub(super) enum Reference {
    Number(usize),
    Name(String),
}

/// A pattern that was read.
pub(super) struct Parsed {
    pub(super) ast: Ast,
    /// How many groups capture.
    pub(super) groups: usize,
    /// Whether it has look-around or back-references.
    pub(super) needs_backtracking: bool,
}

/// Reads a pattern.
pub(super) struct Parser {
    scanner: Scanner,
    /// The names of groups so far, with the groups' numbers.
    names: Vec<(String, usize)>,
    groups: usize,
    depth: usize,
    needs_backtracking: bool,
    ignore_case: bool,
}

impl Parser {
    pub(super) fn parse(pattern: &str, ignore_case: bool) -> Result<Parsed, CompileError> {
        let (scanner, names) = (Scanner::new(pattern), Vec::new());
        let mut parser = Parser { scanner, names, groups: 0, depth: 0, needs_backtracking: false, ignore_case };
        let mut ast = parser.either()?;
        if parser.scanner.peek(0).is_some() {
            return Err("has a ) without its (".into());
        }
        resolve(&mut ast, &parser.names, parser.groups)?;
        Ok(Parsed { ast, groups: parser.groups, needs_backtracking: parser.needs_backtracking })
    }

    fn either(&mut self) -> Result<Ast, CompileError> {
        let mut ways = vec![self.sequence()?];
        while self.scanner.skip('|') {
            ways.push(self.sequence()?);
        }
        Ok(Ast::Either(ways))
    }

    fn sequence(&mut self) -> Result<Ast, CompileError> {
        let mut parts = Vec::new();
        while self.scanner.peek(0).is_some_and(|ch| !matches!(ch, '|' | ')')) {
            let before = self.groups;
            let part = self.part()?;
            parts.push(self.repeated(part, before)?);
        }
        Ok(Ast::Sequence(parts))
    }

    /// `part` with the quantifier that may follow it.
    fn repeated(&mut self, part: Ast, groups_before: usize) -> Result<Ast, CompileError> {
        let before = self.scanner.at;
        let limits = match self.scanner.next() {
            Some('*') => Some((0, None)),
            Some('+') => Some((1, None)),
            Some('?') => Some((0, Some(1))),
            Some('{') => self.scanner.count().map(|count| limits(&count)).transpose()?,
            _ => None,
        };
        let Some((min, max)) = limits else {
            self.scanner.at = before;
            return Ok(part);
        };
        match part {
            Ast::Start | Ast::End | Ast::Boundary(_) => return Err(self.nothing_to_repeat(before)),
            Ast::Look { behind: true, .. } => return Err("has nothing to repeat before a quantifier".into()),
            _ => {}
        }
        let greedy = !self.scanner.skip('?');
        let groups = (groups_before + 1, self.groups + 1);
        Ok(Ast::Repeat(Repeat { inner: Box::new(part), min, max, greedy, groups }))
    }

    /// The error for the quantifier that stands from `start` up to here.
    fn nothing_to_repeat(&self, start: usize) -> CompileError {
        format!("has nothing before {} to repeat", self.scanner.since(start)).into()
    }

    fn part(&mut self) -> Result<Ast, CompileError> {
        let start = self.scanner.at;
        Ok(match self.scanner.next() {
            Some('^') => Ast::Start,
            Some('$') => Ast::End,
            Some('.') => self.set(LINE_END.to_vec(), true),
            Some('[') => self.class()?,
            Some('(') => self.group()?,
            Some('\\') => self.escape()?,
            Some('*' | '+' | '?') => return Err(self.nothing_to_repeat(start)),
            Some('{') if self.scanner.count().is_some() => return Err(self.nothing_to_repeat(start)),
            Some(ch) => Ast::Char(ch),
            None => Ast::Sequence(Vec::new()),
        })
    }

    fn escape(&mut self) -> Result<Ast, CompileError> {
        Ok(match self.scanner.next().ok_or("ends with \\")? {
            'b' => Ast::Boundary(true),
            'B' => Ast::Boundary(false),
            'k' if self.scanner.skip('<') => {
                self.needs_backtracking = true;
                Ast::Back(Reference::Name(self.scanner.name()?))
            }
            ch @ '1'..='9' => {
                let mut number = ch.to_digit(10).unwrap_or_default() as usize;
                while let Some(digit) = self.scanner.peek(0).and_then(|ch| ch.to_digit(10)) {
                    number = number.saturating_mul(10).saturating_add(digit as usize);
                    self.scanner.next();
                }
                self.needs_backtracking = true;
                Ast::Back(Reference::Number(number))
            }
            ch if names_set(ch) => self.set(named_ranges(ch).to_vec(), ch.is_ascii_uppercase()),
            ch => Ast::Char(self.scanner.escaped_char(ch)?),
        })
    }

    fn group(&mut self) -> Result<Ast, CompileError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(CompileError::TooLarge(format!("has groups nested more than {DEPTH_MAX} deep")));
        }
        let mut look = None;
        let mut number = None;
        if !self.scanner.skip('?') {
            number = Some(());
        } else if let (Some('<'), Some(sign @ ('=' | '!'))) = (self.scanner.peek(0), self.scanner.peek(1)) {
            self.scanner.at += 2;
            look = Some((true, sign == '!'));
        } else {
            match self.scanner.next() {
                Some(':') => {}
                Some(sign @ ('=' | '!')) => look = Some((false, sign == '!')),
                Some('<') => {
                    let name = self.scanner.name()?;
                    if self.names.iter().any(|(other, _)| *other == name) {
                        return Err(CompileError::Unsupported(format!("has two groups of the name {name:?}")));
                    }
                    self.names.push((name, self.groups + 1));
                    number = Some(());
                }
                _ => return Err("has an invalid group: after (? only :, =, !, <=, <! and <name> may stand".into()),
            }
        }
        let number = number.map(|()| {
            self.groups += 1;
            self.groups
        });
        let inner = Box::new(self.either()?);
        if !self.scanner.skip(')') {
            return Err("has a ( without its )".into());
        }
        self.depth -= 1;
        Ok(match look {
            Some((behind, negative)) => {
                self.needs_backtracking = true;
                Ast::Look { inner, behind, negative }
            }
            None => Ast::Group(inner, number),
        })
    }

    fn set(&self, ranges: Vec<(char, char)>, negated: bool) -> Ast {
        Ast::Set(Arc::new(CharSet::new(ranges, negated, self.ignore_case)))
    }

    fn class(&mut self) -> Result<Ast, CompileError> {
        let negated = self.scanner.skip('^');
        let (mut ranges, mut named) = (Vec::new(), String::new());
        while let Some(first) = self.scanner.class_item()? {
            let mut items = vec![first];
            if self.scanner.peek(0) == Some('-') && self.scanner.peek(1) != Some(']') {
                self.scanner.at += 1;
                let last = self.scanner.class_item()?.ok_or("has a [ without its ]")?;
                match (&first, &last) {
                    (Item::Char(first), Item::Char(last)) if first > last => {
                        return Err("has a range whose ends are the wrong way round".into());
                    }
                    (Item::Char(first), Item::Char(last)) => {
                        ranges.push((*first, *last));
                        continue;
                    }
                    _ => items.extend([Item::Char('-'), last]),
                }
            }
            for item in items {
                match item {
                    Item::Char(ch) => ranges.push((ch, ch)),
                    // A class may name a set a thousand times, but one copy of its ranges is enough.
                    Item::Set(letter) if named.contains(letter) => {}
                    Item::Set(letter) => {
                        named.push(letter);
                        let own = named_ranges(letter);
                        ranges.extend(if letter.is_ascii_uppercase() { complement(own) } else { own.to_vec() });
                    }
                }
            }
        }
        Ok(self.set(ranges, negated))
    }
}

/// The numbers in `{3}`, `{3,}` or `{3,5}`.
fn limits(count: &str) -> Result<(usize, Option<usize>), CompileError> {
    let text = count.trim_start_matches('{').trim_end_matches('}');
    let number = |text: &str| text.parse::<usize>().map_err(|_| CompileError::TooLarge("repeats too often".to_owned()));
    let limits = match text.split_once(',') {
        None => (number(text)?, Some(number(text)?)),
        Some((min, "")) => (number(min)?, None),
        Some((min, max)) => (number(min)?, Some(number(max)?)),
    };
    if limits.1.is_some_and(|max| max < limits.0) {
        return Err("repeats from more times to fewer".into());
    }
    Ok(limits)
}

/// Replaces the names in back-references by numbers. All groups that they refer to must exist.
fn resolve(ast: &mut Ast, names: &[(String, usize)], groups: usize) -> Result<(), CompileError> {
    match ast {
        Ast::Back(reference) => {
            let number = match reference {
                Reference::Number(number) => *number,
                Reference::Name(name) => names.iter().find(|(other, _)| other == name).map_or(0, |(_, number)| *number),
            };
            if !(1..=groups).contains(&number) {
                return Err(CompileError::Unsupported("refers back to a group that it does not have".to_owned()));
            }
            *reference = Reference::Number(number);
            Ok(())
        }
        Ast::Group(inner, _) | Ast::Repeat(Repeat { inner, .. }) | Ast::Look { inner, .. } => {
            resolve(inner, names, groups)
        }
        Ast::Sequence(parts) | Ast::Either(parts) => parts.iter_mut().try_for_each(|part| resolve(part, names, groups)),
        Ast::Char(_) | Ast::Set(_) | Ast::Start | Ast::End | Ast::Boundary(_) => Ok(()),
    }
}
