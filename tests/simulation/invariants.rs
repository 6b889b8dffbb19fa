//! What must hold of a world in which nothing goes on any more.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::{ConversationId, TurnId};
use domain::limits::{HISTORY_WINDOW_TURNS_MAX, LEASE_MARGIN_MS, LEASE_MS, REPLAYS_PER_MINUTE, TAKEOVER_MARGIN_MS};
use domain::ports::QueueName;
use domain::protocol::{BrownOutStep, Degraded, ServerEvent, TurnState};
use domain::turn::{Hold, StoredTurn};
use serde_json::Value;
use testkit::samples;

use crate::client::{Shown, View};
use crate::stores::Stores;
use crate::trace::{Events, Post, frame_line};
use crate::world::{Message, Sent, World};

/// How far the clocks of a world are apart at the most, ms.
pub const CLOCKS_DIFFER_MS: u64 = 900;

/// All of it, for the messages that were sent.
pub fn hold<S: Stores>(world: &World<S>, messages: &[Message]) {
    let mut turns = BTreeMap::new();
    for message in messages {
        let id = world.turn_id(message);
        match world.stored(&id) {
            Some(turn) => {
                turns.insert(id, turn);
            }
            None => was_never_accepted(world, &id),
        }
    }
    for turn in turns.values() {
        has_one_outcome(world, turn);
        has_a_whole_journal(turn);
        says_what_the_model_said(world, turn);
        was_written_by_one_owner_at_a_time(world, turn);
        was_posted_by_its_owner_within_its_lease(world, turn);
        its_end_was_published(world, turn);
    }
    conversations_are_free_and_complete(world, &turns);
    turns_of_a_conversation_never_overlap(world, &turns);
    prompts_held_every_answer(world, &turns);
    sends_were_answered_rightly(world, &turns);
    queues_are_empty(world, &turns);
    let events = world.lambda.trace.events();
    assert_eq!(events.overtime, Vec::<String>::new(), "an invocation took longer than it may");
}

/// What a client shows that got every durable frame.
pub fn shown(turn: &StoredTurn) -> Shown {
    let mut view = View::default();
    for frame in &turn.journal.frames {
        let frame = frame.addressed(&turn.request.conversation_id, &turn.request.turn_id);
        view.take(&serde_json::to_value(frame).unwrap(), 0);
    }
    view.shown()
}

/// I1, of a message that left no turn: nobody was told that it will be answered.
fn was_never_accepted<S: Stores>(world: &World<S>, turn: &TurnId) {
    let events = world.lambda.trace.events();
    let told = events.posts.iter().find(|post| post.frame["turn_id"] == turn.as_str());
    assert!(told.is_none(), "I1: {turn} is not stored, but its client got {}", frame_line(&told.unwrap().frame));
}

/// I1: one stored outcome, and the client hears of no other.
fn has_one_outcome<S: Stores>(world: &World<S>, turn: &StoredTurn) {
    let id = &turn.request.turn_id;
    let outcome = turn.journal.outcome.as_ref();
    let outcome = outcome.unwrap_or_else(|| panic!("I1: {id} was recorded and never ends: {:?}", turn.journal.hold));
    let last = turn.journal.frames.last().unwrap_or_else(|| panic!("I1: {id} ends without a frame"));
    assert_eq!(last.event.ends_turn(), Some(outcome.state), "I1: {id} ends with another frame than its outcome");
    let stored = serde_json::to_value(last.addressed(&turn.request.conversation_id, id)).unwrap();
    let events = world.lambda.trace.events();
    for post in events.posts.iter().filter(|post| post.frame["turn_id"] == id.as_str()) {
        if is_terminal(&post.frame) {
            assert_eq!(post.frame, stored, "I1: a client was told of another end of {id} than the stored one");
            let ended = events.written_to(id).find(|written| written.write.outcome.is_some()).unwrap();
            assert!(
                ended.at <= post.started_at,
                "settle before post: the end of {id} was posted at {}, stored at {}",
                post.started_at,
                ended.at
            );
        }
    }
}

