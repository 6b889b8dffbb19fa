//! Who is connected, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use domain::ids::{ConnectionId, Principal};
use domain::ports::{Clock as _, Connection, ConnectionStore, Registration, Unavailable};
use domain::protocol::Locale;

use crate::ManualClock;

type Rows = BTreeMap<ConnectionId, (Connection, Option<Locale>)>;

/// A [`ConnectionStore`] in memory. Clones share their content.
#[derive(Debug, Clone)]
pub struct MemoryConnections {
    clock: ManualClock,
    rows: Arc<Mutex<Rows>>,
}

impl MemoryConnections {
    /// A store that knows nobody.
    pub fn new(clock: ManualClock) -> Self {
        Self { clock, rows: Arc::default() }
    }

    /// A connection, if it is known.
    pub fn get(&self, id: &ConnectionId) -> Option<Connection> {
        self.rows.lock().unwrap().get(id).map(|(connection, _)| connection.clone())
    }
}

impl ConnectionStore for MemoryConnections {
    async fn register(&self, connection: &Connection, per_principal_max: usize) -> Result<Registration, Unavailable> {
        let mut connections = self.rows.lock().unwrap();
        let others = connections.values().map(|(other, _)| other).filter(|other| {
            other.principal == connection.principal
                && other.id != connection.id
                && other.expires_at > connection.connected_at
        });
        if others.count() >= per_principal_max {
            return Ok(Registration::TooMany);
        }
        connections.insert(connection.id.clone(), (connection.clone(), None));
        Ok(Registration::Registered)
    }

    async fn forget(&self, id: &ConnectionId) -> Result<(), Unavailable> {
        self.rows.lock().unwrap().remove(id);
        Ok(())
    }

    async fn set_locale(&self, id: &ConnectionId, locale: Locale) -> Result<(), Unavailable> {
        if let Some((_, kept)) = self.rows.lock().unwrap().get_mut(id) {
            *kept = Some(locale);
        }
        Ok(())
    }

    async fn locale(&self, id: &ConnectionId) -> Result<Option<Locale>, Unavailable> {
        Ok(self.rows.lock().unwrap().get(id).and_then(|(_, locale)| *locale))
    }

    async fn connections_of(&self, principal: &Principal) -> Result<Vec<ConnectionId>, Unavailable> {
        let now_ms = self.clock.now_ms();
        let rows = self.rows.lock().unwrap();
        let connections = rows.values().map(|(connection, _)| connection);
        let live = connections.filter(|live| live.principal == *principal && live.expires_at > now_ms);
        Ok(live.map(|connection| connection.id.clone()).collect())
    }
}
