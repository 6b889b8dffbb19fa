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
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !said {
                    progress("another process is making .venv: waiting for it");
                    said = true;
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
