//! `DynamoDbTurns` on an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_adapters::DynamoDbTurns;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::AttributeValue;
use axum::Json;
use axum::response::IntoResponse as _;
use domain::ids::{ConversationId, TurnId};
use domain::limits::{CONVERSATION_LIFE_MS, LEASE_MS, TEXT_CHARS_MAX};
use domain::ports::{Clock as _, JournalOutcome, JournalWrite, LockOutcome, LockRequest, RecordOutcome, TurnStore};
use domain::protocol::{Locale, ProductCard, Rating, ServerEvent, TurnState, Usage};
use domain::store::Price;
use domain::turn::{Exchange, Hold, Outcome, Summary, TurnFrame, TurnJournal, TurnRequest};
use serde_json::{Value, json};
use testkit::{ManualClock, START_MS, contract, samples};

use crate::engine::{Engine, TABLE, client};
use crate::fake::{Fake, nobody};
use crate::{failure, within};

fn turns(client: &Client) -> DynamoDbTurns<ManualClock> {
    DynamoDbTurns::new(client.clone(), TABLE, ManualClock::new())
}

fn turn_id(number: u64) -> TurnId {
    TurnId::parse(&format!("t-{number}")).unwrap()
}

fn conversation_id() -> ConversationId {
    ConversationId::parse("c-1").unwrap()
}

fn lock(number: u64, now: u64) -> LockRequest {
    LockRequest {
        conversation_id: conversation_id(),
        owner: samples::shopper("aiko"),
        turn_id: turn_id(number),
        number,
        replaces: None,
        lease_until: now + LEASE_MS,
        attempt: format!("attempt-{number}-{now}"),
        now,
    }
}

fn request(number: u64) -> TurnRequest {
    TurnRequest {
        turn_id: turn_id(number),
        conversation_id: conversation_id(),
        number,
        principal: samples::shopper("aiko"),
        client_message_id: samples::client_message_id(number.into()),
        payload_hash: "hash".to_owned(),
        text: "海賊の漫画は？".to_owned(),
        locale: Locale::Ja,
        product_id: Some(samples::product_id("one-1")),
        connection: samples::connection("asker="),
        asked_at: START_MS,
        lease_until: START_MS + LEASE_MS,
    }
}

fn card(product_id: &str) -> ServerEvent {
    ServerEvent::ProductCard(ProductCard {
        product_id: product_id.to_owned(),
        title: "ひとつ".to_owned(),
        volume: None,
        authors: Vec::new(),
        price: Price { amount: 528, currency: "JPY".to_owned() },
        in_stock: true,
        url: "https://store.example/products/one".to_owned(),
        image_url: None,
        reason: None,
        as_of: START_MS,
    })
}

/// The only write of a turn: one card, and the end.
fn journal(number: u64) -> JournalWrite {
    JournalWrite {
        turn_id: turn_id(number),
        epoch: 1,
        writer: "writer".to_owned(),
        number: 1,
        frames: vec![TurnFrame { epoch: 1, seq: 0, ts: START_MS, event: card(&format!("product-{number}")) }],
        hold: Hold::Leased { until: START_MS + LEASE_MS },
        outcome: Some(Outcome { state: TurnState::Completed, usage: Usage::default() }),
        now: START_MS,
    }
}

fn exchange(number: u64) -> Exchange {
    Exchange {
        number,
        turn_id: turn_id(number),
        asked_at: START_MS,
        question: "問い".to_owned(),
        answer: "答え".to_owned(),
        state: TurnState::Completed,
    }
}

fn summary(through: u64) -> Summary {
    Summary { through, text: format!("through {through}") }
}

#[tokio::test]
async fn the_engine_knows_reserved_words() {
    // What the contract says of expressions holds for DynamoDB only if the engine is as strict.
    let engine = Engine::start().await;
    let update = engine.client.update_item().table_name(TABLE);
    let update = update.key("pk", AttributeValue::S("a".to_owned())).key("sk", AttributeValue::S("b".to_owned()));
    let update = update.update_expression("SET language = :ja");
    let refused = update.expression_attribute_values(":ja", AttributeValue::S("ja".to_owned())).send().await;
    let error = refused.unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    assert!(error.message().unwrap().contains("reserved keyword"), "{error:?}");
}

#[tokio::test]
async fn keeps_its_contract() {
    let engine = Engine::start().await;
    within(contract::turn_store(&turns(&engine.client), "t", START_MS)).await;
}

#[tokio::test]
async fn keeps_its_contract_when_the_first_answer_to_every_write_is_lost() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(1).await;
    within(contract::turn_store(&turns(&wire.client), "t", START_MS)).await;
    assert!(wire.lost() > 0);
}