fn is_terminal(frame: &Value) -> bool {
    ["turn.completed", "turn.cancelled", "turn.failed"].contains(&frame["type"].as_str().unwrap())
}

/// The rules for `seq` and `epoch`.
fn has_a_whole_journal(turn: &StoredTurn) {
    let id = &turn.request.turn_id;
    let mut epoch = 0;
    let mut next = 0;
    for frame in &turn.journal.frames {
        assert_eq!(frame.first_seq(), next, "{id} has a gap, or a frame twice, in its journal");
        next = frame.seq + 1;
        assert!(frame.epoch >= epoch, "I2: epoch {} wrote after epoch {epoch} to {id}", frame.epoch);
        if frame.epoch > epoch {
            let started = serde_json::to_value(&frame.event).unwrap();
            assert_eq!(started["type"], "turn.started", "epoch {} of {id} does not begin so", frame.epoch);
            let flags = (started["data"]["restarted"] == true, started["data"]["continues"] == true);
            match flags {
                (false, false) => assert_eq!(frame.seq, 0, "a new owner of {id} says neither: {started}"),
                (true, true) => panic!("an owner of {id} says both: {started}"),
                (true, false) | (false, true) => {}
            }
        }
        epoch = frame.epoch;
        let is_last = Some(frame) == turn.journal.frames.last();
        assert_eq!(frame.event.ends_turn().is_some(), is_last, "{id} has a terminal frame that is not its last");
    }
    assert_eq!(epoch, turn.journal.epoch, "{id}: the last owner left no frame");
}

fn used_template(turn: &StoredTurn) -> bool {
    let in_template = |event: &ServerEvent| {
        matches!(event, ServerEvent::Degraded(Degraded { step: Some(BrownOutStep::Template), .. }))
    };
    turn.journal.frames.iter().any(|frame| in_template(&frame.event))
}

/// I4: the text is the model's, with no piece missing or twice, and cards and sources are those of any other answer.
fn says_what_the_model_said<S: Stores>(world: &World<S>, turn: &StoredTurn) {
    let id = &turn.request.turn_id;
    let shown = shown(turn);
    let whole = world.lambda.model.answer_to(&turn.request.text);
    let stop_reason = shown.end.as_ref().and_then(|(_, data)| data["stop_reason"].as_str());
    match turn.state() {
        // The follow-up worker keeps what a failing model has said.
        TurnState::Completed if stop_reason == Some("deadline") => {
            assert!(turn.epoch() > 1 && !shown.text.is_empty(), "{id} was broken off by its first owner");
            assert!(whole.starts_with(&shown.text), "I4: {id} says {:?}, the model {whole:?}", shown.text);
        }
        // Every model was throttled before its first word: fixed words around what the store says.
        TurnState::Completed if used_template(turn) => {
            let articles = samples::store_data().articles;
            assert_eq!(shown.text, articles[0].body.in_locale(turn.request.locale), "I4: {id} says something else");
        }
        TurnState::Completed => {
            assert_eq!(shown.text, whole, "I4: {id} does not say what the model said");
            let ids = |list: &[Value], field: &str| -> Vec<String> {
                list.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
            };
            assert_eq!(ids(&shown.cards, "product_id"), ["one-1", "two-1"], "I4: other cards of {id}");
            assert_eq!(ids(&shown.sources, "id"), ["returns"], "I4: other sources of {id}");
        }
        TurnState::Cancelled | TurnState::Failed => {
            assert!(whole.starts_with(&shown.text), "I4: {id} says {:?}, the model {whole:?}", shown.text);
        }
        TurnState::Running => panic!("{id} goes on"),
    }
}

/// I2: epochs only rise, each is one process's, and nothing is written after the end.
fn was_written_by_one_owner_at_a_time<S: Stores>(world: &World<S>, turn: &StoredTurn) {
    let id = &turn.request.turn_id;
    let events = world.lambda.trace.events();
    let mut owners = BTreeMap::new();
    let mut last = (0, 0);
    let mut ended = false;
    for written in events.written_to(id) {
        let (epoch, number) = (written.write.epoch, written.write.number);
        if (epoch, number) == last {
            continue;
        }
        assert!((epoch, number) > last, "I2: write {number} of epoch {epoch} came after {last:?} to {id}");
        assert!(!ended, "I2: #{} wrote to {id} after its end", written.by);
        let owner = *owners.entry(epoch).or_insert(written.by);
        assert_eq!(owner, written.by, "I2: two processes wrote as epoch {epoch} of {id}");
        last = (epoch, number);
        ended = written.write.outcome.is_some();
    }
}

