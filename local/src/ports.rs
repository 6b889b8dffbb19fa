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

/// How often a free port is picked anew when another process takes it before the server has bound it.
const TRIES_MAX: u32 = 3;

/// Listens on `port` of 127.0.0.1; 0 picks a free one. `flag` is what the user can change when the port is busy.
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

/// Listens on a free port of 127.0.0.1.
///
/// # Errors
/// None is left.
pub(crate) async fn listen_on_free() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// Starts a server of another process, which takes no listener, on a free port of 127.0.0.1.
///
/// # Errors
/// It does not start on any of the ports that were picked for it.
pub(crate) async fn on_free<T>(start: impl AsyncFn(u16) -> Result<T>) -> Result<T> {
    let mut tries = 1;
    loop {
        match start(free().await?).await {
            Err(_) if tries < TRIES_MAX => tries += 1,
            result => return result,
        }
    }
}

/// A port of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// None is left.
pub(crate) async fn free() -> io::Result<u16> {
    Ok(listen_on_free().await?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_busy_port_is_named_with_its_flag() {
        let busy = listen_on_free().await.unwrap();
        let port = busy.local_addr().unwrap().port();
        let error = listen(port, "--port").await.unwrap_err();
        assert_eq!(error.to_string(), format!("port {port} is busy: choose another with --port (0 picks a free one)"));
    }

    #[tokio::test]
    async fn a_free_port_is_picked_three_times() {
        for (failures, started) in [(2, true), (3, false)] {
            let tries = Cell::new(0);
            let result = on_free(async |_| {
                tries.set(tries.get() + 1);
                if tries.get() <= failures { Err(anyhow!("taken")) } else { Ok(()) }
            });
            assert_eq!((result.await.is_ok(), tries.get()), (started, 3));
        }
    }
}
