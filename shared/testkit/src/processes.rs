//! Several processes at once, on virtual time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use domain::ports::Clock as _;
use futures_util::future::{FutureExt as _, LocalBoxFuture};

use crate::clock::{POLLS_MAX, Woken};
use crate::{Faults, ManualClock};

/// Which process, in the order in which they were spawned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(u64);

/// Processes that run at once: one is polled at a time, and when none can go on, the clock jumps to the next sleeper.
/// The same processes take the same steps every time.
///
/// What one set of [`Faults`] stands for dies together: all futures that were spawned with it are dropped as soon as a
/// planned crash strikes one of them.
pub struct Processes<'w> {
    clock: ManualClock,
    /// None: in turn.
    choice: Option<fastrand::Rng>,
    last_polled: ProcessId,
    running: BTreeMap<ProcessId, Process<'w>>,
    spawner: Spawner<'w>,
}

struct Process<'w> {
    faults: Faults,
    future: LocalBoxFuture<'w, ()>,
    woken: Arc<Woken>,
}

/// What one step of the world was.
enum Step {
    /// Somebody did something, or time passed.
    Taken,
    /// The next sleeper wakes later than it may.
    TimeIsUp,
    /// Nobody will do anything any more.
    Idle,
}

impl<'w> Processes<'w> {
    /// No processes yet. Those that can go on do so in turn.
    pub fn new(clock: ManualClock) -> Self {
        let spawner = Spawner(Rc::default());
        Self { clock, choice: None, last_polled: ProcessId(0), running: BTreeMap::new(), spawner }
    }

    /// No processes yet. Which of those that can go on does so is drawn anew each time: a seed stands for one interleaving.
    pub fn shuffled(clock: ManualClock, seed: u64) -> Self {
        Self { choice: Some(fastrand::Rng::with_seed(seed)), ..Self::new(clock) }
    }

    /// Starts a process, which does nothing before the world runs.
    pub fn spawn<T: 'w>(&mut self, faults: &Faults, future: impl Future<Output = T> + 'w) -> Spawned<T> {
        self.spawner.spawn(faults, future)
    }

    /// For processes that start others.
    pub fn spawner(&self) -> Spawner<'w> {
        self.spawner.clone()
    }

    /// Kills a process, wherever it is, and with it all that share its faults. One that has ended stays as it is.
    pub fn kill(&mut self, id: ProcessId) {
        self.admit();
        if let Some(process) = self.running.get(&id) {
            process.faults.kill();
        }
        self.bury();
    }

    /// Runs the world until something is so; it is asked after every step.
    ///
    /// # Panics
    /// When that will never be.
    pub fn run_until(&mut self, mut is_so: impl FnMut() -> bool) {
        for _ in 0..POLLS_MAX {
            if is_so() {
                return;
            }
            match self.step(u64::MAX) {
                Step::Taken => {}
                Step::TimeIsUp | Step::Idle => panic!("waits for something that will never happen"),
            }
        }
        panic!("took {POLLS_MAX} steps without an end");
    }

    /// Runs the world until nobody will do anything any more, but at most until a time, Unix milliseconds, at which the
    /// clock is left then; whether everybody was idle before.
    ///
    /// # Panics
    /// When somebody spins.
    pub fn run_until_idle(&mut self, until_ms: u64) -> bool {
        for _ in 0..POLLS_MAX {
            match self.step(until_ms) {
                Step::Taken => {}
                Step::Idle => return true,
                Step::TimeIsUp => {
                    self.clock.advance_to(until_ms);
                    return false;
                }
            }
        }
        panic!("took {POLLS_MAX} steps without an end");
    }

    /// Runs the world for so long, ms, whether or not anybody does anything.
    ///
    /// # Panics
    /// When somebody spins.
    pub fn run_for(&mut self, ms: u64) {
        let until_ms = self.clock.now_ms() + ms;
        self.run_until_idle(until_ms);
        self.clock.advance_to(until_ms);
    }

    fn step(&mut self, until_ms: u64) -> Step {
        self.admit();
        self.bury();
        if let Some(id) = self.choose() {
            self.poll(id);
            self.bury();
            return Step::Taken;
        }
        match self.clock.next_sleeper_at() {
            Some(at_ms) if at_ms <= until_ms => {
                self.clock.advance_to(at_ms);
                Step::Taken
            }
            Some(_) => Step::TimeIsUp,
            None => Step::Idle,
        }
    }

    fn choose(&mut self) -> Option<ProcessId> {
        let is_ready = |process: &Process<'w>| process.woken.0.load(Ordering::Relaxed);
        let ready: Vec<ProcessId> =
            self.running.iter().filter(|(_, process)| is_ready(process)).map(|(id, _)| *id).collect();
        match &mut self.choice {
            Some(choice) => choice.choice(ready),
            None => ready.iter().find(|id| **id > self.last_polled).or(ready.first()).copied(),
        }
    }

    fn poll(&mut self, id: ProcessId) {
        self.last_polled = id;
        let Some(process) = self.running.get_mut(&id) else { return };
        process.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&process.woken));
        if process.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.running.remove(&id);
        }
    }

    /// Takes in what was spawned.
    fn admit(&mut self) {
        self.running.append(&mut self.spawner.0.borrow_mut().newcomers);
    }

    /// Drops what has crashed.
    fn bury(&mut self) {
        self.running.retain(|_, process| !process.faults.crashed());
    }
}

