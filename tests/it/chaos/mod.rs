//! Two hundred conversations at once, while functions are killed, connections are cut, and the model throttles, breaks
//! off and falls silent. Whatever dies: every accepted message ends exactly once, and everybody sees what is stored.

mod shopper;
mod storm;
mod verdict;

use std::env;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use local::{Options, Stack};
use tokio::time::{Instant, timeout};

use crate::queues::Queue;
use crate::stack::{output, sdk, unused};
use shopper::Shopper;
use storm::Storm;

const SHOPPERS: u8 = 200;

/// For so long things go wrong.
const STORM: Duration = Duration::from_secs(120);

/// After the storm everybody has been answered this soon, on a machine that has a third of its time for this: each shopper has
/// at least one question, few are answered at a time, and what was queued behind an open breaker waits for it and for the
/// pauses of its task, which grow.
const CALM_MAX: Duration = Duration::from_secs(600);

/// A worker that is killed before its first heartbeat has its tasks hidden for as long as its queue says. In the template
/// that is six times the worker's time-out, twelve minutes; this test does not have them.
const VISIBILITY_S: u32 = 60;

/// The seed of everything that is left to chance, if one is given.
const SEED: &str = "CHAOS_SEED";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_every_accepted_message_ends_exactly_once() {
    let _alone = unused().await;
    let seed = env::var(SEED).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("{SEED}={seed}");
    let stack = Stack::start(Options::default(), |step| eprintln!("{step}")).await.expect("the stack starts");
    let sdk = sdk(stack.aws_url());
    let follow_up = Queue::at(&sdk, output(&stack, "FollowUpQueueUrl"));
    follow_up.set_visibility(VISIBILITY_S).await;
    let events = Queue::create(&sdk).await;
    events.subscribe(&sdk, output(&stack, "TurnEventsTopicArn")).await;

    let storm = Arc::new(Storm::new(stack.websocket_url(), Instant::now() + STORM));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fork = || fastrand::Rng::with_seed(random.u64(..));
    let mut visit = |number| Shopper::new(Arc::clone(&storm), fork(), Ipv4Addr::new(127, 0, 1, number)).visit();
    let shoppers: Vec<_> = (0..SHOPPERS).map(|number| tokio::spawn(visit(number))).collect();
    storm.rage(&stack, fork(), fork(), fork()).await;
    println!("after the storm {} connections are open", stack.gateway().connections());
    let visits = timeout(CALM_MAX, join_all(shoppers)).await;
    let visits = visits.unwrap_or_else(|_| panic!("not answered: {:?}; {}", storm.open.lock().unwrap(), storm.tally));
    println!("{}", storm.tally);
    let turns: Vec<_> = visits.into_iter().flat_map(|visit| visit.expect("no shopper finds fault")).collect();

    for name in ["FollowUpQueueUrl", "WatchdogQueueUrl"] {
        Queue::at(&sdk, output(&stack, name)).drained().await;
    }
    for name in ["FollowUpDlqUrl", "WatchdogDlqUrl"] {
        let letters = Queue::at(&sdk, output(&stack, name)).receive(Duration::ZERO).await;
        assert!(letters.is_empty(), "{name}: {letters:#?}");
    }
    verdict::assert_every_turn_is_stored_once(&sdk, output(&stack, "TableName"), &turns).await;
    let told_again = verdict::assert_every_end_was_published(&events, &turns).await;
    println!("{}", verdict::outcomes(&turns));
    println!(
        "batches redelivered {}, ends published again {told_again}",
        verdict::redelivered_batches(stack.aws_url())
    );
    stack.stop().await.expect("the stack stops");
}
