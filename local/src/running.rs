//! Finding the stacks that run from this checkout: each leaves a note under `.local/`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws;
use crate::ministack::log_path;

/// A page server answers this fast unless its machine is very busy.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The embedded AWS's port unless the user chooses another: the one such emulators are expected on.
pub const AWS_PORT_DEFAULT: u16 = 4566;

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
        let path = path(root, running.aws_port);
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

fn path(root: &Path, aws_port: u16) -> PathBuf {
    root.join(format!(".local/stack-{aws_port}.json"))
}

/// An ID token of a sample shopper, from the stack on `aws_port`; by default from the one on [`AWS_PORT_DEFAULT`], or
/// else from the only one that runs.
///
/// # Errors
/// No stack runs, several do and none was chosen, or there is no such shopper.
pub async fn token(name: &str, aws_port: Option<u16>) -> Result<String> {
    let http = aws::http_client()?;
    let mut running = forget_dead(&crate::stack::root()).await?;
    let has_default = running.iter().any(|stack| stack.aws_port == AWS_PORT_DEFAULT);
    if let Some(chosen) = aws_port.or(has_default.then_some(AWS_PORT_DEFAULT)) {
        running.retain(|stack| stack.aws_port == chosen);
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

/// Removes what killed stacks have left under `.local/`, and returns the stacks that run.
///
/// # Errors
/// `.local/` cannot be read.
pub(crate) async fn forget_dead(root: &Path) -> Result<Vec<Running>> {
    let http = aws::http_client()?;
    let mut running = Vec::new();
    for stack in notes(root)? {
        let config = async || {
            let request = http.get(format!("{}/config.json", stack.page)).timeout(ANSWER_MAX);
            request.send().await?.json::<Value>().await
        };
        match config().await {
            Ok(config) if config.get("websocket").and_then(Value::as_str) == Some(&stack.websocket) => {
                running.push(stack)
            }
            Err(error) if error.is_timeout() => {}
            // Nobody listens, or another server has got the port.
            Ok(_) | Err(_) => {
                let _ = fs::remove_file(path(root, stack.aws_port));
                let _ = fs::remove_file(log_path(root, stack.aws_port));
            }
        }
    }
    Ok(running)
}

fn notes(root: &Path) -> Result<Vec<Running>> {
    let entries = match fs::read_dir(root.join(".local")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut notes = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // A note that has just been removed, or is being written, is of no stack that is ready.
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(note) = fs::read(&path).ok().and_then(|note| serde_json::from_slice(&note).ok())
        {
            notes.push(note);
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports;

    #[tokio::test]
    async fn a_killed_stack_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".local")).unwrap();
        let page = format!("http://127.0.0.1:{}", ports::free().await.unwrap());
        let killed = Running { aws_port: 4566, page, websocket: "ws://127.0.0.1:1/v1".to_owned() };
        // A killed process drops nothing.
        std::mem::forget(Note::leave(root.path(), &killed).unwrap());
        fs::write(log_path(root.path(), 4566), "").unwrap();
        assert_eq!(notes(root.path()).unwrap(), [killed]);

        assert_eq!(forget_dead(root.path()).await.unwrap(), []);
        assert_eq!(fs::read_dir(root.path().join(".local")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_stack_that_ends_takes_its_note_along() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".local")).unwrap();
        let running = Running { aws_port: 4566, page: String::new(), websocket: String::new() };
        drop(Note::leave(root.path(), &running).unwrap());
        assert_eq!(notes(root.path()).unwrap(), []);
    }

    #[tokio::test]
    async fn before_the_first_run_nothing_runs() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(forget_dead(root.path()).await.unwrap(), []);
    }
}
