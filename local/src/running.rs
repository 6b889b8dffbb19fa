//! Finding the stacks that run from this checkout: each leaves a note under `.local/`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, Target};
use crate::{aws, ministack, valkey};

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
    let page = chosen(&crate::stack::root(), aws_port).await?.page;
    let answer: Value = aws::http_client()?.post(format!("{page}/token/{name}")).send().await?.json().await?;
    if let Some(problem) = answer.get("error").and_then(Value::as_str) {
        bail!("{problem}");
    }
    Ok(answer.get("token").and_then(Value::as_str).context("the stack gave no token")?.to_owned())
}

/// Sets a fault as `words` say, `TARGET FAULT…` or `off`, in the stack that [`token`] would ask, and returns the faults
/// then in force, a line for each target. No words change nothing.
///
/// # Errors
/// The words name no target or no fault, no stack runs, or several do and none was chosen.
pub async fn fault(words: &[String], aws_port: Option<u16>) -> Result<String> {
    fault_in(&crate::stack::root(), words, aws_port).await
}

async fn fault_in(root: &Path, words: &[String], aws_port: Option<u16>) -> Result<String> {
    let change = match words {
        [] => None,
        [all] if all == "off" => Some(None),
        [target, fault @ ..] => Some(Some((target.parse::<Target>()?, fault.join(" ").parse::<Fault>()?))),
    };
    let faults = format!("{}/faults", chosen(root, aws_port).await?.page);
    let http = aws::http_client()?;
    let request = match change {
        None => http.get(faults),
        Some(None) => http.delete(faults),
        Some(Some((target, fault))) => http.put(format!("{faults}/{target}")).body(fault.to_string()),
    };
    Ok(request.send().await?.error_for_status()?.text().await?)
}

