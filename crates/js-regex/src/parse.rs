//! JavaScript's patterns as trees.

use super::scan::{Item, Scanner, names_set};
use super::upper;
use std::sync::Arc;

/// How many groups may stand inside each other. It bounds the stack that parsing, compiling and matching take.
const REGEX_DEPTH_MAX: usize = 50;

/// A pattern or a part of one.
#[derive(Debug)]
pub(super) enum Ast {
    One(Arc<Set>),
    Start,
    End,
    Boundary(bool),
    /// A group, with its number if it captures.
    Group(Box<Ast>, Option<usize>),
    Sequence(Vec<Ast>),
    Either(Vec<Ast>),
    /// `groups` are the numbers, from the first up to the second, of those within.
    Repeat {
        inner: Box<Ast>,
        min: usize,
        max: Option<usize>,
        greedy: bool,
        groups: (usize, usize),
    },
    Look {
        inner: Box<Ast>,
        behind: bool,
        negative: bool,
    },
    Back(Reference),
}

/// A group that is referred back to.
#[derive(Debug)]
pub(super) enum Reference {
    Number(usize),
    Name(String),
}

/// One of these characters, or none of them.
#[derive(Debug, Clone)]
pub(super) struct Set {
    ranges: Vec<(char, char)>,
    negated: bool,
}

impl Set {
    fn of(ch: char) -> Set {
        Set { ranges: vec![(ch, ch)], negated: false }
    }

    /// Whether `ch` is one of them, whatever its case where `folded`.
    pub(super) fn holds(&self, ch: char, folded: bool) -> bool {
        let within = |ch: char| self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&ch));
        let other_case = || {
            let upper_case = upper(ch);
            within(upper_case) || upper_case.to_lowercase().any(|lower| upper(lower) == upper_case && within(lower))
        };
        (within(ch) || (folded && other_case())) != self.negated
    }
}

