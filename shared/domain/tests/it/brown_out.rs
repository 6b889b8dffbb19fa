//! Under pressure answers get smaller, step by step.

use domain::answer::Workplace;
use domain::follow_up::Done;
use domain::limits::{
    ANSWER_TOKENS_MAX, BUDGET_WAIT_MS, HAND_OVER_DELAY_MS, SHOPPER_MESSAGES_PER_MINUTE, SHORT_ANSWER_TOKENS_MAX,
};
use domain::ports::{Clock as _, ModelChoice, Reservation};
use domain::prompt::expected_tokens;
use domain::protocol::{BrownOutStep, ErrorCode, Locale, MessageSend, TurnState, blocked_text, brown_out_text};
use domain::turn::{Past, Phase};
use futures_util::future::{join, join_all};
use serde_json::Value;
use testkit::{Fault, InMemory, ModelFailure, START_MS, Step, samples};

use crate::client::{put_together, read};
use crate::world::{
    Told, abandoned, ask, asked, drain, frames, lapse, names, phase, pieces, positions, question, say, send, stocked,
    take, the_turn, types, wait, worker,
};

use ModelChoice::{Cheaper, Primary};

/// Tokens that the question's prompt is expected to have.
fn input() -> u64 {
    expected_tokens(&question().text, &Past::default())
}

/// Tokens that are set aside for a full answer, and for a short one.
fn full() -> u64 {
    input() + u64::from(ANSWER_TOKENS_MAX)
}

fn short() -> u64 {
    input() + u64::from(SHORT_ANSWER_TOKENS_MAX)
}

/// What the first step of every script here costs: 100 tokens in, one out.
const USED: u64 = 101;

/// A world with so many tokens a minute.
fn limited(primary: u64, cheaper: u64) -> InMemory {
    let ports = stocked();
    limit(&ports, primary, cheaper);
    ports
}

fn limit(ports: &InMemory, primary: u64, cheaper: u64) {
    ports.budgets.inner.limit(Primary, primary);
    ports.budgets.inner.limit(Cheaper, cheaper);
}

/// The steps that were announced on a connection, in order.
fn announced(frames: &[Value]) -> Vec<String> {
    let steps = frames.iter().filter_map(|frame| frame["data"]["step"].as_str());
    steps.map(str::to_owned).collect()
}

/// With which models and how many tokens for the answer a model was asked.
fn rungs(ports: &InMemory) -> Vec<(ModelChoice, u32)> {
    ports.model.asked().iter().map(|(_, prompt)| (prompt.model, prompt.answer_tokens_max)).collect()
}

/// What was settled: of which budget, how many tokens were set aside, how many used.
fn settled(ports: &InMemory) -> Vec<(ModelChoice, u64, u64)> {
    let all = ports.budgets.inner.settled().into_iter();
    all.map(|(Reservation { model, tokens, .. }, used)| (model, tokens, used)).collect()
}

fn count(ports: &InMemory, effect: &str) -> usize {
    positions(&names(ports), effect).len()
}

/// What is still set aside of both budgets in the first minute.
fn reserved(ports: &InMemory) -> u64 {
    [Primary, Cheaper].map(|model| ports.budgets.inner.reserved(model, START_MS / 60_000)).iter().sum()
}

const TEMPLATE: &str = "Within thirty days, unread.";

#[test]
fn every_step_down_is_taken_when_there_is_no_room_for_the_one_above_and_announced_once() {
    let (none, shorter, cheaper) = (None, Some("shorter_answer"), Some("cheaper_model"));
    for (primary, cheap, model, answer_tokens_max, step, tries) in [
        (full(), 0, Primary, ANSWER_TOKENS_MAX, none, 1),
        (full() - 1, 0, Primary, SHORT_ANSWER_TOKENS_MAX, shorter, 2),
        (short(), 0, Primary, SHORT_ANSWER_TOKENS_MAX, shorter, 2),
        (short() - 1, short(), Cheaper, SHORT_ANSWER_TOKENS_MAX, cheaper, 3),
        (0, u64::MAX, Cheaper, SHORT_ANSWER_TOKENS_MAX, cheaper, 3),
    ] {
        let ports = limited(primary, cheap);
        assert_eq!(asked(&ports), Told::Frames);
        assert_eq!(rungs(&ports), [(model, answer_tokens_max)]);
        assert_eq!(announced(&frames(&ports, "a")), step.into_iter().collect::<Vec<_>>());
        let is_short = ports.model.asked()[0].1.system.contains("very busy");
        assert_eq!(is_short, answer_tokens_max == SHORT_ANSWER_TOKENS_MAX, "the model knows, too");
        assert_eq!(read(&frames(&ports, "a")).text, "Here you are.");
        assert_eq!(count(&ports, "budgets.reserve"), tries);
        let set_aside = input() + u64::from(answer_tokens_max);
        assert_eq!(settled(&ports), [(model, set_aside, USED)], "settled with what was used, once");
        assert_eq!(reserved(&ports), USED);
        assert_eq!(ports.metrics.total("BrownOuts"), u64::from(step.is_some()));
        step.into_iter().for_each(|step| assert_eq!(ports.metrics.total_of("BrownOuts", step), 1));
        assert_eq!(ports.metrics.total("ModelTokens"), USED);
    }
}

