//! So many a minute.

use domain::admission::{Denial, message_limit};
use domain::bucket::{Exhausted, PerMinute, take};
use domain::ids::Principal;
use domain::limits::{GUEST_MESSAGES_PER_MINUTE, SHOPPER_MESSAGES_PER_MINUTE};
use domain::ports::{BucketKey, Clock as _, TokenBuckets as _, TurnStore as _};
use domain::protocol::{ErrorCode, MessageSend};
use futures_util::future::{join, join_all};
use proptest::prelude::*;
use testkit::{InMemory, START_MS, Step, samples};

use crate::world::{Told, ask, asked, names, positions, send, stocked, the_turn, wait};

const MINUTE_MS: u64 = 60_000;

fn key() -> BucketKey {
    BucketKey::Messages(samples::shopper("aiko"))
}

/// Reads a bucket and takes a token from it now.
async fn taken(ports: &InMemory, limit: PerMinute) -> Result<(), Exhausted> {
    let full_at = ports.buckets.full_at(&key()).await.unwrap();
    take(&ports.buckets, &ports.nonces, &key(), limit, full_at, ports.clock.now_ms()).await.unwrap()
}

#[test]
fn a_full_bucket_holds_a_minutes_tokens() {
    for per_minute in [1, 10, 30, 40, 300] {
        let token_ms = MINUTE_MS / u64::from(per_minute);
        let mut full_at = None;
        for _ in 0..per_minute {
            full_at = Some(PerMinute(per_minute).take(full_at, START_MS).unwrap());
        }
        assert_eq!(full_at, Some(START_MS + MINUTE_MS));
        let take_at = |now| PerMinute(per_minute).take(full_at, now);
        assert_eq!(take_at(START_MS), Err(Exhausted { retry_after_ms: token_ms }));
        assert_eq!(take_at(START_MS + token_ms - 1), Err(Exhausted { retry_after_ms: 1 }));
        assert_eq!(take_at(START_MS + token_ms), Ok(START_MS + token_ms + MINUTE_MS));
        assert_eq!(take_at(START_MS + 5 * MINUTE_MS), Ok(START_MS + 5 * MINUTE_MS + token_ms), "full again");
    }
}

proptest! {
    #[test]
    fn tokens_come_back_one_by_one(
        per_minute in prop::sample::select(vec![1_u32, 10, 30, 40, 300]),
        pauses in prop::collection::vec(prop_oneof![3 => 0..3_000_u64, 1 => 0..90_000_u64], 0..400),
    ) {
        let token_ms = MINUTE_MS / u64::from(per_minute);
        // What the bucket holds, in ms of refilling.
        let (mut level_ms, mut full_at, mut now) = (MINUTE_MS, None, START_MS);
        for pause in pauses {
            now += pause;
            level_ms = (level_ms + pause).min(MINUTE_MS);
            match PerMinute(per_minute).take(full_at, now) {
                Ok(later) => {
                    prop_assert!(level_ms >= token_ms);
                    level_ms -= token_ms;
                    full_at = Some(later);
                    prop_assert_eq!(later, now + MINUTE_MS - level_ms);
                }
                Err(exhausted) => prop_assert_eq!(exhausted.retry_after_ms, token_ms - level_ms),
            }
        }
    }

    #[test]
    fn those_who_take_at_once_never_take_too_many(
        per_minute in 1..12_u32,
        takers in prop::collection::vec((0..40_u64, 0..30_u64), 1..30),
    ) {
        let ports = InMemory::new();
        let limit = PerMinute(per_minute);
        let outcomes = ports.clock.block_on(join_all(takers.iter().map(|(starts_after, round_trip_ms)| {
            let ports = ports.process();
            ports.set_round_trip_ms(*round_trip_ms);
            async move {
                wait(&ports, *starts_after).await;
                taken(&ports, limit).await
            }
        })));
        let took = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        prop_assert!(took <= per_minute as usize, "{took} of {per_minute}");
        prop_assert!(took >= takers.len().min(per_minute as usize).min(1), "somebody gets one");
        prop_assert!(outcomes.iter().flat_map(|outcome| outcome.err()).all(|exhausted| exhausted.retry_after_ms > 0));
        // What was taken is gone, and nothing else.
        let full_at = ports.clock.block_on(ports.buckets.inner.full_at(&key())).unwrap().unwrap();
        let token_ms = MINUTE_MS / u64::from(per_minute);
        let spent_ms = full_at - START_MS;
        let expected = token_ms * took as u64;
        prop_assert!((expected..=expected + 70).contains(&spent_ms), "{spent_ms} ms for {took} tokens of {token_ms} ms");
    }
}

#[test]
fn a_token_costs_one_write_and_a_refusal_none() {
    let ports = InMemory::new();
    let limit = PerMinute(2);
    for expected in [Ok(()), Ok(()), Err(Exhausted { retry_after_ms: MINUTE_MS / 2 })] {
        ports.faults.restart();
        assert_eq!(ports.run(taken(&ports, limit)), Some(expected));
        assert_eq!(positions(&names(&ports), "buckets.take").len(), usize::from(expected.is_ok()));
    }
}

/// Somebody says their message number `number`, in a conversation of its own.
fn says(ports: &InMemory, principal: &Principal, number: u128) -> Told {
    let (message, connection) = (samples::message(number, "Hello."), samples::connection("a"));
    ports.run(send(ports, principal, &message, &connection)).unwrap()
}