#[tokio::test]
async fn a_write_whose_every_answer_is_lost_is_found_when_it_is_sent_again() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(3).await;
    let (store, cut_off) = (turns(&engine.client), turns(&wire.client));
    let (lock, request, journal) = (lock(1, START_MS), request(1), journal(1));

    failure(within(cut_off.lock(&lock)).await);
    assert_eq!(store.lock(&lock).await.unwrap(), LockOutcome::Locked);
    let (conversation, _) = store.conversation(&conversation_id(), 1).await.unwrap().unwrap();
    assert_eq!(conversation.turns, 1);

    failure(within(cut_off.record(&request)).await);
    assert_eq!(store.record(&request).await.unwrap(), RecordOutcome::Recorded);

    failure(within(cut_off.journal(&journal)).await);
    let JournalOutcome::Written(written) = store.journal(&journal).await.unwrap() else { panic!("fenced by itself") };
    assert_eq!(written.frames, journal.frames, "each frame once");
    assert_eq!(store.turn(&turn_id(1)).await.unwrap().unwrap().journal, written);
    assert_eq!(wire.lost(), 3 * 3);
}

#[tokio::test]
async fn items_are_laid_out_as_documented_and_expire_thirty_days_after_their_last_change() {
    let engine = Engine::start().await;
    let store = turns(&engine.client);
    let (asked_at, written_at, ended_at) = (START_MS + 1, START_MS + 1_000, START_MS + 2_001);
    let request = TurnRequest { asked_at, ..request(7) };
    assert_eq!(store.lock(&lock(1, asked_at)).await.unwrap(), LockOutcome::Locked);
    store.record(&request).await.unwrap();
    store.ask_to_cancel(&turn_id(7), asked_at).await.unwrap();
    store.journal(&JournalWrite { now: written_at, ..journal(7) }).await.unwrap();
    store.subscribe(&turn_id(7), &samples::connection("x="), ended_at).await.unwrap();
    store.remember(&conversation_id(), &exchange(7), ended_at).await.unwrap();
    store.rate(&turn_id(7), Rating::Up, Some("よい"), ended_at).await.unwrap();
    store.summarise(&conversation_id(), &summary(1), ended_at).await.unwrap();
    let waiting = JournalWrite { outcome: None, hold: Hold::Queued { since: written_at }, ..journal(8) };
    store.journal(&JournalWrite { frames: Vec::new(), now: written_at, ..waiting }).await.unwrap();

    let expiry = |last_change: u64| (last_change + CONVERSATION_LIFE_MS).div_ceil(1_000);
    assert_eq!(expiry(asked_at), START_MS / 1_000 + 30 * 86_400 + 1, "seconds, and not one too early");
    let expected = [
        (
            "conversation#c-1 turn#000000000007",
            "answer asked_at expires_at outcome question turn turn_number",
            ended_at,
        ),
        (
            "conversation#c-1 ~conversation",
            "expires_at lock_attempt lock_turn lock_until principal turn_count",
            asked_at,
        ),
        ("conversation#c-1 ~summary", "expires_at summary through_turn", ended_at),
        ("turn#t-7 feedback", "comment expires_at rated_at rating", ended_at),
        (
            "turn#t-7 request",
            "asked_at client_message_id connection_id conversation expires_at language lease_until payload_hash \
             principal product_id question turn_number",
            asked_at,
        ),
        (
            "turn#t-7 run",
            "cancel_asked epoch expires_at frames lease_until next_seq outcome subscribers write_number writer",
            written_at,
        ),
        ("turn#t-8 run", "epoch expires_at queued_since write_number writer", written_at),
    ];
    let expected =
        expected.map(|(key, names, last_change)| (key.to_owned(), format!("{names} = {}", expiry(last_change))));
    assert_eq!(engine.lines().await, BTreeMap::from(expected));
}

