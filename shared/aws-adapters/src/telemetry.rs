//! Logs: one JSON object a line, which CloudWatch Logs takes apart.
//!
//! No message text, token or personal data is ever a field.

use tracing_subscriber::EnvFilter;

use crate::configuration::environment;

/// Starts logging for a function, at the level of `LOG_LEVEL` (`info` if absent or malformed). Every line carries the
/// fields of the invocation's span.
pub fn init(service: &'static str) {
    let level = environment("LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&level).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_ansi(false)
        .with_env_filter(filter)
        .finish();
    // Only the first subscriber of a process counts; a second call changes nothing.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        tracing::debug!(service, "telemetry started");
    }
}
