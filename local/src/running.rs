//! Finding the stacks that run from this checkout: each leaves a note under `.local/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws;

/// What a running stack says of itself.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Running {
    pub(crate) aws_port: u16,
    pub(crate) page: String,
    pub(crate) websocket: String,
}

/// The note of a running stack, removed when dropped. A killed stack leaves it behind.
pub(crate) struct Note(PathBuf);

impl Note {
    /// # Errors
    /// It cannot be written.
    pub(crate) fn leave(root: &Path, running: &Running) -> Result<Self> {
        let path = root.join(format!(".local/stack-{}.json", running.aws_port));
        fs::write(&path, serde_json::to_vec(running)?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // Gone already: then there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

/// An ID token of a sample shopper, from the stack on `aws_port`, or from the only one that runs.
///
/// # Errors
/// No stack runs, several do and none was chosen, or there is no such shopper.
pub async fn token(name: &str, aws_port: Option<u16>) -> Result<String> {
    let http = aws::http_client()?;
    let mut running = Vec::new();
    for stack in notes(&crate::stack::root())? {
        if aws_port.is_none_or(|port| port == stack.aws_port) && answers(&http, &stack).await {
            running.push(stack);
        }
    }
    let stack = match running.as_slice() {
        [stack] => stack,
        [] => {
            let port = aws_port.map(|port| format!(" on AWS port {port}")).unwrap_or_default();
            bail!("no stack is running{port}: start one with cargo dev");
        }
        several => {
            let ports: Vec<_> = several.iter().map(|stack| stack.aws_port.to_string()).collect();
            bail!("several stacks are running: choose one with --aws-port {}", ports.join(" or "));
        }
    };
    let answer: Value = http.post(format!("{}/token/{name}", stack.page)).send().await?.json().await?;
    if let Some(problem) = answer.get("error").and_then(Value::as_str) {
        bail!("{problem}");
    }
    Ok(answer.get("token").and_then(Value::as_str).context("the stack gave no token")?.to_owned())
}

fn notes(root: &Path) -> Result<Vec<Running>> {
    let entries = match fs::read_dir(root.join(".local")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut notes = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_note = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("stack-"));
        // A note that has just been removed, or is being written, is of no stack that is ready.
        if is_note && let Some(note) = fs::read(&path).ok().and_then(|note| serde_json::from_slice(&note).ok()) {
            notes.push(note);
        }
    }
    Ok(notes)
}

/// Whether it still runs, and its page port has not gone to another server.
async fn answers(http: &reqwest::Client, stack: &Running) -> bool {
    let config = async || http.get(format!("{}/config.json", stack.page)).send().await?.json::<Value>().await;
    config().await.is_ok_and(|config| config.get("websocket").and_then(Value::as_str) == Some(&stack.websocket))
}