#[tokio::test]
async fn an_expired_conversation_is_gone_before_dynamodb_deletes_it() {
    let engine = Engine::start().await;
    let clock = ManualClock::new();
    let store = DynamoDbTurns::new(engine.client.clone(), TABLE, clock.clone());
    assert_eq!(store.lock(&lock(1, START_MS)).await.unwrap(), LockOutcome::Locked);
    store.remember(&conversation_id(), &exchange(1), START_MS).await.unwrap();
    store.release(&conversation_id(), &turn_id(1)).await.unwrap();

    clock.advance(CONVERSATION_LIFE_MS - 1);
    let (conversation, exchanges) = store.conversation(&conversation_id(), 6).await.unwrap().unwrap();
    assert_eq!((conversation.turns, exchanges.len()), (1, 1));
    assert_eq!(store.exchanges(&conversation_id(), None, 6).await.unwrap().len(), 1);
    let early = LockRequest { turn_id: turn_id(9), ..lock(1, START_MS + CONVERSATION_LIFE_MS - 1) };
    assert_eq!(store.lock(&early).await.unwrap(), LockOutcome::Changed, "its first turn was had");

    clock.advance(1);
    assert_eq!(store.conversation(&conversation_id(), 6).await.unwrap(), None);
    assert_eq!(store.exchanges(&conversation_id(), None, 6).await.unwrap(), vec![]);
    let anew = LockRequest { owner: samples::guest("g-1"), ..lock(1, START_MS + CONVERSATION_LIFE_MS) };
    assert_eq!(store.lock(&anew).await.unwrap(), LockOutcome::Locked, "begins anew");
    let (conversation, exchanges) = store.conversation(&conversation_id(), 6).await.unwrap().unwrap();
    assert_eq!((conversation.owner, conversation.turns, exchanges), (samples::guest("g-1"), 1, vec![]));
}

/// A store and its clock, which shows the moment at which turn 1, asked and ended at [`START_MS`], expires.
async fn with_an_expired_turn(engine: &Engine) -> (DynamoDbTurns<ManualClock>, ManualClock) {
    let clock = ManualClock::new();
    let store = DynamoDbTurns::new(engine.client.clone(), TABLE, clock.clone());
    store.record(&request(1)).await.unwrap();
    store.journal(&journal(1)).await.unwrap();
    clock.advance(CONVERSATION_LIFE_MS - 1);
    assert!(store.turn(&turn_id(1)).await.unwrap().is_some());
    assert_eq!(store.cards(&[turn_id(1)]).await.unwrap()[&turn_id(1)].len(), 1);
    let early = TurnRequest { asked_at: clock.now_ms(), ..request(1) };
    assert_eq!(store.record(&early).await.unwrap(), RecordOutcome::Exists);
    clock.advance(1);
    (store, clock)
}

fn asked_again(clock: &ManualClock) -> TurnRequest {
    let asked_at = clock.now_ms();
    TurnRequest { asked_at, lease_until: asked_at + LEASE_MS, text: "忍者は？".to_owned(), ..request(1) }
}

#[tokio::test]
async fn an_expired_turn_is_gone_before_dynamodb_deletes_it() {
    let engine = Engine::start().await;
    let (store, clock) = with_an_expired_turn(&engine).await;
    assert_eq!(store.turn(&turn_id(1)).await.unwrap(), None);
    assert_eq!(store.cards(&[turn_id(1)]).await.unwrap()[&turn_id(1)], []);
    let follower = samples::connection("x=");
    assert_eq!(store.subscribe(&turn_id(1), &follower, clock.now_ms()).await.unwrap(), TurnJournal::default());
    assert_eq!(store.ask_to_cancel(&turn_id(1), clock.now_ms()).await.unwrap(), TurnJournal::default());
}

#[tokio::test]
async fn an_expired_turn_gives_way_to_one_that_knows_nothing_of_it() {
    let engine = Engine::start().await;
    let (store, clock) = with_an_expired_turn(&engine).await;
    let wire = engine.behind_a_lossy_wire(1).await;
    let lossy = DynamoDbTurns::new(wire.client.clone(), TABLE, clock.clone());
    let request = asked_again(&clock);
    assert_eq!(lossy.record(&request).await.unwrap(), RecordOutcome::Recorded);
    assert_eq!(store.record(&request).await.unwrap(), RecordOutcome::Recorded, "the very same");
    let turn = store.turn(&turn_id(1)).await.unwrap().unwrap();
    assert_eq!((turn.request, turn.journal), (request, TurnJournal::default()));
    let write = JournalWrite { now: clock.now_ms(), ..journal(1) };
    let JournalOutcome::Written(written) = store.journal(&write).await.unwrap() else {
        panic!("fenced by the expired")
    };
    assert_eq!(written.frames, write.frames);
}

