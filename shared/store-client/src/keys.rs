//! Under which names answers are kept. Nothing of a shopper can be read from them.

use domain::ids::digest;
use domain::store::tags;

/// Changes when what is kept is read otherwise: versions that run side by side have entries of their own.
const PREFIX: &str = "mc1:";

pub(crate) fn product(id: &str) -> String {
    format!("{PREFIX}{}", tags::product(id))
}

pub(crate) fn reviews(id: &str) -> String {
    format!("{PREFIX}{}", tags::reviews(id))
}

pub(crate) fn promotions() -> String {
    format!("{PREFIX}{}", tags::PROMOTIONS)
}

pub(crate) fn trending() -> String {
    format!("{PREFIX}trending")
}

/// Questions that differ in case and blanks only are one.
pub(crate) fn search(question: &str) -> String {
    format!("{PREFIX}search:{}", digest(&[&normal(question)]))
}

pub(crate) fn articles(question: &str) -> String {
    format!("{PREFIX}articles:{}", digest(&[&normal(question)]))
}

/// A session of a shopper has recommendations of its own; everybody else shares theirs.
pub(crate) fn recommendations(shopper: Option<&str>, session: &str) -> String {
    match shopper {
        None => format!("{PREFIX}recommendations"),
        Some(shopper) => format!("{PREFIX}recommendations:{}", digest(&[shopper, session])),
    }
}

/// What is kept of nothing but a tag; what else is about it is known to be out of date by when it was read.
pub(crate) fn of_tag(tag: &str) -> Vec<String> {
    match tag {
        tags::SELECTION => vec![trending(), recommendations(None, "")],
        tag => vec![format!("{PREFIX}{tag}")],
    }
}

fn normal(question: &str) -> String {
    question.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}
