//! `dlq-redriver`: looks after dead letters, on a schedule or when an operator invokes it.
//!
//! It sends again what can succeed, drops what is done or of no use any more, and quarantines what nobody can use.

mod metrics;

use std::io::Write;

use domain::ports::{Clock as _, DeadLetters, TurnPorts};
use domain::redrive::{Quarantine, RedriveReport, RedriveRequest, RedriveStates, Redriver, RequestError};
use serde_json::Value;

/// Does one run, and writes its metrics to `output`, the log.
///
/// # Errors
/// When the event asks for something that cannot be done. What does not answer is part of the report.
pub async fn handle<P: TurnPorts, D: DeadLetters, Q: Quarantine + RedriveStates>(
    redriver: &Redriver<P, D, Q>,
    event: &Value,
    output: impl Write,
) -> Result<RedriveReport, RequestError> {
    let request = RedriveRequest::from_event(event)?;
    let report = redriver.run(&request).await;
    if let Err(error) = metrics::write(&report, redriver.ports.clock().now_ms(), output) {
        tracing::warn!(error = &error as &dyn std::error::Error, "metrics were not written");
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