/// The running stack on `aws_port`; by default the one on [`AWS_PORT_DEFAULT`], or else the only one that runs.
///
/// # Errors
/// None runs there, or several run and none was chosen.
async fn chosen(root: &Path, aws_port: Option<u16>) -> Result<Running> {
    let mut running = forget_dead(root).await?;
    let has_default = running.iter().any(|stack| stack.aws_port == AWS_PORT_DEFAULT);
    if let Some(chosen) = aws_port.or(has_default.then_some(AWS_PORT_DEFAULT)) {
        running.retain(|stack| stack.aws_port == chosen);
    }
    if running.len() > 1 {
        let ports: Vec<_> = running.iter().map(|stack| stack.aws_port.to_string()).collect();
        bail!("several stacks are running: choose one with --aws-port {}", ports.join(" or "));
    }
    running.pop().with_context(|| {
        let port = aws_port.map(|port| format!(" on AWS port {port}")).unwrap_or_default();
        format!("no stack is running{port}: start one with cargo dev")
    })
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
                let _ = fs::remove_file(ministack::log_path(root, stack.aws_port));
                let _ = fs::remove_file(valkey::log_path(root, stack.aws_port));
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
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::controls::tests::controls;
    use crate::page::{Site, router};
    use crate::ports;
    use crate::shoppers::Shoppers;

    #[tokio::test]
    async fn a_killed_stack_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".local")).unwrap();
        let page = format!("http://127.0.0.1:{}", ports::free().await.unwrap());
        let killed = Running { aws_port: 4566, page, websocket: "ws://127.0.0.1:1/v1".to_owned() };
        // A killed process drops nothing.
        std::mem::forget(Note::leave(root.path(), &killed).unwrap());
        fs::write(ministack::log_path(root.path(), 4566), "").unwrap();
        fs::write(valkey::log_path(root.path(), 4566), "").unwrap();
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

    /// A stack as far as the command line sees it, with a note in `root`.
    async fn run(root: &Path, aws_port: u16) -> (Note, impl Sized) {
        let (bedrock, controls) = controls().await;
        let listener = ports::listen_on_free().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let page = format!("http://127.0.0.1:{port}");
        let websocket = format!("ws://127.0.0.1:{aws_port}/v1");
        let aws = aws::Aws::new(String::new()).unwrap();
        let outputs = ["UserPoolId", "UserPoolClientId"].map(|name| (name.to_owned(), String::new()));
        let shoppers = Shoppers::new(aws, &outputs.into()).unwrap();
        let site = Site { page: PathBuf::new(), port, websocket: websocket.clone(), shoppers, controls };
        let serving = AbortOnDropHandle::new(tokio::spawn(async move {
            axum::serve(listener, router(site)).await.unwrap();
        }));
        let _ = fs::create_dir(root.join(".local"));
        (Note::leave(root, &Running { aws_port, page, websocket }).unwrap(), (bedrock, serving))
    }

    async fn said(root: &Path, words: &str, aws_port: Option<u16>) -> String {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        fault_in(root, &words, aws_port).await.unwrap_or_else(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn faults_are_set_listed_and_ended() {
        let root = tempfile::tempdir().unwrap();
        let _stack = run(root.path(), 4567).await;
        let said = async |words| said(root.path(), words, None).await;
        let none = said("").await;
        assert_eq!(none.lines().count(), Target::ALL.len());
        assert!(none.lines().all(|line| line.ends_with(" off")), "{none}");

        let one = said("catalog latency=1.5s error=0.2").await;
        let expected = "catalog          off";
        assert_eq!(one, none.replace(expected, "catalog          error=0.2 latency=1.5s"));
        let two = said("bedrock throttle").await;
        assert_eq!(two, one.replace("bedrock          off", "bedrock          throttle"));
        assert_eq!(said("").await, two);
        assert_eq!(said("catalog off").await, none.replace("bedrock          off", "bedrock          throttle"));
        said("valkey stall=0.5").await;
        assert_eq!(said("off").await, none);
    }

    #[tokio::test]
    async fn what_cannot_be_set_is_told_in_a_line() {
        let root = tempfile::tempdir().unwrap();
        let said = async |words, port| said(root.path(), words, port).await;
        assert_eq!(said("", None).await, "no stack is running: start one with cargo dev");
        let expected = "no stack is running on AWS port 4567: start one with cargo dev";
        assert_eq!(said("catalog off", Some(4567)).await, expected);
        // Malformed is malformed, whether or not a stack runs.
        assert!(said("cart off", None).await.starts_with("there is no target cart: choose bedrock, catalog, "));
        assert!(said("catalog", None).await.starts_with("name a fault: error=RATE, "));
        assert!(said("catalog off stall", None).await.starts_with("off goes with no other fault"));
        assert!(said("off stall", None).await.starts_with("there is no target off: "));
        assert_eq!(said("catalog error=2", None).await, "error=2: a rate is a number from 0 to 1");

        let _one = run(root.path(), 4567).await;
        let _other = run(root.path(), 4568).await;
        let several = said("catalog stall", None).await;
        let either = ["4567 or 4568", "4568 or 4567"]
            .map(|ports| format!("several stacks are running: choose one with --aws-port {ports}"));
        assert!(either.contains(&several), "{several}");
        assert!(said("catalog stall", Some(4568)).await.contains("catalog          stall\n"));
        assert!(!said("", Some(4567)).await.contains("stall"));
        let _default = run(root.path(), AWS_PORT_DEFAULT).await;
        said("orders stall", None).await;
        assert!(said("", Some(AWS_PORT_DEFAULT)).await.contains("orders           stall\n"));
    }

    #[tokio::test]
    async fn another_sites_page_sets_no_fault() {
        let root = tempfile::tempdir().unwrap();
        let (note, _stack) = run(root.path(), 4567).await;
        let page = notes(root.path()).unwrap().remove(0).page;
        let http = aws::http_client().unwrap();
        let put = |word: &'static str| http.put(format!("{page}/faults/catalog")).body(word);
        let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
        assert_eq!(status(put("stall").header("origin", "https://evil.example")).await, 403);
        assert_eq!(status(put("stall").header("host", "evil.example")).await, 403);
        assert!(!said(root.path(), "", None).await.contains("stall"));
        assert_eq!(status(put("slow")).await, 400);
        assert_eq!(status(http.put(format!("{page}/faults/cart")).body("stall")).await, 404);
        assert_eq!(status(put("stall")).await, 200);
        drop(note);
    }
}
