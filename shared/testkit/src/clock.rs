//! Virtual time, and the executor that moves it.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use domain::ports::Clock;

/// Where a [`ManualClock`] begins, Unix milliseconds: 2026-11-21T00:00:00Z.
pub const START_MS: u64 = 1_795_219_200_000;

/// How often one future is polled before it counts as spinning.
const POLLS_MAX: u64 = 10_000_000;

#[derive(Debug)]
struct Timeline {
    now_ms: u64,
    sleepers_made: u64,
    /// By the time they wait for, then by age.
    sleepers: BTreeMap<(u64, u64), Waker>,
}

/// A clock that stands still until a test moves it, or until [`Self::block_on`] jumps to the next sleeper because nothing
/// else is left to do. Clones show the same time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Timeline>>);

impl ManualClock {
    /// A clock at [`START_MS`].
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Timeline { now_ms: START_MS, sleepers_made: 0, sleepers: BTreeMap::new() })))
    }

    /// Moves the clock forward and wakes whoever waited for less.
    pub fn advance(&self, ms: u64) {
        self.advance_to(self.now_ms() + ms);
    }

    /// Moves the clock forward to a time, Unix milliseconds, and wakes whoever waited for it. It never goes back.
    pub fn advance_to(&self, at_ms: u64) {
        let woken = {
            let mut timeline = self.0.lock().unwrap();
            let now_ms = timeline.now_ms.max(at_ms);
            timeline.now_ms = now_ms;
            let still_asleep = timeline.sleepers.split_off(&(now_ms + 1, 0));
            std::mem::replace(&mut timeline.sleepers, still_asleep)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// Runs a future to its end; whenever it can go no further, the clock jumps to the next sleeper. A minute of waiting
    /// takes microseconds, and the same future takes the same steps every time.
    ///
    /// # Panics
    /// When the future waits for something that will never happen.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.block_on_until(|| false, future).expect("nothing stops it")
    }

    /// As [`Self::block_on`], but drops the future, as a dying process does, once `stopped` says so.
    ///
    /// # Panics
    /// When the future waits for something that will never happen.
    pub fn block_on_until<T>(&self, stopped: impl Fn() -> bool, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        for _ in 0..POLLS_MAX {
            if !woken.0.swap(false, Ordering::Relaxed) {
                let next = self.0.lock().unwrap().sleepers.keys().next().copied();
                match next {
                    Some((at_ms, _)) if at_ms < u64::MAX => self.advance_to(at_ms),
                    _ => panic!("waits for something that will never happen"),
                }
                continue;
            }
            let poll = future.as_mut().poll(&mut context);
            if stopped() {
                return None;
            }
            if let Poll::Ready(value) = poll {
                return Some(value);
            }
        }
        panic!("polled {POLLS_MAX} times without an end");
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.lock().unwrap().now_ms
    }

    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> + Send {
        Sleep { clock: self.clone(), at_ms, age: None }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Sleep {
    clock: ManualClock,
    at_ms: u64,
    /// Which sleeper of the clock's this is, once it sleeps.
    age: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut timeline = clock.0.lock().unwrap();
        if timeline.now_ms >= self.at_ms {
            return Poll::Ready(());
        }
        let age = *self.age.get_or_insert_with(|| {
            timeline.sleepers_made += 1;
            timeline.sleepers_made
        });
        timeline.sleepers.insert((self.at_ms, age), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(age) = self.age {
            self.clock.0.lock().unwrap().sleepers.remove(&(self.at_ms, age));
        }
    }
}
