//! Single flight: who asks what somebody else is asking waits for that answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::OnceCell;

type Flight<T> = OnceCell<T>;

/// Calls under way, by what they ask. Nothing stays of a call that is over: this is no cache.
#[derive(Debug)]
pub(crate) struct Flights<T>(Mutex<HashMap<String, Weak<Flight<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Flights<T> {
    /// What the call of that name says that is under way, or else what `call` says. When whoever made a call goes away,
    /// one of those who wait makes theirs.
    pub(crate) async fn join(&self, name: &str, call: impl Future<Output = T>) -> T {
        let flight = self.flight(name);
        let landed = flight.get_or_init(|| call).await.clone();
        let mut flights = self.flights();
        if flights.get(name).is_some_and(|current| current.ptr_eq(&Arc::downgrade(&flight))) {
            flights.remove(name);
        }
        landed
    }

    fn flight(&self, name: &str) -> Arc<Flight<T>> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(name).and_then(Weak::upgrade) {
            return flight;
        }
        // What everybody went away from is forgotten here; there are never many.
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(Flight::new());
        flights.insert(name.to_owned(), Arc::downgrade(&flight));
        flight
    }

    /// Nothing can panic while the lock is held.
    fn flights(&self) -> MutexGuard<'_, HashMap<String, Weak<Flight<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
