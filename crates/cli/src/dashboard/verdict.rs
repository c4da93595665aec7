//! Verdicts: whether delivery, proxies and experiments are healthy, with the reason and the response as sentences.

pub(super) mod causes;
pub(super) mod delivery;
pub(super) mod experiment;
pub(super) mod proxy;

use serde_json::{Value, json};

/// A state of health, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Healthy,
    /// No answer has arrived yet.
    Asking,
    Watch,
    Broken,
}

impl Health {
    pub(super) fn name(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Asking => "asking",
            Health::Watch => "watch",
            Health::Broken => "broken",
        }
    }
}

/// The health of one thing, with its reason and the response to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) health: Health,
    /// The problem in a word or two; by default the name of the health.
    pub(super) word: &'static str,
    pub(super) text: String,
    /// How to respond; empty if nothing needs to be done.
    pub(super) response: &'static str,
}

impl Verdict {
    pub(super) fn new(health: Health, text: impl Into<String>) -> Verdict {
        Verdict { health, word: health.name(), text: text.into(), response: "" }
    }

    pub(super) fn word(self, word: &'static str) -> Verdict {
        Verdict { word, ..self }
    }

    pub(super) fn response(self, response: &'static str) -> Verdict {
        Verdict { response, ..self }
    }

    /// `since_s` is how long it has been so; none if that is unknown.
    pub(super) fn to_json(&self, since_s: Option<u64>) -> Value {
        let Verdict { health, word, text, response } = self;
        json!({"health": health.name(), "word": word, "text": text, "response": response, "since_s": since_s})
    }
}

/// A p-value for reading: three decimals if it is small, else two.
fn p_text(p_value: f64) -> String {
    if p_value < 0.0995 { format!("p = {p_value:.3}") } else { format!("p = {p_value:.2}") }
}

/// A share for reading.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