#[tokio::test]
async fn of_two_that_replace_an_expired_turn_one_does() {
    let engine = Engine::start().await;
    let (store, clock) = with_an_expired_turn(&engine).await;
    let winner = asked_again(&clock);
    let write = JournalWrite { now: clock.now_ms(), ..journal(1) };
    let meanwhile = {
        let (store, winner, write) = (store.clone(), winner.clone(), write.clone());
        async move || {
            assert_eq!(store.record(&winner).await.unwrap(), RecordOutcome::Recorded);
            store.journal(&write).await.map(drop).unwrap();
        }
    };
    // The other has seen the expired turn, and is about to clear its run.
    let wire = engine.interrupted("PutItem", "run", meanwhile).await;
    let slower = DynamoDbTurns::new(wire.client.clone(), TABLE, clock);
    let loser = TurnRequest { text: "侍は？".to_owned(), ..winner.clone() };
    assert_eq!(slower.record(&loser).await.unwrap(), RecordOutcome::Exists);
    let turn = store.turn(&turn_id(1)).await.unwrap().unwrap();
    assert_eq!((turn.request, turn.journal.frames), (winner, write.frames));
}

#[tokio::test]
async fn a_write_without_frames_appends_nothing() {
    let engine = Engine::start().await;
    let store = turns(&engine.client);
    let lease = |number, lease_ms| JournalWrite {
        number,
        frames: Vec::new(),
        hold: Hold::Leased { until: START_MS + lease_ms },
        outcome: None,
        ..journal(1)
    };
    store.journal(&lease(1, 1)).await.unwrap();
    assert!(!engine.item("turn#t-1", "run").await.contains_key("frames"));
    let frames = journal(1).frames;
    store.journal(&JournalWrite { frames: frames.clone(), ..lease(2, 2) }).await.unwrap();
    let JournalOutcome::Written(renewed) = store.journal(&lease(3, 3)).await.unwrap() else { panic!("fenced") };
    assert_eq!(engine.item("turn#t-1", "run").await["frames"].as_l().unwrap().len(), 1);
    assert_eq!((renewed.frames, renewed.hold), (frames, Some(Hold::Leased { until: START_MS + 3 })));
}

#[tokio::test]
async fn a_summary_comes_with_its_conversation_and_never_with_another() {
    let engine = Engine::start().await;
    let clock = ManualClock::new();
    let store = DynamoDbTurns::new(engine.client.clone(), TABLE, clock.clone());
    let read = async || {
        let (conversation, exchanges) = store.conversation(&conversation_id(), 2).await.unwrap().unwrap();
        (conversation.summary, exchanges.iter().map(|exchange| exchange.number).collect::<Vec<_>>())
    };
    store.summarise(&conversation_id(), &summary(1), START_MS).await.unwrap();
    assert_eq!(store.conversation(&conversation_id(), 2).await.unwrap(), None, "a summary makes no conversation");
    for number in 1..=4 {
        assert_eq!(store.lock(&lock(number, START_MS)).await.unwrap(), LockOutcome::Locked);
        store.remember(&conversation_id(), &exchange(number), START_MS).await.unwrap();
        store.release(&conversation_id(), &turn_id(number)).await.unwrap();
    }
    assert_eq!(read().await, (Some(summary(1)), vec![4, 3]));
    // As late as a worker may be.
    store.summarise(&conversation_id(), &summary(4), START_MS + 10_000).await.unwrap();
    assert_eq!(read().await, (Some(summary(4)), vec![4, 3]));
    store.summarise(&conversation_id(), &summary(3), START_MS + 20_000).await.unwrap();
    assert_eq!(read().await, (Some(summary(4)), vec![4, 3]), "this one goes further");

    clock.advance(CONVERSATION_LIFE_MS);
    assert_eq!(store.lock(&lock(1, clock.now_ms())).await.unwrap(), LockOutcome::Locked, "begins anew");
    assert_eq!(read().await, (None, vec![]));
    clock.advance(10_000);
    store.summarise(&conversation_id(), &summary(1), clock.now_ms()).await.unwrap();
    assert_eq!(read().await, (Some(summary(1)), vec![]), "over one that has expired");
}

#[tokio::test]
async fn the_longest_question_comes_back_whole() {
    let engine = Engine::start().await;
    let store = turns(&engine.client);
    let longest = "𠮷".repeat(TEXT_CHARS_MAX);
    let request = TurnRequest { text: longest.clone(), ..request(1) };
    assert_eq!(store.record(&request).await.unwrap(), RecordOutcome::Recorded);
    assert_eq!(store.turn(&turn_id(1)).await.unwrap().unwrap().request, request);
    let exchange = Exchange { question: longest, ..exchange(1) };
    store.remember(&conversation_id(), &exchange, START_MS).await.unwrap();
    assert_eq!(store.exchanges(&conversation_id(), None, 1).await.unwrap(), [exchange]);
}

