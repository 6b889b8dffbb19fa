//! What stands before Valkey: passes commands on, or does to them what the fault says.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::gate::{Gate, Verdict};

/// So many commands of a connection are late side by side.
const PIPELINE_MAX: usize = 64;

/// What Valkey itself says to one client too many, before it closes the connection.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// What a cache holds is far smaller.
const COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The running proxy. Dropping it ends it and its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    gate: Arc<Gate>,
    _serving: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Passes what comes to `listener` on to the server on the port that is told.
    ///
    /// # Errors
    /// The listener has no address.
    pub(crate) fn start(listener: TcpListener, port: Arc<watch::Sender<Option<u16>>>) -> Result<Self> {
        let address = listener.local_addr()?;
        let gate = Arc::new(Gate::default());
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&gate), port)));
        Ok(Self { address, gate, _serving: serving })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }
}

async fn serve(listener: TcpListener, gate: Arc<Gate>, port: Arc<watch::Sender<Option<u16>>>) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let (gate, port) = (Arc::clone(&gate), *port.borrow());
                connections.spawn(async move {
                    let _in_flight = gate.in_flight();
                    // However it ends, both ends learn of it by their connection's end.
                    let _ = relay(client, &gate, port).await;
                });
            }
        }
    }
}

/// Relays until either end closes its connection or a fault does.
async fn relay(client: TcpStream, gate: &Gate, port: Option<u16>) -> io::Result<()> {
    let Some(port) = port else { return Ok(()) };
    let (mut from_server, mut to_server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?.into_split();
    let (from_client, mut to_client) = client.into_split();

    let gone = &CancellationToken::new();
    let commands = FramedRead::new(from_client, Commands).chain(stream::poll_fn(|_| {
        gone.cancel();
        Poll::Ready(None)
    }));
    // Side by side, so that those that are sent together are late together; in order all the same.
    let mut met = pin!(commands.map(|command| meet(gate, command, gone)).buffered(PIPELINE_MAX));
    let last_words = {
        let mut answers = pin!(copy(&mut from_server, &mut to_client));
        let pass = async {
            let last_words = loop {
                match met.next().await.transpose()? {
                    Some((Verdict::Pass, command)) => to_server.write_all(&command).await?,
                    Some((Verdict::Throttle, _)) => break TOO_MANY,
                    Some((Verdict::Fail, _)) | None => break b"",
                }
            };
            to_server.shutdown().await?;
            Ok::<&[u8], io::Error>(last_words)
        };
        select! {
            ended = &mut answers => {
                ended?;
                b""
            }
            last_words = pass => {
                let last_words = last_words?;
                // What was passed on is answered first.
                answers.await?;
                last_words
            }
        }
    };
    to_client.write_all(last_words).await
}

/// # Errors
/// The client did not send a command, or has gone while this one was kept waiting.
async fn meet(gate: &Gate, command: io::Result<Bytes>, gone: &CancellationToken) -> io::Result<(Verdict, Bytes)> {
    let command = command?;
    select! {
        biased;
        verdict = gate.meet() => Ok((verdict, command)),
        () = gone.cancelled() => Err(ErrorKind::BrokenPipe.into()),
    }
}

/// Tells commands apart as RESP frames them: an array of bulk strings each, or a line.
struct Commands;

impl Decoder for Commands {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let length = command_length(buffer)?;
        if length.unwrap_or(buffer.len()) > COMMAND_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(length.map(|length| buffer.split_to(length).freeze()))
    }
}

/// The length of the first command in `buffer`, bytes, or `None` until it is whole.
fn command_length(buffer: &[u8]) -> io::Result<Option<usize>> {
    let Some((first, mut length)) = line(buffer, 0) else { return Ok(None) };
    let Some(count) = first.strip_prefix(b"*") else { return Ok(Some(length)) };
    for _ in 0..number(count)? {
        let Some((header, end)) = line(buffer, length) else { return Ok(None) };
        let bulk = number(header.strip_prefix(b"$").ok_or(ErrorKind::InvalidData)?)?;
        length = end + bulk + b"\r\n".len();
    }
    Ok((length <= buffer.len()).then_some(length))
}

