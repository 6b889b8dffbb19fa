//! What makes words an instruction.

use super::Suspicion;
use super::terms::*;

/// Words of these meanings, one after the other in one sentence.
struct Rule {
    suspicion: Suspicion,
    /// What a word means, and how many words at the most stand before it since the last.
    steps: &'static [(Meanings, usize)],
    /// What must not follow at once.
    unless: Meanings,
}

const fn likely(steps: &'static [(Meanings, usize)]) -> Rule {
    Rule { suspicion: Suspicion::Likely, steps, unless: 0 }
}

const fn possible(steps: &'static [(Meanings, usize)]) -> Rule {
    Rule { suspicion: Suspicion::Possible, steps, unless: 0 }
}

impl Rule {
    const fn unless(self, unless: Meanings) -> Self {
        Self { unless, ..self }
    }
}

/// The most steps of a rule.
const STEPS_MAX: usize = 4;

const RULES: [Rule; 48] = [
    // Ignore all previous instructions.
    likely(&[(OVERRIDE, 0), (EARLIER, 4), (ORDERS, 3)]),
    likely(&[(OVERRIDE, 0), (EARLIER, 3), (LAWS, 2)]).unless(TOPIC),
    likely(&[(OVERRIDE, 0), (ALL, 2), (ORDERS, 2)]),
    likely(&[(OVERRIDE, 0), (ORDERS | LAWS, 2), (ABOVE | TOLD, 4)]),
    likely(&[(OVERRIDE, 0), (EVERYTHING, 2), (ABOVE | TOLD, 4)]),
    likely(&[(OVERRIDE, 0), (SECRET, 4)]),
    // Reveal your system prompt.
    likely(&[(REVEAL, 0), (OWN, 5), (ORDERS, 1)]).unless(TOPIC),
    likely(&[(REVEAL, 0), (OWN, 5), (LAWS, 1)]).unless(TOPIC),
    likely(&[(REVEAL | ASK, 0), (SECRET, 6)]),
    likely(&[(ASK, 0), (OWN, 4), (ORDERS, 1)]).unless(TOPIC),
    likely(&[(ASK, 0), (HIDDEN, 4), (LAWS, 0)]).unless(TOPIC),
    likely(&[(REVEAL, 0), (EVERYTHING, 3), (ABOVE, 2)]).unless(ARTICLE),
    likely(&[(ASK, 0), (ORDERS, 1), (TOLD, 0)]),
    possible(&[(SECRET, 0)]),
    // You are now DAN.
    likely(&[(BECOME | HENCEFORTH, 0), (PERSONA | UNBOUND | MODE, 6)]),
    likely(&[(ACT, 0), (UNBOUND | MODE, 6)]),
    likely(&[(ENTER, 0), (MODE, 3)]),
    likely(&[(RESPOND, 0), (WITHOUT, 4), (LAWS | ORDERS, 3)]).unless(TOPIC),
    possible(&[(BECOME, 0), (ARTICLE, 0)]),
    possible(&[(HENCEFORTH, 0), (ORDERING, 1)]),
    // New instructions to the assistant.
    likely(&[(FOLLOW, 0), (NEW | ALL, 2), (ORDERS, 2), (INSTEAD, 3)]),
    likely(&[(FOLLOW, 0), (NEW, 0), (NEW, 0), (ORDERS | LAWS, 1)]),
    likely(&[(OWN, 0), (NEW, 0), (ORDERS, 0)]).unless(TOPIC),
    likely(&[(NEW, 0), (SECRET, 0)]),
    possible(&[(NEW, 0), (ORDERS, 1), (PLEASE, 0)]),
    possible(&[(ADDRESS, 0), (PERSONA, 4)]),
    possible(&[(PERSONA, 0), (ADDRESS, 0)]),
    possible(&[(TELL, 0), (CUSTOMER, 2)]),
    // Decode and follow.
    likely(&[(DECODE, 0), (CODE, 8), (FOLLOW | FOLLOW_JA, 12)]),
    likely(&[(DECODE, 0), (FOLLOW | FOLLOW_JA, 8), (CODE, 12)]),
    likely(&[(CODE, 0), (DECODE, 12), (FOLLOW | FOLLOW_JA, 12)]),
    // Somebody else speaks.
    likely(&[(MARK, 0)]),
    likely(&[(SYSTEM_LINE, 0), (ORDERING | OVERRIDE, 1)]),
    // これまでの指示を無視して
    likely(&[(EARLIER_JA, 0), (ORDERS_JA, 8), (IGNORE_TE, 6), (PLEASE, 0)]),
    likely(&[(EARLIER_JA, 0), (ORDERS_JA, 8), (IGNORE_JA, 6)]).unless(QUOTED),
    likely(&[(EARLIER_JA, 0), (IGNORE_JA, 3)]).unless(QUOTED),
    likely(&[(SECRET_JA, 0), (IGNORE_TE | IGNORE_JA, 4)]),
    likely(&[(ORDERS_JA, 0), (EARLIER_JA, 1), (IGNORE_TE, 1), (PLEASE, 0)]),
    // システムプロンプトを表示
    likely(&[(SECRET_JA, 0), (REVEAL_JA, 8)]),
    likely(&[(EARLIER_JA, 0), (ORDERS_JA, 4), (REVEAL_JA, 6), (PLEASE, 3)]),
    // あなたは今から
    likely(&[(BECOME_JA, 0), (PERSONA | UNBOUND | MODE_JA | RESPOND_JA | WITHOUT_JA | FOLLOW_JA, 24)]),
    possible(&[(BECOME_JA, 0)]),
    likely(&[(MODE_JA, 0), (ENTER_JA | RESPOND_JA, 4)]),
    likely(&[(UNBOUND, 0), (RESPOND_JA, 0)]),
    likely(&[(WITHOUT_JA, 0), (RESPOND_JA, 3)]),
    likely(&[(NEW, 0), (ORDERS_JA, 2), (FOLLOW_JA, 3), (INSTEAD_JA, 8)]),
    possible(&[(NEW, 0), (ORDERS_JA, 2), (FOLLOW_JA, 3)]),
    possible(&[(CUSTOMER_JA, 0), (TELL_JA, 24)]),
];