#[test]
fn what_was_found_is_told_when_no_model_has_room() {
    for locale in [Locale::Ja, Locale::En] {
        let ports = limited(short() - 1, short() - 1);
        let sent = MessageSend { locale: Some(locale), ..question() };
        assert_eq!(say(&ports, "aiko", &sent, "a"), Some(Told::Frames));
        let frames = frames(&ports, "a");
        assert_eq!(
            types(&frames),
            [
                "message.accepted",
                "turn.started",
                "card.product",
                "card.product",
                "source",
                "degraded",
                "text.delta",
                "turn.completed"
            ]
        );
        assert_eq!(frames[1]["data"]["path"], "llm", "the path is the question's");
        assert_eq!(
            (announced(&frames).as_slice(), &frames[5]["data"]["dependency"]),
            (&["template".to_owned()][..], &Value::Null)
        );
        assert_eq!(frames[5]["data"]["message"], brown_out_text(BrownOutStep::Template, locale));
        assert!(read(&frames).text.starts_with(TEMPLATE), "{}", read(&frames).text);
        assert_eq!(Locale::of_text(&read(&frames).text), locale);
        assert_eq!((rungs(&ports), settled(&ports), reserved(&ports)), (vec![], vec![], 0));
        assert_eq!(ports.metrics.total_of("BrownOuts", "template"), 1);
        assert_eq!((the_turn(&ports).state(), ports.metrics.total("ModelTokens")), (TurnState::Completed, 0));
    }
}

#[test]
fn a_question_to_which_nothing_was_found_is_queued() {
    let ports = InMemory::new();
    limit(&ports, 0, 0);
    assert_eq!(asked(&ports), Told::Frames);
    assert_eq!(types(&frames(&ports, "a")), ["message.accepted", "turn.started", "turn.queued"]);
    assert_eq!((phase(&ports), ports.model.asked().len()), (Phase::Queued { since: START_MS }, 0));
    limit(&ports, u64::MAX, u64::MAX);
    ports.run(drain(&ports)).unwrap();
    assert_eq!((the_turn(&ports).state(), settled(&ports).len()), (TurnState::Completed, 1));
    assert_eq!(read(&frames(&ports, "a")), put_together(&the_turn(&ports).journal.frames));
}

#[test]
fn a_throttled_model_makes_way_for_the_next() {
    for (primary, first, steps) in [
        (u64::MAX, (ANSWER_TOKENS_MAX, full()), vec!["cheaper_model"]),
        (short(), (SHORT_ANSWER_TOKENS_MAX, short()), vec!["shorter_answer", "cheaper_model"]),
    ] {
        let ports = limited(primary, u64::MAX);
        ports.model.follow_once(vec![Step::Wait(100), Step::Fail(ModelFailure::Throttled)]);
        assert_eq!(asked(&ports), Told::Frames);
        assert_eq!(rungs(&ports), [(Primary, first.0), (Cheaper, SHORT_ANSWER_TOKENS_MAX)]);
        assert_eq!(announced(&frames(&ports, "a")), steps);
        assert_eq!(settled(&ports), [(Primary, first.1, 0), (Cheaper, short(), USED)], "the first is given back whole");
        assert_eq!((reserved(&ports), read(&frames(&ports, "a")).text.as_str()), (USED, "Here you are."));
        assert_eq!(read(&frames(&ports, "a")), put_together(&the_turn(&ports).journal.frames));
    }
}

