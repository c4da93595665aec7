//! The results of requirements on a visitor: yes, no, or undecided for some cause.

/// Why a flag is undecided. The first of several causes counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Continuity,
    Definition,
    Dependency,
    Context,
}

impl Cause {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Cause::Continuity => "experience_continuity",
            Cause::Definition => "unsupported_definition",
            Cause::Dependency => "unresolved_dependency",
            Cause::Context => "missing_context",
        }
    }
}

/// No decision.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecided {
    pub(super) cause: Cause,
    /// Whether no later group of conditions counts.
    pub(super) at_once: bool,
}

impl Undecided {
    /// A definition that the SDK stops at.
    pub(super) const AT_ONCE: Undecided = Undecided { cause: Cause::Definition, at_once: true };

    /// This one and an earlier one together.
    pub(super) fn after(self, earlier: Option<Undecided>) -> Undecided {
        earlier.map_or(self, |earlier| Undecided { cause: earlier.cause.min(self.cause), ..earlier })
    }
}

impl From<Cause> for Undecided {
    fn from(cause: Cause) -> Undecided {
        Undecided { cause, at_once: false }
    }
}

/// The result of a requirement.
pub(super) type Verdict = Result<bool, Undecided>;
