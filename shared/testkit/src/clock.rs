//! Virtual time, and the executor that moves it.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use domain::ports::Clock;

/// Where a [`ManualClock`] begins, Unix milliseconds: 2026-11-21T00:00:00Z.
pub const START_MS: u64 = 1_795_219_200_000;

/// How often futures are polled before they count as spinning.
pub(crate) const POLLS_MAX: u64 = 10_000_000;

#[derive(Debug, Default)]
struct Timeline {
    elapsed_ms: u64,
    sleepers_made: u64,
    /// By the time they wait for, then by age.
    sleepers: BTreeMap<(u64, u64), Waker>,
}

/// A clock that stands still until a test moves it, or until [`Self::block_on`] jumps to the next sleeper because nothing
/// else is left to do. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    timeline: Arc<Mutex<Timeline>>,
    skew_ms: i64,
}

impl ManualClock {
    /// A clock at [`START_MS`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock on the same timeline whose time of day is `offset_ms` later than that of a clock which is right, or earlier
    /// if negative.
    #[must_use]
    pub fn skewed(&self, offset_ms: i64) -> Self {
        Self { timeline: Arc::clone(&self.timeline), skew_ms: offset_ms }
    }

    /// Moves the clock forward and wakes whoever waited for less.
    pub fn advance(&self, ms: u64) {
        self.reach(self.monotonic_ms() + ms);
    }

    /// Moves the clock forward to a time, Unix milliseconds, and wakes whoever waited for it. It never goes back.
    pub fn advance_to(&self, at_ms: u64) {
        self.reach(self.elapsed_at(at_ms));
    }

    /// When the next sleeper wakes, Unix milliseconds; none if nobody sleeps.
    pub fn next_sleeper_at(&self) -> Option<u64> {
        let timeline = self.timeline.lock().unwrap();
        timeline.sleepers.keys().next().map(|&(at_ms, _)| self.shown_at(at_ms))
    }

    /// What the clock shows when the timeline is at `elapsed_ms`.
    fn shown_at(&self, elapsed_ms: u64) -> u64 {
        (START_MS + elapsed_ms).saturating_add_signed(self.skew_ms)
    }

    /// Where the timeline is when the clock shows `at_ms`.
    fn elapsed_at(&self, at_ms: u64) -> u64 {
        at_ms.saturating_add_signed(-self.skew_ms).saturating_sub(START_MS)
    }

    fn reach(&self, elapsed_ms: u64) {
        let woken = {
            let mut timeline = self.timeline.lock().unwrap();
            let elapsed_ms = timeline.elapsed_ms.max(elapsed_ms);
            timeline.elapsed_ms = elapsed_ms;
            let still_asleep = timeline.sleepers.split_off(&(elapsed_ms + 1, 0));
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
                let at_ms = self.next_sleeper_at().expect("waits for something that will never happen");
                self.advance_to(at_ms);
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

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.shown_at(self.monotonic_ms())
    }

    fn monotonic_ms(&self) -> u64 {
        self.timeline.lock().unwrap().elapsed_ms
    }

    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> + Send {
        // The end of time is no time to wake at.
        let until_ms = (at_ms < u64::MAX).then(|| self.elapsed_at(at_ms));
        Sleep { timeline: Arc::clone(&self.timeline), until_ms, age: None }
    }
}

/// Whether a future is to be polled again.
#[derive(Debug)]
pub(crate) struct Woken(pub(crate) AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Sleep {
    timeline: Arc<Mutex<Timeline>>,
    /// None for ever.
    until_ms: Option<u64>,
    /// Which sleeper of the clock's this is, once it sleeps.
    age: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until_ms) = self.until_ms else { return Poll::Pending };
        let timeline = Arc::clone(&self.timeline);
        let mut timeline = timeline.lock().unwrap();
        if timeline.elapsed_ms >= until_ms {
            return Poll::Ready(());
        }
        let age = *self.age.get_or_insert_with(|| {
            timeline.sleepers_made += 1;
            timeline.sleepers_made
        });
        timeline.sleepers.insert((until_ms, age), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(until_ms), Some(age)) = (self.until_ms, self.age) {
            self.timeline.lock().unwrap().sleepers.remove(&(until_ms, age));
        }
    }
}