#[test]
fn a_principal_has_so_many_messages_a_minute() {
    for (principal, per_minute) in
        [(samples::shopper("aiko"), SHOPPER_MESSAGES_PER_MINUTE), (samples::guest("g"), GUEST_MESSAGES_PER_MINUTE)]
    {
        assert_eq!(message_limit(&principal), PerMinute(per_minute));
        let ports = stocked();
        let limit = u128::from(per_minute);
        for number in 1..=limit {
            assert_eq!(says(&ports, &principal, number), Told::Frames, "{principal}, message {number}");
        }
        ports.faults.restart();
        let turns = ports.turns.inner.all_turns().len();
        let retry_after_ms = MINUTE_MS / u64::from(per_minute);
        let refused = Told::Refused(Denial { code: ErrorCode::RateLimited, retry_after_ms: Some(retry_after_ms) });
        assert_eq!(says(&ports, &principal, limit + 1), refused);
        let effects = names(&ports);
        assert!(
            !effects.iter().any(|name| ["buckets.take", "turns.lock", "turns.record", "queues.send"].contains(name))
        );
        assert_eq!(ports.turns.inner.all_turns().len(), turns, "a refusal leaves no record");
        assert_eq!(says(&ports, &principal, limit), Told::Frames, "a resend is no message");
        assert_eq!(says(&ports, &samples::shopper("ben"), 1), Told::Frames, "nor another's");

        ports.clock.advance(retry_after_ms - 1);
        assert!(matches!(says(&ports, &principal, limit + 1), Told::Refused(_)));
        ports.clock.advance(1);
        assert_eq!(says(&ports, &principal, limit + 1), Told::Frames);
        assert!(matches!(says(&ports, &principal, limit + 2), Told::Refused(_)));
    }
}

fn spent_ms(ports: &InMemory) -> u64 {
    let full_at = ports.clock.block_on(ports.buckets.inner.full_at(&key())).unwrap();
    full_at.unwrap_or_default().saturating_sub(ports.clock.now_ms())
}

#[test]
fn who_is_busy_pays_nothing() {
    let ports = stocked();
    ports.model.follow(Step::answer(["Slowly."], 2_000));
    let aiko = samples::shopper("aiko");
    let connection = samples::connection("b");
    let impatient = async {
        wait(&ports, 1_000).await;
        let conversation_id = Some(the_turn(&ports).request.conversation_id);
        let second = MessageSend { conversation_id, ..samples::message(2, "And?") };
        let before = (spent_ms(&ports), names(&ports).len());
        let told = send(&ports, &aiko, &second, &connection).await;
        let after = names(&ports).split_off(before.1);
        assert!(!after.iter().any(|name| ["buckets.take", "turns.lock"].contains(name)), "{after:?}");
        assert_eq!(spent_ms(&ports), before.0);
        told
    };
    let (_, told) = ports.run(join(ask(&ports, "a"), impatient)).unwrap();
    assert_eq!(told, Told::Refused(ErrorCode::ConversationBusy.into()));
}

#[test]
fn a_message_takes_one_token_however_often_it_is_tried() {
    for round_trip_ms in [0, 10] {
        let ports = stocked();
        asked(&ports);
        ports.clock.advance(2 * MINUTE_MS);
        let conversation_id = Some(the_turn(&ports).request.conversation_id);
        let aiko = samples::shopper("aiko");
        let rivals: Vec<MessageSend> = (2..6)
            .map(|number| MessageSend { conversation_id: conversation_id.clone(), ..samples::message(number, "And?") })
            .collect();
        let processes: Vec<InMemory> = rivals.iter().map(|_| ports.process()).collect();
        let connection = samples::connection("b");
        let started = ports.clock.now_ms();
        ports.clock.block_on(join_all(processes.iter().zip(&rivals).map(|(process, rival)| {
            process.set_round_trip_ms(round_trip_ms);
            send(process, &aiko, rival, &connection)
        })));
        let took: usize = processes
            .iter()
            .map(|process| {
                let names = names(process);
                assert!(positions(&names, "turns.lock").len() <= 3);
                usize::from(names.contains(&"buckets.take"))
            })
            .sum();
        let full_at = ports.clock.block_on(ports.buckets.inner.full_at(&key())).unwrap().unwrap();
        let token_ms = MINUTE_MS / u64::from(SHOPPER_MESSAGES_PER_MINUTE);
        assert!(full_at <= started + took as u64 * token_ms + 100, "{took} took, until {}", full_at - started);
    }
}

#[test]
fn the_last_token_goes_to_one_message_and_the_other_lets_go_of_its_conversation() {
    for round_trip_ms in [0, 10] {
        let ports = stocked();
        let aiko = samples::shopper("aiko");
        let messages = u128::from(SHOPPER_MESSAGES_PER_MINUTE);
        for number in 1..messages {
            assert_eq!(says(&ports, &aiko, number), Told::Frames);
        }
        let last: Vec<MessageSend> = (0..2).map(|number| samples::message(messages + number, "Hello.")).collect();
        let tabs = [ports.process(), ports.process()];
        tabs.iter().for_each(|tab| tab.set_round_trip_ms(round_trip_ms));
        let connection = samples::connection("b");
        let (one, other) = (send(&tabs[0], &aiko, &last[0], &connection), send(&tabs[1], &aiko, &last[1], &connection));
        let (one, other) = ports.clock.block_on(join(one, other));
        assert_eq!(one, Told::Frames);
        assert!(
            matches!(other, Told::Refused(Denial { code: ErrorCode::RateLimited, retry_after_ms: Some(1..) })),
            "{other:?}"
        );
        assert_eq!(ports.turns.inner.all_turns().len() as u128, messages, "a refusal leaves no record");
        let key = samples::session_key();
        let conversation = key.conversation_id(&aiko, last[1].client_message_id);
        let found = ports.clock.block_on(ports.turns.inner.conversation(&conversation, 1)).unwrap();
        assert!(found.is_none_or(|(conversation, _)| conversation.lock.is_none()), "round trip {round_trip_ms}");
    }
}