/// The line that begins at `start`, and where the next one begins.
fn line(buffer: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let rest = buffer.get(start..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    Some((rest.get(..end)?.trim_ascii_end(), start + end + 1))
}

fn number(digits: &[u8]) -> io::Result<usize> {
    let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.filter(|number| *number <= COMMAND_BYTES_MAX).ok_or_else(|| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::gate::Traffic;
    use crate::ports;

    const PING: &str = "*1\r\n$4\r\nPING\r\n";

    /// A proxy before a server that answers every command with `+PONG`.
    async fn proxy(fault: &str) -> (Proxy, AbortOnDropHandle<()>) {
        let listener = ports::listen_on_free().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (read, mut write) = connection.into_split();
                    let mut commands = FramedRead::new(read, Commands);
                    while let Some(Ok(_)) = commands.next().await {
                        write.write_all(b"+PONG\r\n").await.unwrap();
                    }
                });
            }
        }));
        let port = Arc::new(watch::Sender::new(Some(port)));
        let proxy = Proxy::start(ports::listen_on_free().await.unwrap(), port).unwrap();
        proxy.gate.set(fault.parse().unwrap());
        (proxy, server)
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.unwrap()
    }

    /// Sends a command; its answer, or nothing if the connection is closed.
    async fn ping(connection: &mut TcpStream) -> String {
        connection.write_all(PING.as_bytes()).await.unwrap();
        let mut answer = [0; 100];
        let length = connection.read(&mut answer).await.unwrap();
        String::from_utf8(answer[..length].to_vec()).unwrap()
    }

    #[test]
    fn commands_are_told_apart_however_they_are_cut() {
        let set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\n*1\r\n$1\r\n";
        let sent = [set, "PING\n", PING, "PING\r\n"];
        for piece in 1..=sent.concat().len() {
            let mut buffer = BytesMut::new();
            let mut commands = Vec::new();
            for bytes in sent.concat().as_bytes().chunks(piece) {
                buffer.extend_from_slice(bytes);
                while let Some(command) = Commands.decode(&mut buffer).unwrap() {
                    commands.push(command);
                }
            }
            assert_eq!(commands, sent, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for text in ["*x\r\n", "*-1\r\n", "*1\r\nPING\r\n", "*1\r\n$x\r\n", "*1\r\n$16777217\r\n", "*\r\n"] {
            Commands.decode(&mut BytesMut::from(text)).unwrap_err();
        }
        let long = |length: usize| Commands.decode(&mut BytesMut::from("x".repeat(length).as_str()));
        assert_eq!(long(COMMAND_BYTES_MAX).unwrap(), None);
        long(COMMAND_BYTES_MAX + 1).unwrap_err();
    }

    #[tokio::test]
    async fn commands_are_passed_on_and_counted() {
        let (proxy, _server) = proxy("off").await;
        let mut connection = connect(&proxy).await;
        for _ in 0..3 {
            assert_eq!(ping(&mut connection).await, "+PONG\r\n");
        }
        assert_eq!(proxy.gate.traffic(), Traffic { requests: 3, in_flight: 1 });
        connection.shutdown().await.unwrap();
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_failing_command_closes_its_connection() {
        let (proxy, _server) = proxy("off").await;
        let mut connection = connect(&proxy).await;
        assert_eq!(ping(&mut connection).await, "+PONG\r\n");
        proxy.gate.set("error=1".parse().unwrap());
        assert_eq!(ping(&mut connection).await, "");
        assert_eq!(ping(&mut connect(&proxy).await).await, "");
    }

    #[tokio::test]
    async fn a_throttled_command_is_told_so_as_valkey_does() {
        let (proxy, _server) = proxy("throttle").await;
        let mut connection = connect(&proxy).await;
        assert_eq!(ping(&mut connection).await, "-ERR max number of clients reached\r\n");
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn commands_that_are_sent_together_are_late_together() {
        let (proxy, _server) = proxy("latency=200ms").await;
        let mut connection = connect(&proxy).await;
        let begun = Instant::now();
        connection.write_all(PING.repeat(3).as_bytes()).await.unwrap();
        let mut answers = [0; 21];
        connection.read_exact(&mut answers).await.unwrap();
        assert_eq!(&answers, b"+PONG\r\n+PONG\r\n+PONG\r\n");
        let took = begun.elapsed();
        assert!((Duration::from_millis(200)..Duration::from_millis(600)).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn a_stalled_command_is_answered_when_the_fault_ends_and_forgotten_when_its_client_leaves() {
        let (proxy, _server) = proxy("stall").await;
        let mut stays = connect(&proxy).await;
        timeout(Duration::from_millis(100), ping(&mut stays)).await.unwrap_err();
        let mut leaves = connect(&proxy).await;
        timeout(Duration::from_millis(100), ping(&mut leaves)).await.unwrap_err();
        assert_eq!(proxy.gate.traffic(), Traffic { requests: 2, in_flight: 2 });
        drop(leaves);
        timeout(Duration::from_secs(10), async {
            while proxy.gate.traffic().in_flight > 1 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("who has left is not in flight");

        proxy.gate.set("off".parse().unwrap());
        let mut answer = [0; 7];
        stays.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
    }
}
