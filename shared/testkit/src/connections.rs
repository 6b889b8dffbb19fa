//! Who is connected, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use domain::ids::ConnectionId;
use domain::ports::{Connection, ConnectionStore, Registration, Unavailable};
use domain::protocol::Locale;

type Rows = BTreeMap<ConnectionId, (Connection, Option<Locale>)>;

/// A [`ConnectionStore`] in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryConnections(Arc<Mutex<Rows>>);

impl MemoryConnections {
    /// A connection, if it is known.
    pub fn get(&self, id: &ConnectionId) -> Option<Connection> {
        self.0.lock().unwrap().get(id).map(|(connection, _)| connection.clone())
    }
}

impl ConnectionStore for MemoryConnections {
    async fn register(&self, connection: &Connection, per_principal_max: usize) -> Result<Registration, Unavailable> {
        let mut connections = self.0.lock().unwrap();
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
        self.0.lock().unwrap().remove(id);
        Ok(())
    }

    async fn set_locale(&self, id: &ConnectionId, locale: Locale) -> Result<(), Unavailable> {
        if let Some((_, kept)) = self.0.lock().unwrap().get_mut(id) {
            *kept = Some(locale);
        }
        Ok(())
    }

    async fn locale(&self, id: &ConnectionId) -> Result<Option<Locale>, Unavailable> {
        Ok(self.0.lock().unwrap().get(id).and_then(|(_, locale)| *locale))
    }
}