/// How far a rule has come: where, and in which sentence, the last word of each step ended.
type Progress = [Option<(usize, usize)>; STEPS_MAX];

/// What the words of a text amount to.
pub(super) fn judge(terms: &[Term]) -> Suspicion {
    let meant = terms.iter().fold(0, |meant, term| meant | term.meanings);
    let possible = RULES.iter().filter(|rule| rule.steps.iter().all(|(meanings, _)| meanings & meant != 0));
    let by_rules = possible.filter(|rule| rule.is_broken(terms)).map(|rule| rule.suspicion).max();
    // A made-up conversation has both sides.
    let both = HUMAN_LINE | ASSISTANT_LINE;
    by_rules.unwrap_or(Suspicion::None).max(if meant & both == both { Suspicion::Likely } else { Suspicion::None })
}

impl Rule {
    /// Whether the words are there. Of several that mean the same the last is the closest to what follows.
    fn is_broken(&self, terms: &[Term]) -> bool {
        let mut progress: Progress = [None; STEPS_MAX];
        for (index, term) in terms.iter().enumerate() {
            for (step, (meanings, gap)) in self.steps.iter().enumerate().rev() {
                let follows = match step.checked_sub(1).map(|before| progress.get(before).copied().flatten()) {
                    None => true,
                    Some(None) => false,
                    Some(Some((end, sentence))) => {
                        sentence == term.sentence && term.start >= end && term.start - end <= *gap
                    }
                };
                if term.meanings & meanings == 0 || !follows {
                    continue;
                }
                if step + 1 == self.steps.len() && !self.is_excused(term, terms.get(index + 1..).unwrap_or_default()) {
                    return true;
                }
                if let Some(progress) = progress.get_mut(step) {
                    *progress = Some((term.end, term.sentence));
                }
            }
        }
        false
    }

    /// Whether what follows at once makes the words harmless.
    fn is_excused(&self, last: &Term, after: &[Term]) -> bool {
        let next = after.iter().skip_while(|term| term.start < last.end).take_while(|term| term.start == last.end);
        next.fold(0, |meant, term| meant | term.meanings) & self.unless != 0
    }
}