/// I2: an owner starts no post later than its lease allows or after it has a successor, and others post what is durable.
fn was_posted_by_its_owner_within_its_lease<S: Stores>(world: &World<S>, turn: &StoredTurn) {
    let id = &turn.request.turn_id;
    let events = world.lambda.trace.events();
    for post in events.posts.iter().filter(|post| post.frame["turn_id"] == id.as_str()) {
        let Some(epoch) = owner_epoch(post) else { continue };
        let line = || format!("#{} posts {} of {id} at {}", post.by, frame_line(&post.frame), post.started_at);
        match lease_of(&events, id, epoch, post) {
            None => {
                let seq = post.frame["seq"].as_u64();
                let durable = events.written_to(id).any(|written| {
                    written.at <= post.started_at
                        && written.write.frames.iter().any(|frame| frame.epoch == epoch && Some(frame.seq) >= seq)
                });
                assert!(durable, "I2: {}, which it does not own and which is not durable", line());
            }
            Some(lease) => {
                assert!(post.started_at + LEASE_MARGIN_MS <= lease, "I2: {}, but its lease ends at {lease}", line());
                let handed_over = events
                    .written_to(id)
                    .any(|written| written.write.epoch == epoch && matches!(written.write.hold, Hold::Queued { .. }));
                let successor = events
                    .written_to(id)
                    .find(|written| written.write.epoch > epoch && written.at <= post.started_at)
                    .filter(|_| !handed_over);
                assert!(successor.is_none(), "I2: {}, after epoch {} began", line(), successor.unwrap().write.epoch);
            }
        }
    }
}

/// As which owner a frame was posted; none for those that anybody may post.
fn owner_epoch(post: &Post) -> Option<u64> {
    match post.frame["type"].as_str().unwrap() {
        "message.accepted" if post.frame["data"]["duplicate"] == false => Some(1),
        _ => post.frame["epoch"].as_u64(),
    }
}

/// Until when a process held a turn as that epoch, as others read it when it posted; none if it did not.
fn lease_of(events: &Events, turn: &TurnId, epoch: u64, post: &Post) -> Option<u64> {
    let recorded = events
        .recorded
        .iter()
        .filter(|recorded| epoch == 1 && recorded.by == post.by && recorded.request.turn_id == *turn)
        .map(|recorded| (recorded.at, recorded.request.lease_until));
    let written = events
        .written_to(turn)
        .filter(|written| written.write.epoch == epoch && written.by == post.by)
        .filter_map(|written| match written.write.hold {
            Hold::Leased { until } => Some((written.at, until)),
            Hold::Queued { .. } => None,
        });
    let leases = recorded.chain(written).filter(|(at, _)| *at <= post.started_at);
    let until = leases.map(|(_, until)| until).max()?;
    Some(until.saturating_add_signed(-events.started[post.by].skew_ms))
}

/// `TurnEnded`, at least once.
fn its_end_was_published<S: Stores>(world: &World<S>, turn: &StoredTurn) {
    let id = &turn.request.turn_id;
    let published: Vec<TurnState> = world
        .lambda
        .world
        .events
        .inner
        .all()
        .into_iter()
        .filter(|event| event.turn_id == *id && event.ended_at + CLOCKS_DIFFER_MS >= turn.request.asked_at)
        .map(|event| event.state)
        .collect();
    assert!(!published.is_empty(), "the end of {id} was not published");
    assert!(published.iter().all(|state| *state == turn.state()), "another end of {id} was published: {published:?}");
}

