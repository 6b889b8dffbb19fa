//! Metrics in CloudWatch's embedded metric format: a line of the log that CloudWatch takes apart by itself.

use std::io::{self, Write};

use aws_adapters::NAMESPACE;
use domain::redrive::{QueueReport, RedriveReport};
use serde_json::{Value, json};

/// Writes what became of each queue's letters, a line for each. A dry run has nothing to count.
///
/// # Errors
/// When the output takes no more.
pub(crate) fn write(report: &RedriveReport, now_ms: u64, mut output: impl Write) -> io::Result<()> {
    if report.dry_run {
        return Ok(());
    }
    for (queue, report) in &report.queues {
        let mut line = line(json!(queue), report, now_ms).to_string();
        line.push('\n');
        // At once: lines of others do not come between.
        output.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn line(queue: Value, report: &QueueReport, now_ms: u64) -> Value {
    let count = |count: u32| ("Count", u64::from(count));
    let metrics = [
        ("DeadLettersReceived", count(report.received)),
        ("DeadLettersRedriven", count(report.redriven)),
        ("DeadLettersQuarantined", count(report.quarantined)),
        ("DeadLettersDuplicate", count(report.duplicates)),
        ("DeadLettersExpired", count(report.expired)),
        ("DeadLettersGivenBack", count(report.given_back)),
        ("DeadLettersRefailed", count(report.refailed)),
        ("TurnsFailed", count(report.turns_failed)),
        ("QueueHalted", count(report.halted_until.is_some().into())),
        ("QueueUnavailable", count(report.unavailable.is_some().into())),
        ("RunDuration", ("Milliseconds", report.duration_ms)),
    ];
    let declared = metrics.map(|(name, (unit, _))| json!({"Name": name, "Unit": unit}));
    let mut line = json!({
        "_aws": {
            "Timestamp": now_ms,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["service", "queue"]],
                "Metrics": declared,
            }],
        },
        "service": "dlq-redriver",
        "queue": queue,
        "reasons": report.reasons,
    });
    if let Some(members) = line.as_object_mut() {
        members.extend(metrics.map(|(name, (_, value))| (name.to_owned(), json!(value))));
    }
    line
}
