//! Reads one utterance a line and prints what its shopper wants, or `unsure`:
//! `cargo run --quiet --package domain --example classify`.

use std::io::{BufRead as _, Write as _};

use domain::intent::understand;

fn main() -> std::io::Result<()> {
    let mut lines = std::io::stdin().lock();
    let mut out = std::io::stdout().lock();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let intent = understand(&String::from_utf8_lossy(&line), false).intent;
        let name = intent.map(serde_json::to_value).transpose()?;
        writeln!(out, "{}", name.as_ref().and_then(|name| name.as_str()).unwrap_or("unsure"))?;
        out.flush()?;
        line.clear();
    }
    Ok(())
}
