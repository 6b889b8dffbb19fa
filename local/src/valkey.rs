//! Valkey, the second-level cache: a server as a child process, behind an address where faults can be put before it.

use std::fs::{self, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::gate::Gate;
use crate::ports;
use crate::valkey_proxy::Proxy;

/// Valkey answers a tenth of a second after its start on an idle machine; a busy one gets plenty.
const START_MAX: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Plenty for a developer's shop; what was used least goes first.
const MEMORY: &str = "64mb";

/// A running Valkey without persistence. Dropping it ends it, and so does the end of our process, however it comes: see
/// `valkey.py`.
pub struct Valkey {
    root: PathBuf,
    python: PathBuf,
    log: PathBuf,
    log_stays: bool,
    server: Mutex<Option<Child>>,
    /// The port of the server that runs; each has another.
    port: Arc<watch::Sender<Option<u16>>>,
    proxy: Proxy,
}

impl Valkey {
    /// Starts a server on a free port of 127.0.0.1, to be reached through `listener`. What it says goes to
    /// `.local/valkey-<port>.log`, after the port of the stack's AWS, which stays when it ends if `log_stays`.
    ///
    /// # Errors
    /// It ends at once, or does not answer within half a minute.
    pub(crate) async fn start(
        root: &Path,
        python: &Path,
        listener: TcpListener,
        aws_port: u16,
        log_stays: bool,
    ) -> Result<Self> {
        let port = Arc::new(watch::Sender::new(None));
        let proxy = Proxy::start(listener, Arc::clone(&port))?;
        let log = log_path(root, aws_port);
        fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        let valkey = Self {
            root: root.to_owned(),
            python: python.to_owned(),
            log,
            log_stays,
            server: Mutex::new(None),
            port,
            proxy,
        };
        valkey.restart().await?;
        Ok(valkey)
    }

    /// Where clients connect, `redis://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.proxy.address())
    }

    pub(crate) fn gate(&self) -> Arc<Gate> {
        self.proxy.gate()
    }

    /// Ends the server as nothing could that it would notice. Connections break off, and new ones are closed at once.
    pub fn kill(&self) {
        self.port.send_replace(None);
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            end(server);
        }
    }

    /// Starts an empty server at the same address, after it has ended the one that runs.
    ///
    /// # Errors
    /// As at the first start.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        let (port, server) = ports::on_free(async |port| Ok((port, self.start_server(port).await?))).await?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        self.port.send_replace(Some(port));
        Ok(())
    }

    /// Ends the server for good.
    ///
    /// # Errors
    /// Its log cannot be removed.
    pub(crate) fn stop(self) -> Result<()> {
        self.kill();
        if !self.log_stays {
            fs::remove_file(&self.log).with_context(|| format!("cannot remove {}", self.log.display()))?;
        }
        Ok(())
    }

    async fn start_server(&self, port: u16) -> Result<Child> {
        let log = OpenOptions::new().append(true).open(&self.log)?;
        let mut server = Command::new(&self.python)
            .arg("-I")
            .arg(self.root.join("local/valkey.py"))
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .args(["--maxmemory", MEMORY, "--maxmemory-policy", "allkeys-lru"])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.python.display()))?;
        let deadline = Instant::now() + START_MAX;
        while !answers(port).await {
            if server.try_wait()?.is_some() {
                bail!("Valkey has ended: see {}", self.log.display());
            }
            if Instant::now() > deadline {
                end(server);
                bail!("Valkey does not answer after {} s: see {}", START_MAX.as_secs(), self.log.display());
            }
            sleep(READY_POLL).await;
        }
        Ok(server)
    }
}

/// Kills the server's group, `valkey.py` and Valkey, and waits the millisecond until it has ended.
fn end(mut server: Child) {
    let group = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
    // It may have ended by itself.
    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    let _ = server.wait();
}

/// Where the Valkey of the stack with the AWS on this port logs to.
pub(crate) fn log_path(root: &Path, aws_port: u16) -> PathBuf {
    root.join(format!(".local/valkey-{aws_port}.log"))
}

async fn answers(port: u16) -> bool {
    let ping = async {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        connection.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        connection.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer == *b"+PONG\r\n")
    };
    matches!(timeout(ANSWER_MAX, ping).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python;
    use crate::stack::{Progress, root};

    struct Client(TcpStream);

    impl Client {
        async fn connect(valkey: &Valkey) -> Self {
            Self(TcpStream::connect(valkey.url().strip_prefix("redis://").unwrap()).await.unwrap())
        }

        /// The answer, or nothing if the connection is closed.
        async fn ask(&mut self, command: &str) -> String {
            let mut answer = [0; 1_000];
            // It may be closed before or after the command is sent.
            let _ = self.0.write_all(format!("{command}\r\n").as_bytes()).await;
            let length = self.0.read(&mut answer).await.unwrap_or(0);
            String::from_utf8(answer[..length].to_vec()).unwrap()
        }
    }

    /// Its log has a name that no other stack uses meanwhile.
    async fn start(log_stays: bool) -> Valkey {
        let progress: Progress = Arc::new(|_| {});
        let python = python::environment(&root(), &progress).await.unwrap();
        let listener = ports::listen_on_free().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Valkey::start(&root(), &python, listener, port, log_stays).await.unwrap()
    }

    #[tokio::test]
    async fn it_keeps_what_it_is_given_until_it_is_killed() {
        let valkey = start(false).await;
        let log = valkey.log.clone();
        let mut client = Client::connect(&valkey).await;
        assert_eq!(client.ask("SET title 鋼").await, "+OK\r\n");
        assert_eq!(client.ask("GET title").await, "$3\r\n鋼\r\n");
        assert_eq!(client.ask("CONFIG GET save").await, "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");

        valkey.kill();
        assert_eq!(client.ask("GET title").await, "");
        assert_eq!(Client::connect(&valkey).await.ask("GET title").await, "");

        valkey.restart().await.unwrap();
        let mut client = Client::connect(&valkey).await;
        assert_eq!(client.ask("GET title").await, "$-1\r\n");

        let said = fs::read_to_string(&log).unwrap();
        assert_eq!(said.matches("Ready to accept connections").count(), 2, "{said}");
        valkey.stop().unwrap();
        assert!(!log.exists());
        assert_eq!(client.ask("GET title").await, "");
    }

    #[tokio::test]
    async fn it_ends_with_who_started_it() {
        let valkey = start(true).await;
        let (port, log) = (valkey.port.borrow().unwrap(), valkey.log.clone());
        // The pipe closes, as it does when the process ends.
        drop(valkey);
        let deadline = Instant::now() + START_MAX;
        while answers(port).await {
            assert!(Instant::now() < deadline, "Valkey still runs");
            sleep(READY_POLL).await;
        }
        fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn a_server_that_does_not_start_is_told_with_its_log() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".local")).unwrap();
        let listener = ports::listen_on_free().await.unwrap();
        // There is no valkey.py.
        let started = Valkey::start(root.path(), Path::new("python3"), listener, 4566, true).await;
        let log = root.path().join(".local/valkey-4566.log");
        assert_eq!(started.err().unwrap().to_string(), format!("Valkey has ended: see {}", log.display()));
        assert!(fs::read_to_string(log).unwrap().contains("No such file"));
    }
}
