//! Child processes that end with us.

use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// A child process with a process group of its own. Dropped before it has ended, it is told to terminate, and so is every
/// process it started: a cancelled `cargo build` takes its compilers with it.
pub(crate) struct Group(Child);

impl Group {
    /// Starts `command` without standard input.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.as_std().get_program().to_owned();
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        Ok(Self(child.with_context(|| format!("cannot start {}", program.display()))?))
    }

    /// The process itself, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Waits for the process to end.
    ///
    /// # Errors
    /// Its status cannot be read.
    pub(crate) async fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.0.wait().await?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may have ended just now: then there is nothing left to tell.
            let _ = kill_process_group(id, Signal::TERM);
        }
    }
}