#[test]
fn when_both_models_are_throttled_what_was_found_is_told_or_the_question_queued() {
    for (cheap, models, steps) in
        [(u64::MAX, vec![Primary, Cheaper], vec!["cheaper_model", "template"]), (0, vec![Primary], vec!["template"])]
    {
        let ports = limited(u64::MAX, cheap);
        ports.model.follow(vec![Step::Fail(ModelFailure::Throttled)]);
        assert_eq!(asked(&ports), Told::Frames);
        assert_eq!(rungs(&ports).into_iter().map(|(model, _)| model).collect::<Vec<_>>(), models);
        assert_eq!(announced(&frames(&ports, "a")), steps);
        assert_eq!(
            (read(&frames(&ports, "a")).text.as_str(), the_turn(&ports).state()),
            (TEMPLATE, TurnState::Completed)
        );
        assert_eq!((reserved(&ports), settled(&ports).len()), (0, models.len()));
    }
    let ports = InMemory::new();
    ports.model.follow(vec![Step::Fail(ModelFailure::Throttled)]);
    asked(&ports);
    assert_eq!((phase(&ports), ports.model.asked().len()), (Phase::Queued { since: START_MS }, 2));
    assert_eq!(reserved(&ports), 0);
}

#[test]
fn the_cheaper_model_is_not_asked_twice() {
    let ports = limited(0, u64::MAX);
    ports.model.follow(vec![Step::Fail(ModelFailure::Throttled)]);
    asked(&ports);
    assert_eq!(rungs(&ports), [(Cheaper, SHORT_ANSWER_TOKENS_MAX)]);
    assert_eq!(announced(&frames(&ports, "a")), ["cheaper_model", "template"]);
}

#[test]
fn the_worker_waits_for_room_and_never_uses_fixed_words() {
    let never_throttled = |ports: &InMemory| limit(ports, 0, 0);
    let always_throttled = |ports: &InMemory| ports.model.follow(vec![Step::Fail(ModelFailure::Throttled)]);
    for pressure in [&never_throttled as &dyn Fn(&InMemory), &always_throttled] {
        let ports = stocked();
        ports.model.follow_once(vec![Step::Fail(ModelFailure::Unavailable)]);
        asked(&ports);
        pressure(&ports);
        ports.clock.advance(HAND_OVER_DELAY_MS);
        assert_eq!(ports.run(worker(&ports)), Some(vec![Done::Later(None)]));
        assert_eq!((the_turn(&ports).epoch(), the_turn(&ports).journal.answer().as_str()), (2, ""));
        assert!(!announced(&frames(&ports, "a")).contains(&"template".to_owned()));
        limit(&ports, u64::MAX, u64::MAX);
        ports.model.follow(pieces(&["Alpha."], 10));
        ports.run(drain(&ports)).unwrap();
        assert_eq!(
            (the_turn(&ports).state(), the_turn(&ports).journal.answer().as_str()),
            (TurnState::Completed, "Alpha.")
        );
        assert_eq!(read(&frames(&ports, "a")), put_together(&the_turn(&ports).journal.frames));
    }
}

#[test]
fn an_answer_that_has_begun_is_not_replaced_by_fixed_words() {
    let world = abandoned(vec![Step::Say("Alpha ".to_owned()), Step::Silence], 1_500);
    lapse(&world);
    limit(&world, 0, 0);
    world.run(take(&world, Workplace::Message)).unwrap().unwrap();
    assert!(matches!(phase(&world), Phase::Queued { .. }), "{:?}", phase(&world));
    assert_eq!(announced(&frames(&world, "a")), Vec::<String>::new());
}

#[test]
fn a_takeover_asks_for_leave_itself() {
    let world = abandoned(pieces(&["Alpha ", "beta."], 900), 1_500);
    assert_eq!(
        (reserved(&world), settled(&world)),
        (full(), vec![]),
        "what the dead owner set aside comes back by itself"
    );
    lapse(&world);
    world.model.follow(Step::answer(["Alpha beta."], 10));
    let successor = world.process();
    world.clock.block_on(take(&successor, Workplace::Message)).unwrap();
    assert_eq!(count(&successor, "budgets.reserve"), 1);
    assert_eq!(settled(&world), [(Primary, full(), USED)]);

    let world = abandoned(pieces(&["Alpha ", "beta."], 900), 1_500);
    lapse(&world);
    limit(&world, full() + short(), 0);
    world.run(take(&world, Workplace::Message)).unwrap().unwrap();
    assert_eq!(announced(&frames(&world, "a")), ["shorter_answer"], "and gets what there is room for");
}