#[tokio::test]
async fn cards_of_many_turns_are_read_a_hundred_at_a_time() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(0).await;
    let store = turns(&wire.client);
    let ids: Vec<TurnId> = (1..=101).map(turn_id).collect();
    for number in 1..=101 {
        store.journal(&journal(number)).await.unwrap();
    }
    for (wanted, batches) in [(100, vec![100]), (101, vec![100, 1])] {
        let before = wire.requests().len();
        let cards = store.cards(&ids[..wanted]).await.unwrap();
        let keys = |request: &Value| request["RequestItems"][TABLE]["Keys"].as_array().unwrap().len();
        let read: Vec<usize> = wire.requests()[before..].iter().map(|(_, request)| keys(request)).collect();
        assert_eq!(read, batches);
        assert_eq!(cards.len(), wanted);
        assert!((1..=wanted as u64).all(|number| cards[&turn_id(number)] == [card(&format!("product-{number}"))]));
    }
}

/// A DynamoDB that leaves batches out, so many times.
async fn leaving_out(times: usize) -> Fake {
    let asked = Arc::new(AtomicUsize::new(0));
    Fake::start(move |request| {
        let found = json!({ TABLE: [{ "pk": { "S": "turn#t-1" }, "frames": { "L": [] } }] });
        let answer = match asked.fetch_add(1, Ordering::Relaxed) < times {
            true => json!({ "Responses": {}, "UnprocessedKeys": request.json()["RequestItems"] }),
            false => json!({ "Responses": found, "UnprocessedKeys": {} }),
        };
        std::future::ready(Some(Json(answer).into_response()))
    })
    .await
}

#[tokio::test]
async fn what_a_batch_read_leaves_out_is_asked_for_four_times() {
    let patient = leaving_out(3).await;
    let cards = turns(&client(&patient.url)).cards(&[turn_id(1)]).await.unwrap();
    assert_eq!(cards.into_keys().collect::<Vec<_>>(), [turn_id(1)]);
    let broken = leaving_out(4).await;
    failure(turns(&client(&broken.url)).cards(&[turn_id(1)]).await);
    assert_eq!((patient.requests().len(), broken.requests().len()), (4, 4));
}

#[tokio::test]
async fn every_read_sees_every_acknowledged_write() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(0).await;
    let store = turns(&wire.client);
    store.turn(&turn_id(1)).await.unwrap();
    store.conversation(&conversation_id(), 6).await.unwrap();
    store.exchanges(&conversation_id(), None, 6).await.unwrap();
    store.cards(&[turn_id(1)]).await.unwrap();
    let consistent = |(operation, request): (String, Value)| match operation.as_str() {
        "BatchGetItem" => request["RequestItems"][TABLE]["ConsistentRead"].clone(),
        _one_item_or_query => request["ConsistentRead"].clone(),
    };
    assert_eq!(wire.requests().into_iter().map(consistent).collect::<Vec<_>>(), vec![json!(true); 4]);
}

/// What each method does on a store that does not work.
async fn check_unavailable(client: &Client) {
    let store = &turns(client);
    let (id, conversation) = (&turn_id(1), &conversation_id());
    let failures = within(async {
        [
            failure(store.turn(id).await),
            failure(store.conversation(conversation, 6).await),
            failure(store.lock(&lock(1, START_MS)).await),
            failure(store.lock(&lock(2, START_MS)).await),
            failure(store.record(&request(1)).await),
            failure(store.journal(&journal(1)).await),
            failure(store.subscribe(id, &samples::connection("x="), START_MS).await),
            failure(store.ask_to_cancel(id, START_MS).await),
            failure(store.remember(conversation, &exchange(1), START_MS).await),
            failure(store.release(conversation, id).await),
            failure(store.summarise(conversation, &summary(1), START_MS).await),
            failure(store.exchanges(conversation, None, 6).await),
            failure(store.cards(std::slice::from_ref(id)).await),
            failure(store.rate(id, Rating::Up, None, START_MS).await),
        ]
    })
    .await;
    let operations: BTreeSet<&str> = failures.iter().map(|failure| failure.operation).collect();
    assert_eq!(operations.len(), 13, "each says what failed: {operations:?}");
}

#[tokio::test]
async fn without_its_table_the_store_is_unavailable() {
    let engine = Engine::start().await;
    engine.client.delete_table().table_name(TABLE).send().await.unwrap();
    check_unavailable(&engine.client).await;
}

#[tokio::test]
async fn out_of_reach_the_store_is_unavailable() {
    check_unavailable(&client(&nobody().await)).await;
}

#[tokio::test]
async fn a_store_that_never_answers_is_unavailable_within_its_timeout() {
    let silent = Fake::silent().await;
    failure(within(turns(&client(&silent.url)).turn(&turn_id(1))).await);
    assert!((1..=3).contains(&silent.requests().len()), "attempts of 1 s within 3 s");
}
