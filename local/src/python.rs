//! The Python environment MiniStack runs in: `.venv`, made from `local/requirements.txt`.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::process::Command;

use crate::process::Group;
use crate::stack::Progress;

/// The oldest Python that every pinned requirement supports.
const VERSION_MIN: (u32, u32) = (3, 10);

/// Names under which a Python 3 is looked for, best first.
const NAMES: [&str; 2] = ["python3", "python"];

/// Says the version first, so that a Python without `venv` still tells it.
const PROBE: &str = "import sys; print(*sys.version_info[:2], flush=True); import venv, ensurepip";

/// How often a lock held by another process is tried again.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Looking whether `.venv` is complete is over by then: who still holds the lock makes it.
const LOCK_QUIET_TRIES: u32 = 20;

/// Makes `.venv` under `root`, or remakes it when the requirements have changed since, and returns its interpreter.
/// Safe against other processes that do the same.
///
/// # Errors
/// There is no Python 3.10 or newer with `venv`, or the requirements cannot be installed.
pub(crate) async fn environment(root: &Path, progress: &Progress) -> Result<PathBuf> {
    let requirements_path = root.join("local/requirements.txt");
    let requirements =
        fs::read(&requirements_path).with_context(|| format!("cannot read {}", requirements_path.display()))?;
    let venv = root.join(".venv");
    let python = venv.join("bin/python");
    // A copy of what was installed, written last: an environment without it is unfinished.
    let installed = venv.join("requirements.txt");

    let _lock = lock(&root.join(".local/venv.lock"), progress).await?;
    if fs::read(&installed).is_ok_and(|copy| copy == requirements) && runs(&python).await {
        return Ok(python);
    }
    progress("making .venv from local/requirements.txt");
    let base = find(&NAMES).await?;
    run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&venv)).await.context("cannot make .venv")?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements_path))
    .await
    .context("cannot install local/requirements.txt into .venv")?;
    fs::write(&installed, requirements)?;
    Ok(python)
}

async fn lock(path: &Path, progress: &Progress) -> Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut tries = 0;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                tries += 1;
                if tries == LOCK_QUIET_TRIES {
                    progress("another process is making .venv: waiting for it");
                }
                tokio::time::sleep(LOCK_POLL).await;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

/// Whether the interpreter starts: the Python an environment was made from may be gone.
async fn runs(python: &Path) -> bool {
    let version = Command::new(python).arg("--version").stdin(Stdio::null()).output().await;
    version.is_ok_and(|output| output.status.success())
}

/// The first of `names` that is new enough and complete, or else what is wrong with the first one found.
async fn find(names: &[&str]) -> Result<PathBuf> {
    let mut problem = None;
    for name in names {
        match Command::new(name).args(["-c", PROBE]).stdin(Stdio::null()).output().await {
            Ok(output) => match judge(name, &String::from_utf8_lossy(&output.stdout), output.status.success()) {
                Ok(()) => return Ok(PathBuf::from(name)),
                Err(error) => _ = problem.get_or_insert(error),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot run {name}")),
        }
    }
    let (major, minor) = VERSION_MIN;
    let found = problem.unwrap_or_else(|| anyhow!("neither {} is on the PATH", names.join(" nor ")));
    Err(anyhow!("Python {major}.{minor} or newer is needed: {found}"))
}

fn judge(name: &str, said: &str, complete: bool) -> Result<()> {
    let version =
        said.split_once(' ').and_then(|(major, minor)| Some((major.parse().ok()?, minor.trim().parse().ok()?)));
    let Some(version) = version else { bail!("{name} does not tell its version") };
    let (major, minor): (u32, u32) = version;
    if version < VERSION_MIN {
        bail!("{name} is {major}.{minor}");
    }
    if !complete {
        bail!("{name} ({major}.{minor}) lacks the venv module (on Debian and Ubuntu: apt install python3-venv)");
    }
    Ok(())
}

/// Runs to the end; the error is the last line the command wrote.
async fn run(command: &mut Command) -> Result<()> {
    let mut group = Group::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let mut said = String::new();
    if let Some(mut stderr) = group.child().stderr.take() {
        tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut said).await?;
    }
    if group.wait().await?.success() {
        return Ok(());
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    bail!("{}", last.trim())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_missing_python_is_one_clear_line() {
        let error = find(&["no-such-python3", "no-such-python"]).await.unwrap_err();
        let expected = "Python 3.10 or newer is needed: neither no-such-python3 nor no-such-python is on the PATH";
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test]
    async fn the_next_name_is_tried() {
        assert_eq!(find(&["no-such-python3", "python3"]).await.unwrap(), Path::new("python3"));
    }

    #[test]
    fn the_oldest_python_supported_will_do_and_an_older_one_is_named() {
        judge("python3", "3 10\n", true).unwrap();
        judge("python3", "4 0\n", true).unwrap();
        assert_eq!(judge("python3", "3 9\n", true).unwrap_err().to_string(), "python3 is 3.9");
        assert_eq!(judge("python", "2 7\n", false).unwrap_err().to_string(), "python is 2.7");
    }

    #[test]
    fn a_python_without_venv_is_named_with_the_remedy() {
        let error = judge("python3", "3 13\n", false).unwrap_err();
        let expected = "python3 (3.13) lacks the venv module (on Debian and Ubuntu: apt install python3-venv)";
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test]
    async fn the_environment_is_made_once_and_remade_when_the_requirements_change() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("local")).unwrap();
        let requirements = root.path().join("local/requirements.txt");
        fs::write(&requirements, "# none\n").unwrap();
        let progress: Progress = Arc::new(|_| {});

        let (first, second) = tokio::join!(environment(root.path(), &progress), environment(root.path(), &progress));
        assert_eq!(first.unwrap(), second.unwrap());

        let witness = root.path().join(".venv/witness");
        fs::write(&witness, "").unwrap();
        environment(root.path(), &progress).await.unwrap();
        assert!(witness.exists(), "unchanged requirements: the environment stays");

        fs::write(&requirements, "# still none\n").unwrap();
        environment(root.path(), &progress).await.unwrap();
        assert!(!witness.exists(), "changed requirements: the environment is a new one");
    }

    #[tokio::test]
    async fn requirements_that_cannot_be_installed_leave_no_finished_environment() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("local")).unwrap();
        fs::write(root.path().join("local/requirements.txt"), "not a requirement\n").unwrap();
        let progress: Progress = Arc::new(|_| {});
        let error = format!("{:#}", environment(root.path(), &progress).await.unwrap_err());
        assert!(error.starts_with("cannot install local/requirements.txt into .venv: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
        assert!(!root.path().join(".venv/requirements.txt").exists());
    }
}