#[test]
fn a_message_that_is_refused_gives_back_what_was_set_aside_and_asks_once() {
    for round_trip_ms in [0, 10] {
        let ports = stocked();
        assert_eq!(asked(&ports), Told::Frames);
        ports.faults.restart();
        let conversation_id = Some(the_turn(&ports).request.conversation_id);
        ports.set_round_trip_ms(round_trip_ms);
        let rivals: Vec<MessageSend> = (10..14)
            .map(|number| MessageSend { conversation_id: conversation_id.clone(), ..samples::message(number, "Hmm?") })
            .collect();
        let (aiko, connection) = (samples::shopper("aiko"), samples::connection("b"));
        let race = join_all(rivals.iter().map(|rival| send(&ports, &aiko, rival, &connection)));
        let told = ports.run(race).unwrap();
        let answered = told.iter().filter(|told| **told == Told::Frames).count();
        assert!(
            told.iter().all(|told| *told == Told::Frames || *told == Told::Refused(ErrorCode::ConversationBusy.into()))
        );
        let reservations = count(&ports, "budgets.reserve");
        assert!((answered..=rivals.len()).contains(&reservations), "{reservations}, none asks twice");
        assert_eq!(count(&ports, "budgets.settle"), reservations, "each is settled once");
        assert_eq!(settled(&ports).iter().filter(|(_, _, used)| *used == 0).count(), reservations - answered);
        assert_eq!(reserved(&ports), (1 + answered as u64) * USED);
        assert!(round_trip_ms == 0 || reservations > answered, "some lost the race after they had asked");
    }
}

#[test]
fn a_message_without_a_token_gives_back_what_was_set_aside() {
    let ports = stocked();
    let (aiko, connection) = (samples::shopper("aiko"), samples::connection("a"));
    let messages: Vec<MessageSend> =
        (0..=u128::from(SHOPPER_MESSAGES_PER_MINUTE)).map(|number| samples::message(number, "Hmm?")).collect();
    let (last_two, others) = messages.split_at(2);
    for message in others {
        assert_eq!(ports.run(send(&ports, &aiko, message, &connection)), Some(Told::Frames));
    }
    // One token is left for both.
    ports.set_round_trip_ms(10);
    let before = settled(&ports).len();
    let told = ports.run(join_all(last_two.iter().map(|message| send(&ports, &aiko, message, &connection)))).unwrap();
    let refused = told.iter().filter(|told| **told != Told::Frames).count();
    let given_back = settled(&ports)[before..].iter().filter(|(_, _, used)| *used == 0).count();
    assert_eq!((refused, given_back, settled(&ports).len() - before), (1, 1, 2), "{told:?}");
}

#[test]
fn a_resend_and_a_refusal_that_is_known_at_once_ask_for_nothing() {
    let ports = stocked();
    ports.model.follow(pieces(&["Alpha ", "beta."], 500));
    let busy = async {
        wait(&ports, 300).await;
        let conversation_id = Some(the_turn(&ports).request.conversation_id);
        let next = MessageSend { conversation_id, ..samples::message(2, "And then?") };
        send(&ports, &samples::shopper("aiko"), &next, &samples::connection("b")).await
    };
    let told = ports.run(join(ask(&ports, "a"), busy)).unwrap();
    assert_eq!(told, (Told::Frames, Told::Refused(ErrorCode::ConversationBusy.into())));
    asked(&ports);
    assert_eq!((count(&ports, "budgets.reserve"), settled(&ports).len()), (1, 1));
}

#[test]
fn budgets_that_fail_hold_nobody_up() {
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let rehearsal = stocked();
        asked(&rehearsal);
        for effect in ["budgets.reserve", "budgets.settle"] {
            let ports = stocked();
            ports.faults.plan(positions(&names(&rehearsal), effect)[0], fault);
            assert_eq!(asked(&ports), Told::Frames);
            assert_eq!(rungs(&ports), [(Primary, ANSWER_TOKENS_MAX)]);
            assert_eq!((announced(&frames(&ports, "a")).len(), the_turn(&ports).state()), (0, TurnState::Completed));
            assert_eq!(ports.clock.now_ms(), START_MS);
            let is_settled = effect == "budgets.settle" && fault == Fault::FailAfter;
            assert_eq!(settled(&ports).len(), usize::from(is_settled));
        }
    }
}

