//! Loopback ports.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

/// A run that has just been killed may hold its ports for a moment.
const BUSY_MAX: Duration = Duration::from_secs(3);
const BUSY_POLL: Duration = Duration::from_millis(50);

/// Listens on `port` of 127.0.0.1, or on a free one for 0. `flag` is what the user can change when the port is busy.
///
/// # Errors
/// The port stays busy, or may not be bound.
pub(crate) async fn listen(port: u16, flag: &str) -> Result<TcpListener> {
    let deadline = Instant::now() + BUSY_MAX;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => sleep(BUSY_POLL).await,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                return Err(anyhow!("port {port} is busy: choose another with {flag} (0 picks a free one)"));
            }
            Err(error) => return Err(anyhow!("cannot listen on port {port}, see {flag}: {error}")),
        }
    }
}

/// A port that was free a moment ago.
///
/// # Errors
/// None is left.
pub(crate) async fn free() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port())
}
