//! Many processes run as one world.

use std::cell::RefCell;

use domain::ports::{BucketKey, Clock as _, Nonces as _, QueueName, Task, TaskQueues as _, TokenBuckets as _};

use super::request;
use crate::{Fault, InMemory, Processes, START_MS};

/// Notes who did what when.
#[derive(Default)]
struct Diary(RefCell<Vec<(u64, &'static str)>>);

impl Diary {
    fn note(&self, ports: &InMemory, what: &'static str) {
        self.0.borrow_mut().push((ports.clock.now_ms() - START_MS, what));
    }

    fn entries(&self) -> Vec<(u64, &'static str)> {
        self.0.borrow().clone()
    }
}

/// Sleeps three times.
async fn tick(ports: InMemory, diary: &Diary, what: &'static str, every_ms: u64) -> &'static str {
    for _ in 0..3 {
        ports.clock.sleep_until(ports.clock.now_ms() + every_ms).await;
        diary.note(&ports, what);
    }
    what
}

#[test]
fn processes_share_the_clock() {
    let (world, diary) = (InMemory::new(), Diary::default());
    let mut processes = Processes::new(world.clock.clone());
    let slow = processes.spawn(&world.faults, tick(world.clone(), &diary, "slow", 50));
    let fast = processes.spawn(&world.faults, tick(world.clone(), &diary, "fast", 20));
    assert_eq!(diary.entries(), [], "nothing runs by itself");
    assert!(slow.is_running() && fast.is_running());
    assert!(processes.run_until_idle(START_MS + 1_000));
    let expected = [(20, "fast"), (40, "fast"), (50, "slow"), (60, "fast"), (100, "slow"), (150, "slow")];
    assert_eq!(diary.entries(), expected);
    assert_eq!(world.clock.now_ms(), START_MS + 150, "nobody waited for more");
    assert_eq!((slow.into_output(), fast.into_output()), (Some("slow"), Some("fast")));
}

#[test]
fn the_world_stops_where_it_is_told_to() {
    let (world, diary) = (InMemory::new(), Diary::default());
    let mut processes = Processes::new(world.clock.clone());
    let process = processes.spawn(&world.faults, tick(world.clone(), &diary, "tick", 50));
    assert!(!processes.run_until_idle(START_MS + 49));
    assert_eq!((world.clock.now_ms(), diary.entries().len()), (START_MS + 49, 0));
    assert!(!processes.run_until_idle(START_MS + 50));
    assert_eq!(diary.entries().len(), 1, "what is due then is done");
    processes.run_until(|| diary.entries().len() == 2);
    assert_eq!(world.clock.now_ms(), START_MS + 100);
    assert!(process.is_running());
    processes.run_for(500);
    assert_eq!((world.clock.now_ms(), diary.entries().len()), (START_MS + 600, 3));
    assert!(!process.is_running());
}

#[test]
#[should_panic(expected = "never happen")]
fn a_world_that_stands_still_is_reported() {
    let world = InMemory::new();
    let mut processes = Processes::new(world.clock.clone());
    processes.spawn(&world.faults, std::future::pending::<()>());
    processes.run_until(|| false);
}

#[test]
fn a_crashed_process_is_dropped_at_once_with_all_its_futures() {
    let (world, diary) = (InMemory::new(), Diary::default());
    let (dying, living) = (world.process(), world.process());
    dying.faults.plan(1, Fault::CrashAfter);
    let mut processes = Processes::new(world.clock.clone());
    let sends = |ports: InMemory| async move {
        let task = Task::Finish { turn_id: request().turn_id, epoch: 1 };
        for _ in 0..3 {
            ports.queues.send(&task, 0).await.unwrap();
            ports.clock.sleep_until(ports.clock.now_ms() + 10).await;
        }
    };
    let struck = processes.spawn(&dying.faults, sends(dying.clone()));
    let sibling = processes.spawn(&dying.faults, tick(dying.clone(), &diary, "sibling", 9));
    let other = processes.spawn(&living.faults, tick(living.clone(), &diary, "other", 9));
    assert!(processes.run_until_idle(START_MS + 1_000));
    let expected = [(9, "sibling"), (9, "other"), (18, "other"), (27, "other")];
    assert_eq!(diary.entries(), expected, "the crash was at 10");
    assert_eq!(world.queues.inner.counts(QueueName::FollowUp).visible, 2, "also the effect after which it died");
    assert_eq!((struck.into_output(), sibling.into_output(), other.into_output()), (None, None, Some("other")));
}

#[test]
fn a_process_is_killed_between_two_steps() {
    let (world, diary) = (InMemory::new(), Diary::default());
    let mut processes = Processes::new(world.clock.clone());
    let (first, second) = (world.process(), world.process());
    let killed = processes.spawn(&first.faults, tick(first.clone(), &diary, "killed", 10));
    let spared = processes.spawn(&second.faults, tick(second.clone(), &diary, "spared", 10));
    processes.run_for(15);
    processes.kill(killed.id());
    assert!(!killed.is_running() && first.faults.crashed());
    processes.run_for(100);
    assert_eq!(diary.entries(), [(10, "killed"), (10, "spared"), (20, "spared"), (30, "spared")]);
    processes.kill(spared.id());
    assert_eq!(spared.into_output(), Some("spared"), "who has ended cannot be killed");
    assert_eq!(killed.into_output(), None);
    let unborn = processes.spawn(&world.faults, tick(world.clone(), &diary, "unborn", 10));
    processes.kill(unborn.id());
    assert!(!unborn.is_running());
}

/// Who got which name, in a world of that seed.
fn interleaving(seed: Option<u64>) -> Vec<(usize, String)> {
    let world = InMemory::new();
    let names = RefCell::new(Vec::new());
    let mut processes = match seed {
        Some(seed) => Processes::shuffled(world.clock.clone(), seed),
        None => Processes::new(world.clock.clone()),
    };
    for process in 0..3 {
        let (ports, names) = (world.process(), &names);
        processes.spawn(&ports.faults.clone(), async move {
            for _ in 0..3 {
                ports.clock.sleep_until(ports.clock.now_ms() + 10).await;
                names.borrow_mut().push((process, ports.nonces.nonce()));
            }
        });
    }
    assert!(processes.run_until_idle(u64::MAX));
    drop(processes);
    names.into_inner()
}

#[test]
fn a_seed_stands_for_one_interleaving() {
    let order = |seed| interleaving(seed).into_iter().map(|(process, _)| process).collect::<Vec<_>>();
    assert_eq!(order(None), [0, 1, 2, 0, 1, 2, 0, 1, 2], "in turn");
    let orders: Vec<_> = (0..20).map(|seed| order(Some(seed))).collect();
    assert_eq!(orders, (0..20).map(|seed| order(Some(seed))).collect::<Vec<_>>());
    assert!(orders.iter().any(|other| *other != orders[0]), "{orders:?}");
}

/// A queue's event source: each message is an invocation, deleted when that succeeds.
#[test]
fn processes_start_processes() {
    let world = InMemory::new();
    world.queues.inner.put(QueueName::Watchdog, "one");
    world.queues.inner.put_at(QueueName::Watchdog, "two", START_MS + 5_000);
    let handled = RefCell::new(Vec::new());
    let invocations = RefCell::new(0);
    let mut processes = Processes::new(world.clock.clone());
    let spawner = processes.spawner();
    let (ports, handled, invocations) = (world.clone(), &handled, &invocations);
    processes.spawn(&world.faults, async move {
        let queues = &ports.queues.inner;
        loop {
            queues.wait_visible(QueueName::Watchdog).await;
            for message in queues.receive_messages(QueueName::Watchdog, 10) {
                let environment = ports.process();
                *invocations.borrow_mut() += 1;
                if *invocations.borrow() == 1 {
                    environment.faults.plan(0, Fault::CrashBefore);
                }
                let handler = {
                    let environment = environment.clone();
                    async move {
                        let key = BucketKey::Connections(String::new());
                        environment.buckets.full_at(&key).await.unwrap();
                        handled.borrow_mut().push((environment.clock.now_ms() - START_MS, message.body));
                    }
                };
                let invocation = spawner.spawn(&environment.faults, handler);
                invocation.ended().await;
                if invocation.into_output().is_some() {
                    queues.delete_message(QueueName::Watchdog, &message.receipt);
                }
            }
        }
    });
    assert!(processes.run_until_idle(START_MS + 60_000));
    assert_eq!(
        *handled.borrow(),
        [(5_000, "two".to_owned()), (18_000, "one".to_owned())],
        "redelivered after the crash"
    );
    assert_eq!(*invocations.borrow(), 3);
    assert_eq!(world.queues.inner.bodies(QueueName::Watchdog), Vec::<String>::new());
}