#[test]
fn budgets_that_hang_hold_nobody_up_for_long() {
    let ports = stocked();
    ports.budgets.set_round_trip_ms(60_000);
    assert_eq!(asked(&ports), Told::Frames);
    assert_eq!(ports.model.asked()[0].0, START_MS + BUDGET_WAIT_MS);
    assert_eq!((rungs(&ports), settled(&ports)), (vec![(Primary, ANSWER_TOKENS_MAX)], vec![]));
    assert_eq!((the_turn(&ports).state(), ports.clock.now_ms()), (TurnState::Completed, START_MS + BUDGET_WAIT_MS));

    // All the way down the ladder it is one wait.
    let ports = limited(0, u64::MAX);
    ports.budgets.set_round_trip_ms(BUDGET_WAIT_MS - 1);
    asked(&ports);
    assert_eq!(ports.model.asked()[0].0, START_MS + BUDGET_WAIT_MS);

    // They hang when the answer has ended.
    let ports = stocked();
    ports.model.follow(Step::answer(["Here you are."], 1_000));
    let hang = async {
        wait(&ports, 500).await;
        ports.budgets.set_round_trip_ms(60_000);
    };
    ports.run(join(ask(&ports, "a"), hang)).unwrap();
    let sent = ports.sender.inner.sent();
    let end = sent.iter().find(|sent| sent.frame["type"] == "turn.completed").expect("an end");
    assert!(end.at_ms <= START_MS + 1_000 + BUDGET_WAIT_MS, "{}", end.at_ms - START_MS);
}

#[test]
fn asking_for_leave_takes_no_round_trip_of_its_own() {
    for (budgets_ms, asked_after_ms) in [(0, 20), (10, 20), (25, 35)] {
        let ports = stocked();
        ports.set_round_trip_ms(10);
        ports.budgets.set_round_trip_ms(budgets_ms);
        asked(&ports);
        assert_eq!(ports.model.asked()[0].0, START_MS + asked_after_ms, "beside the lock");
    }
}

#[test]
fn a_guardrail_that_stops_an_answer_has_it_end_in_safe_words() {
    for locale in [Locale::Ja, Locale::En] {
        for (said, text) in [
            (vec![], blocked_text(locale).to_owned()),
            (vec![Step::Say("Alpha beta.".to_owned())], format!("Alpha beta.\n{}", blocked_text(locale))),
        ] {
            let ports = stocked();
            let usage = domain::protocol::Usage { input_tokens: 100, output_tokens: 1 };
            let stops = [Step::Stop(domain::protocol::StopReason::Guardrail), Step::Count(usage)];
            ports.model.follow(said.into_iter().chain(stops).collect());
            let sent = MessageSend { locale: Some(locale), ..question() };
            assert_eq!(say(&ports, "aiko", &sent, "a"), Some(Told::Frames));
            let shown = read(&frames(&ports, "a"));
            assert_eq!(shown.text, text);
            assert_eq!(shown, put_together(&the_turn(&ports).journal.frames));
            assert_eq!(frames(&ports, "a").last().unwrap()["data"]["stop_reason"], "guardrail");
            assert_eq!((ports.metrics.total("GuardrailChecks"), ports.metrics.total("GuardrailBlocks")), (1, 1));
            assert_eq!((the_turn(&ports).state(), settled(&ports).len()), (TurnState::Completed, 1));
        }
    }
    let ports = stocked();
    asked(&ports);
    assert_eq!((ports.metrics.total("GuardrailChecks"), ports.metrics.total("GuardrailBlocks")), (1, 0));
}

#[test]
fn safe_words_stand_on_a_line_of_their_own_when_an_answer_went_on_elsewhere() {
    let world = abandoned(vec![Step::Say("Alpha beta".to_owned()), Step::Silence], 1_500);
    lapse(&world);
    world.model.set_accepts_prefill(true);
    world.model.follow(vec![Step::Say("Alpha beta".to_owned()), Step::Stop(domain::protocol::StopReason::Guardrail)]);
    world.run(take(&world, Workplace::Message)).unwrap().unwrap();
    assert_eq!(the_turn(&world).journal.answer(), format!("Alpha beta\n{}", blocked_text(Locale::En)));
}
