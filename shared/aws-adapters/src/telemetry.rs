//! Logs: one JSON object a line, which CloudWatch Logs takes apart.
//!
//! No message text, token or personal data is ever a field.

use std::io::{self, Write};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;

use crate::configuration::environment;

/// Starts logging for a function, at the level of `LOG_LEVEL` (`info` if absent or malformed). Every line carries the
/// function's name as `service` and the fields of the invocation's span.
pub fn init(service: &'static str) {
    let level = environment("LOG_LEVEL").and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    // Only the first subscriber of a process counts; a second call changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber(service, level, io::stdout));
}

fn subscriber<W: Write>(
    service: &'static str,
    level: LevelFilter,
    output: impl Fn() -> W + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    // Never at trace, where lambda_runtime prints whole events, with the tokens and texts in them.
    // A level and no directives: the parser of `EnvFilter` would be a tenth of the package.
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_ansi(false)
        .with_max_level(level.min(LevelFilter::DEBUG))
        .with_writer(move || Lines { service, output: output() })
        .finish()
}

/// Writes `service` as the first member of every line.
struct Lines<W> {
    service: &'static str,
    output: W,
}

impl<W: Write> Write for Lines<W> {
    /// Takes a whole line: the formatter writes each event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let members = line.strip_prefix(b"{").unwrap_or(line);
        let mut named = format!("{{\"service\":\"{}\",", self.service).into_bytes();
        named.extend_from_slice(members);
        self.output.write_all(&named)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_that_names_its_service_and_span() {
        let output = Output::default();
        let written = output.clone();
        tracing::subscriber::with_default(subscriber("message", LevelFilter::INFO, move || written.clone()), || {
            let _span = tracing::info_span!("invocation", requestId = "r-1").entered();
            tracing::debug!("left out");
            tracing::info!(frames = 3, "turn\nended");
            tracing::warn!("and again");
        });
        let lines = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        let first = &lines[0];
        assert_eq!((&first["service"], &first["frames"]), (&json!("message"), &json!(3)));
        assert_eq!((&first["level"], &first["message"]), (&json!("INFO"), &json!("turn\nended")));
        assert_eq!(first["span"]["requestId"], "r-1");
    }
}
