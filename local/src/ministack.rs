//! MiniStack, the embedded AWS, as a child process on a loopback port.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::{aws, ports};

/// The Region everything is deployed to: the store's home, and the one the default model's inference profile serves.
pub const REGION: &str = "ap-northeast-1";

/// MiniStack answers half a second after its start on an idle machine; a busy one gets plenty.
const START_MAX: Duration = Duration::from_secs(60);
const HEALTH_POLL: Duration = Duration::from_millis(50);
const STOP_MAX: Duration = Duration::from_secs(10);

/// A running MiniStack. Dropping it ends it, and so does the end of our process, however it comes: see `ministack.py`.
pub(crate) struct MiniStack {
    child: Child,
    stdin: ChildStdin,
    port: u16,
    port_is_chosen: bool,
    log: PathBuf,
}

impl MiniStack {
    /// Starts MiniStack on `port` of 127.0.0.1, or on a free one for 0, and waits until it is healthy. What it and the
    /// functions say goes to `.local/ministack-<port>.log`.
    ///
    /// # Errors
    /// It ends at once, or is not healthy within a minute.
    pub(crate) async fn start(root: &Path, python: &Path, port: u16) -> Result<Self> {
        if port != 0 {
            return Self::start_on(root, python, port, true).await;
        }
        ports::on_free(async |port| Self::start_on(root, python, port, false).await).await
    }

    async fn start_on(root: &Path, python: &Path, port: u16, port_is_chosen: bool) -> Result<Self> {
        let log = log_path(root, port);
        let log_file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // MiniStack hands its environment on to the functions: what a developer has set must not reach them.
        let kept = ["PATH", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(python)
            // Isolated: else the folder of ministack.py is searched before the installed package of that name.
            .arg("-I")
            .arg(root.join("local/ministack.py"))
            .env_clear()
            .envs(kept)
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("IOT_MTLS_ENABLED", "0")
            .env("MINISTACK_REGION", REGION)
            .env("MINISTACK_EDITION", edition(port))
            .env("AWS_ENDPOINT_URL", url(port))
            .stdin(Stdio::piped())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let stdin = child.stdin.take().context("MiniStack has no standard input")?;
        let mut ministack = Self { child, stdin, port, port_is_chosen, log };

        let http = aws::http_client()?;
        let deadline = Instant::now() + START_MAX;
        while !ministack.healthy(&http).await {
            if ministack.child.try_wait()?.is_some() {
                return Err(ministack.failed().await);
            }
            if Instant::now() > deadline {
                bail!("MiniStack is not healthy after {} s: see {}", START_MAX.as_secs(), ministack.log.display());
            }
            sleep(HEALTH_POLL).await;
        }
        Ok(ministack)
    }

    /// Its base URL, `http://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it has ended by itself, and says where the reason is found.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        // The status tells nothing: the group always ends by SIGKILL.
        let _ = self.child.wait().await;
        anyhow!("MiniStack has ended: see {}", self.log.display())
    }

    /// Ends MiniStack and the functions it runs. Their log stays if the port was chosen: the next run there replaces it.
    ///
    /// # Errors
    /// It has not ended within ten seconds.
    pub(crate) async fn stop(self) -> Result<()> {
        let Self { mut child, stdin, log, port_is_chosen, .. } = self;
        drop(stdin);
        timeout(STOP_MAX, child.wait()).await.context("MiniStack does not end")??;
        if !port_is_chosen {
            fs::remove_file(&log).with_context(|| format!("cannot remove {}", log.display()))?;
        }
        Ok(())
    }

    /// Whether *this* MiniStack answers: another one may have taken the port.
    async fn healthy(&self, http: &reqwest::Client) -> bool {
        let get = async || http.get(format!("{}/_ministack/health", self.url())).send().await?.json::<Value>().await;
        get().await.is_ok_and(|health| health.get("edition").is_some_and(|name| *name == edition(self.port)))
    }
}

/// Where the MiniStack on `port` and the functions it runs log to.
pub(crate) fn log_path(root: &Path, port: u16) -> PathBuf {
    root.join(format!(".local/ministack-{port}.log"))
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Told back by the health answer.
fn edition(port: u16) -> String {
    format!("manga-chat-{}-{port}", std::process::id())
}
