//! The second level of the cache: a Valkey that all environments share. It may be slow, dead or wrong: a turn then goes on
//! without it, a few milliseconds later.

use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use domain::limits::{CACHE_ENTRY_BYTES_MAX, VALKEY_CONNECT_MS, VALKEY_FORGET_MS, VALKEY_OPERATION_MS, VALKEY_REST_MS};
use domain::ports::{Clock, Unavailable};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, Shared, select};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo as _};

use crate::configuration::ValkeyConfiguration;
use crate::keys;

/// Why Valkey did not do what it was asked. What it said is not repeated, for it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("no connection in time")]
    Connecting,
    #[error("no answer in time")]
    Late,
    #[error("{0:?}")]
    Failed(ErrorKind),
}

impl From<redis::RedisError> for Failure {
    fn from(error: redis::RedisError) -> Self {
        Self::Failed(error.kind())
    }
}

/// A connection, or one that is being made.
type Link = Shared<BoxFuture<'static, Result<MultiplexedConnection, Failure>>>;

#[derive(Default)]
struct State {
    link: Option<Link>,
    /// On the clock that never jumps, ms.
    rests_until: u64,
}

/// Answers of the store's services, kept in Valkey.
pub struct ValkeyCache<C> {
    client: Client,
    clock: C,
    state: Mutex<State>,
}

impl<C> fmt::Debug for ValkeyCache<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ValkeyCache").finish_non_exhaustive()
    }
}

impl<C: Clock + Clone + 'static> ValkeyCache<C> {
    /// The Valkey that the configuration names. It is connected to when it is first used.
    ///
    /// # Errors
    /// The URL is not one of Valkey's.
    pub fn new(configuration: &ValkeyConfiguration, clock: C) -> Result<Self, Unavailable> {
        let client = open(configuration)
            .map_err(|error| Unavailable { operation: "read Valkey URL", source: Failure::from(error).into() })?;
        Ok(Self { client, clock, state: Mutex::default() })
    }

    /// Deletes what is kept of a tag of [`domain::store::tags`], for who hears that it is out of date. What is about it but
    /// kept under a name of its own, such as the searches that find a product, is left: readers compare when it was read.
    ///
    /// # Errors
    /// Valkey did not do so, each key within [`VALKEY_FORGET_MS`]. It may be asked again.
    pub async fn forget(&self, tag: &str) -> Result<(), Unavailable> {
        for key in keys::of_tag(tag) {
            let mut command = redis::cmd("UNLINK");
            command.arg(key);
            self.run::<()>(&command, VALKEY_FORGET_MS)
                .await
                .map_err(|failure| Unavailable { operation: "delete from Valkey", source: failure.into() })?;
        }
        Ok(())
    }

    /// What is kept under a key. None if there is nothing, or nobody knows.
    pub(crate) async fn get(&self, key: &str) -> Option<Bytes> {
        // Whatever somebody else has put there, no more than an entry and a byte of it is read.
        let mut command = redis::cmd("GETRANGE");
        command.arg(key).arg(0).arg(CACHE_ENTRY_BYTES_MAX);
        let kept: Vec<u8> = self.attempt(&command).await?;
        Some(kept).filter(|kept| !kept.is_empty() && kept.len() <= CACHE_ENTRY_BYTES_MAX).map(Bytes::from)
    }

    /// Keeps an entry for `for_ms`, if it can.
    pub(crate) async fn put(&self, key: &str, entry: &Bytes, for_ms: u64) {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(&entry[..]).arg("PX").arg(for_ms.max(1));
        let _kept: Option<()> = self.attempt(&command).await;
    }

    /// Runs a command, unless Valkey is to be left alone.
    async fn attempt<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        if self.state().rests_until > self.clock.monotonic_ms() {
            return None;
        }
        match self.run(command, VALKEY_OPERATION_MS).await {
            Ok(value) => Some(value),
            // It may be there for the next command.
            Err(Failure::Connecting) => None,
            Err(failure @ (Failure::Late | Failure::Failed(_))) => {
                tracing::warn!(%failure, rest_ms = VALKEY_REST_MS, "Valkey is left alone");
                self.state().rests_until = self.clock.monotonic_ms().saturating_add(VALKEY_REST_MS);
                None
            }
        }
    }

    /// Runs a command, once more if the connection turns out to have died since it was last used, as it does while Lambda
    /// freezes the environment.
    async fn run<T: FromRedisValue>(&self, command: &Cmd, within_ms: u64) -> Result<T, Failure> {
        let until = self.clock.now_ms().saturating_add(within_ms);
        let was_connected = self.state().link.as_ref().is_some_and(|link| link.peek().is_some());
        match self.run_once(command, until).await {
            Err(Failure::Failed(ErrorKind::Io)) if was_connected => self.run_once(command, until).await,
            done => done,
        }
    }

    /// Before `until`, Unix milliseconds. A connection that has failed is not used again.
    async fn run_once<T: FromRedisValue>(&self, command: &Cmd, until: u64) -> Result<T, Failure> {
        let link = self.link();
        let work = async {
            let mut connection = link.clone().await?;
            Ok(command.query_async(&mut connection).await?)
        };
        let done = match select(pin!(work), pin!(self.clock.sleep_until(until))).await {
            Either::Left((done, _)) => done,
            Either::Right(((), _)) if link.peek().is_some() => Err(Failure::Late),
            Either::Right(((), _)) => Err(Failure::Connecting),
        };
        if matches!(done, Err(Failure::Late | Failure::Failed(_))) {
            let mut state = self.state();
            if state.link.as_ref().is_some_and(|current| current.ptr_eq(&link)) {
                state.link = None;
            }
        }
        done
    }

    fn link(&self) -> Link {
        let connect = || {
            let (client, clock) = (self.client.clone(), self.clock.clone());
            #[expect(clippy::disallowed_methods, reason = "takes 100 ms at most, and is there for the next who asks")]
            let connecting = tokio::spawn(async move {
                // Time is what the clock says.
                let endless = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
                let connection = client.get_multiplexed_async_connection_with_config(&endless);
                let until = clock.now_ms().saturating_add(VALKEY_CONNECT_MS);
                match select(pin!(connection), pin!(clock.sleep_until(until))).await {
                    Either::Left((connection, _)) => Ok(connection?),
                    Either::Right(((), _)) => Err(Failure::Late),
                }
            });
            async move { connecting.await.unwrap_or(Err(Failure::Failed(ErrorKind::Io))) }.boxed().shared()
        };
        self.state().link.get_or_insert_with(connect).clone()
    }

    /// Nothing can panic while the lock is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(configuration: &ValkeyConfiguration) -> redis::RedisResult<Client> {
    let info = configuration.url.as_str().into_connection_info()?;
    let mut login = info.redis_settings().clone();
    if let Some(username) = &configuration.username {
        login = login.set_username(username);
    }
    if let Some(password) = &configuration.password {
        login = login.set_password(password);
    }
    Client::open(info.set_redis_settings(login))
}