const DIGIT: &[(char, char)] = &[('0', '9')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
const SPACE: &[(char, char)] = &[
    ('\t', '\r'),
    (' ', ' '),
    ('\u{A0}', '\u{A0}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{2000}', '\u{200A}'),
    ('\u{2028}', '\u{2029}'),
    ('\u{202F}', '\u{202F}'),
    ('\u{205F}', '\u{205F}'),
    ('\u{3000}', '\u{3000}'),
    ('\u{FEFF}', '\u{FEFF}'),
];
const LINE_END: &[(char, char)] = &[('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')];

/// What `\d` and its like stand for.
fn named_set(name: char) -> Set {
    let ranges = match name.to_ascii_lowercase() {
        'd' => DIGIT,
        'w' => WORD,
        _ => SPACE,
    };
    Set { ranges: ranges.to_vec(), negated: name.is_ascii_uppercase() }
}

/// The ranges between sorted `ranges`.
fn complement(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let mut between = Vec::new();
    let mut start = '\0';
    for &(first, last) in ranges {
        between.extend((start..first).next_back().map(|end| (start, end)));
        start = (last..).nth(1).unwrap_or(char::MAX);
    }
    between.push((start, char::MAX));
    between
}

/// A pattern that was read.
pub(super) struct Parsed {
    pub(super) ast: Ast,
    /// How many groups capture.
    pub(super) groups: usize,
    /// Whether it has look-around or back-references.
    pub(super) backtracks: bool,
}

/// Reads a pattern.
pub(super) struct Parser {
    scanner: Scanner,
    /// The names of groups so far, with the groups' numbers.
    names: Vec<(String, usize)>,
    groups: usize,
    depth: usize,
    backtracks: bool,
}

impl Parser {
    pub(super) fn parse(pattern: &str) -> Result<Parsed, String> {
        let scanner = Scanner::new(pattern);
        let mut parser = Parser { scanner, names: Vec::new(), groups: 0, depth: 0, backtracks: false };
        let mut ast = parser.either()?;
        if parser.scanner.peek(0).is_some() {
            return Err("has a ) without its (".to_owned());
        }
        resolve(&mut ast, &parser.names);
        Ok(Parsed { ast, groups: parser.groups, backtracks: parser.backtracks })
    }

    fn either(&mut self) -> Result<Ast, String> {
        let mut ways = vec![self.sequence()?];
        while self.scanner.skip('|') {
            ways.push(self.sequence()?);
        }
        Ok(Ast::Either(ways))
    }

    fn sequence(&mut self) -> Result<Ast, String> {
        let mut parts = Vec::new();
        while self.scanner.peek(0).is_some_and(|ch| !matches!(ch, '|' | ')')) {
            let before = self.groups;
            let part = self.part()?;
            parts.push(self.repeated(part, before)?);
        }
        Ok(Ast::Sequence(parts))
    }

    /// `part` with what may follow it to repeat it.
    fn repeated(&mut self, part: Ast, groups_before: usize) -> Result<Ast, String> {
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
            Ast::Look { behind: true, .. } => return Err("has nothing to repeat before a quantifier".to_owned()),
            _ => {}
        }
        let greedy = !self.scanner.skip('?');
        let groups = (groups_before + 1, self.groups + 1);
        Ok(Ast::Repeat { inner: Box::new(part), min, max, greedy, groups })
    }

    /// The error for the quantifier that stands from `start` up to here.
    fn nothing_to_repeat(&self, start: usize) -> String {
        format!("has nothing before {} to repeat", self.scanner.since(start))
    }

    fn part(&mut self) -> Result<Ast, String> {
        let start = self.scanner.at;
        Ok(match self.scanner.next() {
            Some('^') => Ast::Start,
            Some('$') => Ast::End,
            Some('.') => one(Set { ranges: LINE_END.to_vec(), negated: true }),
            Some('[') => one(self.class()?),
            Some('(') => self.group()?,
            Some('\\') => self.escape()?,
            Some('*' | '+' | '?') => return Err(self.nothing_to_repeat(start)),
            Some('{') if self.scanner.count().is_some() => return Err(self.nothing_to_repeat(start)),
            Some(ch) => one(Set::of(ch)),
            None => Ast::Sequence(Vec::new()),
        })
    }

    fn escape(&mut self) -> Result<Ast, String> {
        Ok(match self.scanner.next().ok_or("ends with \\")? {
            'b' => Ast::Boundary(true),
            'B' => Ast::Boundary(false),
            'k' if self.scanner.skip('<') => {
                self.backtracks = true;
                Ast::Back(Reference::Name(self.scanner.name()?))
            }
            ch @ '1'..='9' => {
                let mut number = ch.to_digit(10).unwrap_or_default() as usize;
                while let Some(digit) = self.scanner.peek(0).and_then(|ch| ch.to_digit(10)) {
                    number = number.saturating_mul(10).saturating_add(digit as usize);
                    self.scanner.next();
                }
                self.backtracks = true;
                Ast::Back(Reference::Number(number))
            }
            ch if names_set(ch) => one(named_set(ch)),
            ch => one(Set::of(self.scanner.escaped_char(ch)?)),
        })
    }

    fn group(&mut self) -> Result<Ast, String> {
        self.depth += 1;
        if self.depth > REGEX_DEPTH_MAX {
            return Err(format!("has more than {REGEX_DEPTH_MAX} groups inside each other"));
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
                        return Err(format!("has two groups of the name {name:?}"));
                    }
                    self.names.push((name, self.groups + 1));
                    number = Some(());
                }
                _ => return Err("has an invalid group: after (? only :, =, !, <=, <! and <name> may stand".to_owned()),
            }
        }
        let number = number.map(|()| {
            self.groups += 1;
            self.groups
        });
        let inner = Box::new(self.either()?);
        if !self.scanner.skip(')') {
            return Err("has a ( without its )".to_owned());
        }
        self.depth -= 1;
        Ok(match look {
            Some((behind, negative)) => {
                self.backtracks = true;
                Ast::Look { inner, behind, negative }
            }
            None => Ast::Group(inner, number),
        })
    }

    fn class(&mut self) -> Result<Set, String> {
        let mut set = Set { ranges: Vec::new(), negated: self.scanner.skip('^') };
        let add = |set: &mut Set, item: &Item| match item {
            Item::Char(ch) => set.ranges.push((*ch, *ch)),
            Item::Set(name) => {
                let named = named_set(*name);
                let ranges = if named.negated { complement(&named.ranges) } else { named.ranges };
                set.ranges.extend(ranges);
            }
        };
        while let Some(first) = self.scanner.class_item()? {
            if self.scanner.peek(0) != Some('-') || self.scanner.peek(1) == Some(']') {
                add(&mut set, &first);
                continue;
            }
            self.scanner.at += 1;
            let last = self.scanner.class_item()?.ok_or("has a [ without its ]")?;
            match (&first, &last) {
                (Item::Char(first), Item::Char(last)) if first > last => {
                    return Err("has a range whose ends are the wrong way round".to_owned());
                }
                (Item::Char(first), Item::Char(last)) => set.ranges.push((*first, *last)),
                _ => [&first, &Item::Char('-'), &last].into_iter().for_each(|item| add(&mut set, item)),
            }
        }
        Ok(set)
    }
}

fn one(set: Set) -> Ast {
    Ast::One(Arc::new(set))
}

/// What `{3}`, `{3,}` and `{3,5}` mean.
fn limits(count: &str) -> Result<(usize, Option<usize>), String> {
    let text = count.trim_start_matches('{').trim_end_matches('}');
    let number = |text: &str| text.parse::<usize>().map_err(|_| "repeats too often".to_owned());
    let limits = match text.split_once(',') {
        None => (number(text)?, Some(number(text)?)),
        Some((min, "")) => (number(min)?, None),
        Some((min, max)) => (number(min)?, Some(number(max)?)),
    };
    if limits.1.is_some_and(|max| max < limits.0) {
        return Err("repeats from more times to fewer".to_owned());
    }
    Ok(limits)
}

/// Puts numbers for the names that are referred back to.
fn resolve(ast: &mut Ast, names: &[(String, usize)]) {
    match ast {
        Ast::Back(Reference::Name(name)) => {
            let number = names.iter().find(|(other, _)| other == name).map_or(0, |(_, number)| *number);
            *ast = Ast::Back(Reference::Number(number));
        }
        Ast::Group(inner, _) | Ast::Repeat { inner, .. } | Ast::Look { inner, .. } => resolve(inner, names),
        Ast::Sequence(parts) | Ast::Either(parts) => parts.iter_mut().for_each(|part| resolve(part, names)),
        Ast::One(_) | Ast::Start | Ast::End | Ast::Boundary(_) | Ast::Back(_) => {}
    }
}