/// No conversation is held, and each has every ended turn once, under a number of its own.
fn conversations_are_free_and_complete<S: Stores>(world: &World<S>, turns: &BTreeMap<TurnId, StoredTurn>) {
    let ids: BTreeSet<&ConversationId> = world
        .sends
        .iter()
        .map(|sent| &sent.conversation)
        .chain(turns.values().map(|turn| &turn.request.conversation_id))
        .collect();
    for id in ids {
        let Some((conversation, exchanges)) = world.conversation(id) else { continue };
        if let Some(lock) = &conversation.lock {
            // A lock of a message that was never recorded stays until the next message: it leads nowhere.
            assert!(!turns.contains_key(&lock.turn_id), "{id} is held by {}, which has ended", lock.turn_id);
            assert!(lock.lease_until <= world.now(), "{id} is held by a message that was not accepted");
        }
        let mut remembered: BTreeSet<&TurnId> = BTreeSet::new();
        for exchange in &exchanges {
            let turn = turns.get(&exchange.turn_id);
            let turn = turn.unwrap_or_else(|| panic!("{id} remembers {}, which is not stored", exchange.turn_id));
            assert!(remembered.insert(&exchange.turn_id), "{id} remembers {} twice", exchange.turn_id);
            assert_eq!(exchange.state, turn.state(), "{id} remembers another end of {}", exchange.turn_id);
            assert_eq!(
                exchange.answer,
                shown(turn).text,
                "I4: history and prompts have another answer of {} than its client",
                exchange.turn_id
            );
        }
        for turn in turns.values().filter(|turn| turn.request.conversation_id == *id) {
            assert!(remembered.contains(&turn.request.turn_id), "{id} forgets {}", turn.request.turn_id);
        }
    }
}

/// The conversation lock: a turn is recorded after the one before it has ended, and has a higher number.
fn turns_of_a_conversation_never_overlap<S: Stores>(world: &World<S>, turns: &BTreeMap<TurnId, StoredTurn>) {
    let events = world.lambda.trace.events();
    let mut in_order: Vec<(&ConversationId, u64, u64, u64, &TurnId)> = turns
        .iter()
        .map(|(id, turn)| {
            let recorded_at = events.record_of(id).expect("it is stored").at;
            let ended_at = events.written_to(id).find(|written| written.write.outcome.is_some()).unwrap().at;
            (&turn.request.conversation_id, recorded_at, ended_at, turn.request.number, id)
        })
        .collect();
    in_order.sort();
    for pair in in_order.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let ((conversation, _, ended_at, number, id), (_, recorded_at, _, next, later)) = (pair[0], pair[1]);
        assert!(
            ended_at <= recorded_at,
            "{later} was recorded in {conversation} at {recorded_at}, though {id} held it and ended at {ended_at}"
        );
        assert!(number < next, "{later} came after {id} and has number {next}, not a higher one than {number}");
    }
}

/// "No answer is missing from the next prompt": whoever was asked for a turn knew the answers before it.
fn prompts_held_every_answer<S: Stores>(world: &World<S>, turns: &BTreeMap<TurnId, StoredTurn>) {
    for asked in world.lambda.model.asked() {
        let Some(question) = &asked.question else { continue };
        // One that was asked for a message before that was accepted knew less.
        let accepted = |turn: &&StoredTurn| asked.at + CLOCKS_DIFFER_MS >= turn.request.asked_at;
        let turn = turns.values().filter(accepted).find(|turn| turn.request.text == *question);
        let Some(turn) = turn else { continue };
        let earlier = turns.values().filter(|other| {
            other.request.conversation_id == turn.request.conversation_id && other.request.number < turn.request.number
        });
        for other in earlier {
            let answer = shown(other).text;
            // Older ones are for the summary.
            let recent = turn.request.number - other.request.number <= u64::from(HISTORY_WINDOW_TURNS_MAX);
            let told = asked.prompt.messages.iter().any(|message| message.text == answer);
            assert!(
                told || answer.trim().is_empty() || !recent,
                "the prompt for {} lacks the answer of {}: {:?}",
                turn.request.turn_id,
                other.request.turn_id,
                asked.prompt.messages
            );
        }
    }
}