/// Starts processes from within others. Clones start them in the same world.
#[derive(Clone)]
pub struct Spawner<'w>(Rc<RefCell<Nursery<'w>>>);

#[derive(Default)]
struct Nursery<'w> {
    spawned: u64,
    newcomers: BTreeMap<ProcessId, Process<'w>>,
}

impl<'w> Spawner<'w> {
    /// Starts a process, which does nothing before the next step.
    pub fn spawn<T: 'w>(&self, faults: &Faults, future: impl Future<Output = T> + 'w) -> Spawned<T> {
        let mut nursery = self.0.borrow_mut();
        nursery.spawned += 1;
        let id = ProcessId(nursery.spawned);
        let end = Rc::new(RefCell::new(End { state: State::Running, waiting: Vec::new() }));
        let running = Running(Rc::clone(&end));
        let future = async move { running.finish(future.await) }.boxed_local();
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        nursery.newcomers.insert(id, Process { faults: faults.clone(), future, woken });
        Spawned { id, end }
    }
}

/// A process that was started, to learn what becomes of it.
pub struct Spawned<T> {
    id: ProcessId,
    end: Rc<RefCell<End<T>>>,
}

struct End<T> {
    state: State<T>,
    waiting: Vec<Waker>,
}

enum State<T> {
    Running,
    Finished(T),
    Died,
}

impl<T> Spawned<T> {
    /// Which it is.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Whether it has neither finished nor died.
    pub fn is_running(&self) -> bool {
        matches!(self.end.borrow().state, State::Running)
    }

    /// Waits until it has finished or died.
    pub async fn ended(&self) {
        poll_fn(|context| {
            if self.is_running() {
                self.end.borrow_mut().waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// What it answered, if it has finished.
    pub fn into_output(self) -> Option<T> {
        match std::mem::replace(&mut self.end.borrow_mut().state, State::Died) {
            State::Finished(output) => Some(output),
            State::Running | State::Died => None,
        }
    }
}

/// Tells of a process's end when it is dropped.
struct Running<T>(Rc<RefCell<End<T>>>);

impl<T> Running<T> {
    fn finish(self, output: T) {
        self.0.borrow_mut().state = State::Finished(output);
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        let mut end = self.0.borrow_mut();
        if matches!(end.state, State::Running) {
            end.state = State::Died;
        }
        end.waiting.drain(..).for_each(Waker::wake);
    }
}
