//! The contract of [`ConnectionStore`].

use domain::ids::{ConnectionId, Principal, SessionId};
use domain::limits::CONNECTION_LIFE_MS;
use domain::ports::{Connection, ConnectionStore, Registration};
use domain::protocol::Locale;
use futures_util::future::join_all;

use crate::samples;

/// Holds a [`ConnectionStore`] to its contract. `now_ms` is what its clock shows, if it has one.
///
/// # Panics
/// Where the store breaks it.
pub async fn connection_store(store: &impl ConnectionStore, prefix: &str, now_ms: u64) {
    let suite = |case: &str| ConnectionSuite { store, prefix: format!("{prefix}-{case}"), now_ms };
    suite("cap").a_principal_holds_so_many_connections().await;
    suite("expired").expired_connections_do_not_count().await;
    suite("forget").a_forgotten_connection_makes_room().await;
    suite("found").a_principals_live_connections_are_found().await;
    suite("locale").the_language_of_a_connection_is_kept().await;
}

struct ConnectionSuite<'s, S> {
    store: &'s S,
    prefix: String,
    now_ms: u64,
}

impl<S: ConnectionStore> ConnectionSuite<'_, S> {
    fn connection(&self, name: usize) -> Connection {
        Connection {
            id: samples::connection(&format!("{}-{name}=", self.prefix)),
            principal: samples::shopper(&self.prefix),
            session_id: SessionId::parse("s-1").expect("an id"),
            connected_at: self.now_ms,
            expires_at: self.now_ms + CONNECTION_LIFE_MS,
        }
    }

    async fn register(&self, connection: &Connection, max: usize) -> Registration {
        self.store.register(connection, max).await.unwrap()
    }

    async fn a_principal_holds_so_many_connections(&self) {
        for name in 1..=3 {
            assert_eq!(self.register(&self.connection(name), 3).await, Registration::Registered);
        }
        assert_eq!(self.register(&self.connection(4), 3).await, Registration::TooMany);
        assert_eq!(self.register(&self.connection(3), 3).await, Registration::Registered, "known already");
        assert_eq!(self.register(&self.connection(4), 3).await, Registration::TooMany, "for good");
        let other = Connection { principal: samples::guest(&self.prefix), ..self.connection(5) };
        assert_eq!(self.register(&other, 3).await, Registration::Registered, "another principal");

        let rivals: Vec<Connection> = (10..16)
            .map(|name| Connection {
                principal: samples::guest(&format!("{}-rivals", self.prefix)),
                ..self.connection(name)
            })
            .collect();
        let outcomes = join_all(rivals.iter().map(|rival| self.register(rival, 3))).await;
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Registration::Registered).count(), 3);
    }

    async fn expired_connections_do_not_count(&self) {
        for (name, expires_at) in [(1, self.now_ms), (2, self.now_ms + 1)] {
            let connected_at = self.now_ms - CONNECTION_LIFE_MS;
            let connection = Connection { connected_at, expires_at, ..self.connection(name) };
            assert_eq!(self.register(&connection, 2).await, Registration::Registered);
        }
        assert_eq!(self.register(&self.connection(3), 2).await, Registration::Registered, "one expires now");
        assert_eq!(self.register(&self.connection(4), 2).await, Registration::TooMany, "one a millisecond later");
    }

    async fn a_forgotten_connection_makes_room(&self) {
        assert_eq!(self.register(&self.connection(1), 1).await, Registration::Registered);
        assert_eq!(self.register(&self.connection(2), 1).await, Registration::TooMany);
        self.store.forget(&self.connection(2).id).await.unwrap();
        assert_eq!(self.register(&self.connection(2), 1).await, Registration::TooMany, "was not known");
        self.store.forget(&self.connection(1).id).await.unwrap();
        self.store.forget(&self.connection(1).id).await.unwrap();
        assert_eq!(self.register(&self.connection(2), 1).await, Registration::Registered);
    }

    async fn the_language_of_a_connection_is_kept(&self) {
        let (connection, id) = (self.connection(1), self.connection(1).id);
        self.store.set_locale(&id, Locale::Ja).await.unwrap();
        assert_eq!(self.store.locale(&id).await.unwrap(), None, "not known");
        assert_eq!(self.register(&connection, 1).await, Registration::Registered);
        assert_eq!(self.store.locale(&id).await.unwrap(), None);
        for locale in [Locale::Ja, Locale::En] {
            self.store.set_locale(&id, locale).await.unwrap();
            assert_eq!(self.store.locale(&id).await.unwrap(), Some(locale));
        }
        self.store.forget(&id).await.unwrap();
        assert_eq!(self.store.locale(&id).await.unwrap(), None);
    }

    async fn of(&self, principal: &Principal) -> Vec<ConnectionId> {
        let mut connections = self.store.connections_of(principal).await.unwrap();
        connections.sort_unstable();
        connections
    }

    async fn a_principals_live_connections_are_found(&self) {
        let principal = self.connection(1).principal;
        assert_eq!(self.of(&principal).await, vec![]);
        let connected_at = self.now_ms - CONNECTION_LIFE_MS;
        let expired = Connection { connected_at, expires_at: self.now_ms, ..self.connection(3) };
        assert_eq!(self.register(&expired, 9).await, Registration::Registered);
        for name in 1..=2 {
            assert_eq!(self.register(&self.connection(name), 9).await, Registration::Registered);
        }
        let other = Connection { principal: samples::guest(&self.prefix), ..self.connection(4) };
        assert_eq!(self.register(&other, 9).await, Registration::Registered);

        assert_eq!(self.of(&principal).await, [self.connection(1).id, self.connection(2).id], "none that expired");
        assert_eq!(self.of(&other.principal).await, [self.connection(4).id]);
        self.store.forget(&self.connection(1).id).await.unwrap();
        assert_eq!(self.of(&principal).await, [self.connection(2).id]);
    }
}