/// I3, and every frame that nothing befell is answered as the protocol says.
fn sends_were_answered_rightly<S: Stores>(world: &World<S>, turns: &BTreeMap<TurnId, StoredTurn>) {
    let events = world.lambda.trace.events();
    for sent in &world.sends {
        let turn = turns.values().find(|turn| turn.request.client_message_id == sent.id);
        let process = &events.started[sent.by];
        let answers: Vec<&Value> = events
            .posts
            .iter()
            .filter(|post| post.by == sent.by && post.connection == sent.connection)
            .map(|post| &post.frame)
            .filter(|frame| ["message.accepted", "error"].contains(&frame["type"].as_str().unwrap()))
            .collect();
        for frame in &answers {
            let same = turn.is_some_and(|turn| turn.request.text == sent.text);
            let line = format!("#{} answers {:?} with {}", sent.by, sent.text, frame_line(frame));
            match frame["data"]["code"].as_str() {
                None => assert!(same, "I3: {line}, but the message stored under its id is {turn:?}"),
                Some("idempotency_mismatch") => assert!(!same, "I3: {line}, which is the text stored"),
                Some("conversation_busy") => {
                    assert!(may_be_busy(world, turns, &events, sent), "{line}, but nothing holds its conversation");
                }
                Some("rate_limited") => {
                    assert!(may_be_too_many(world, sent), "{line}, though there were few");
                }
                Some("unavailable") => assert!(process.disturbed, "{line}, but nothing befell it"),
                Some(_) => panic!("{line}"),
            }
        }
        let hung_up = world.tabs.iter().all(|tab| !tab.has_connection(&sent.connection));
        let undisturbed = !process.disturbed && !process.faults.crashed() && !hung_up;
        assert!(!undisturbed || !answers.is_empty(), "#{} answers {:?} with nothing", sent.by, sent.text);
    }
}

/// Whether there were too many frames for a minute, or for one moment: more than three at once fight over a bucket.
fn may_be_too_many<S: Stores>(world: &World<S>, sent: &Sent) -> bool {
    let sends = world.sends.iter().map(|sent| sent.at);
    let frames: Vec<u64> = world.resumes.iter().map(|resume| resume.at).chain(sends).collect();
    let minute = frames.iter().filter(|at| **at <= sent.at && **at + 60_000 >= sent.at).count();
    let moment = frames.iter().filter(|at| at.abs_diff(sent.at) <= 200).count();
    minute >= REPLAYS_PER_MINUTE as usize || moment > 3
}

/// Whether another message of the conversation may have held it.
fn may_be_busy<S: Stores>(
    world: &World<S>,
    turns: &BTreeMap<TurnId, StoredTurn>,
    events: &Events,
    sent: &Sent,
) -> bool {
    let others_go_on = turns.values().any(|turn| {
        let ended = events.written_to(&turn.request.turn_id).find(|written| written.write.outcome.is_some());
        turn.request.conversation_id == sent.conversation
            && turn.request.client_message_id != sent.id
            && ended.is_none_or(|ended| ended.at >= sent.at)
    });
    // One that locked it and was never recorded.
    let patience = LEASE_MS + TAKEOVER_MARGIN_MS;
    let others_began = world.sends.iter().any(|other| {
        other.by != sent.by
            && other.conversation == sent.conversation
            && other.at <= sent.at + patience
            && sent.at <= other.at + patience
    });
    others_go_on || others_began
}

/// Nothing is left to be done.
fn queues_are_empty<S: Stores>(world: &World<S>, turns: &BTreeMap<TurnId, StoredTurn>) {
    let queues = &world.lambda.world.queues.inner;
    for queue in [QueueName::Watchdog, QueueName::FollowUp] {
        assert_eq!(queues.bodies(queue), Vec::<String>::new(), "the {queue:?} queue does not drain");
        for (body, _) in queues.dead_letters(queue) {
            let task: Value = serde_json::from_str(&body).unwrap();
            let over = turns.iter().any(|(id, turn)| task["turn_id"] == id.as_str() && turn.journal.outcome.is_some());
            assert!(over, "a dead letter of the {queue:?} queue that something waits for: {body}");
        }
    }
}
