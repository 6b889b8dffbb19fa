//! Handing a conversation to a person.

use crate::limits::ESCALATION_SUMMARY_CHARS_MAX;
use crate::metrics::{Measure, Metrics as _};
use crate::ports::{Escalation, Escalations as _, Ports};
use crate::prompt::cut;
use crate::turn::{Past, TurnRequest};

/// Tells the people of the store that a conversation waits for them; whether that has worked.
pub async fn escalate<P: Ports>(ports: &P, request: &TurnRequest, past: &Past) -> bool {
    let escalation = Escalation {
        turn_id: request.turn_id.clone(),
        conversation_id: request.conversation_id.clone(),
        principal: request.principal.clone(),
        locale: request.locale,
        summary: summary(request, past),
        asked_at: request.asked_at,
    };
    match ports.escalations().escalate(&escalation).await {
        Ok(()) => {
            ports.metrics().record(Measure::escalation());
            true
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "nobody was told of an escalation");
            false
        }
    }
}

/// The conversation in short: what it was asked last, then as much of what was before as there is room for, newest first kept.
fn summary(request: &TurnRequest, past: &Past) -> String {
    let mut exchanges: Vec<_> = past.exchanges.iter().collect();
    exchanges.sort_by_key(|exchange| std::cmp::Reverse(exchange.number));
    let mut parts = vec![format!("> {}", request.text)];
    parts.extend(exchanges.iter().map(|exchange| format!("> {}\n{}", exchange.question, exchange.answer)));
    parts.extend(past.summary.as_ref().map(|summary| summary.text.clone()));
    let mut room = ESCALATION_SUMMARY_CHARS_MAX;
    let mut kept = Vec::new();
    for part in &parts {
        let part = cut(part, room);
        if part.is_empty() {
            break;
        }
        room = room.saturating_sub(part.chars().count() + 1);
        kept.push(part);
    }
    kept.reverse();
    kept.join("\n")
}
