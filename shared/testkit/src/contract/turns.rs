//! The contract of [`TurnStore`].

use domain::ids::{ConnectionId, ConversationId, Principal, TurnId};
use domain::limits::{LEASE_MS, SUBSCRIBERS_MAX, TAKEOVER_MARGIN_MS};
use domain::ports::{
    Conversation, HeldLock, JournalOutcome, JournalWrite, LockOutcome, LockRequest, RecordOutcome, TurnStore,
};
use domain::protocol::{
    Locale, OrderCard, ProductCard, Rating, ServerEvent, StopReason, TextDelta, TurnCompleted, TurnState, Usage,
};
use domain::store::{OrderStatus, Price};
use domain::turn::{Exchange, Hold, Outcome, StoredTurn, Summary, TurnFrame, TurnJournal, TurnRequest};
use futures_util::future::join_all;

use crate::samples;

/// Holds a [`TurnStore`] to its contract. `now_ms` is what its clock shows, if it has one.
///
/// # Panics
/// Where the store breaks it.
pub async fn turn_store(store: &impl TurnStore, prefix: &str, now_ms: u64) {
    let suite = |case: &str| TurnSuite { store, prefix: format!("{prefix}-{case}"), now_ms };
    suite("lock").locks_follow_the_conversation().await;
    suite("owner").locks_belong_to_the_owner().await;
    suite("replace").only_the_named_lock_is_replaced().await;
    suite("race").one_of_many_lockers_wins().await;
    suite("record").a_turn_is_recorded_once().await;
    suite("append").the_journal_grows_and_ends().await;
    suite("fence").a_stale_owner_writes_nothing().await;
    suite("lease").the_hold_is_stored_with_every_write().await;
    suite("queued").a_queued_turn_is_claimed_by_the_next_epoch().await;
    suite("claim").one_of_many_claims_wins().await;
    suite("cancel").a_running_turn_learns_of_a_cancel().await;
    suite("uncancelled").an_ended_turn_is_not_cancelled().await;
    suite("follow").subscribers_are_registered_up_to_the_limit().await;
    suite("history").exchanges_are_remembered_in_order().await;
    suite("rival").an_exchange_is_not_replaced_by_another_turns().await;
    suite("summary").only_a_further_summary_replaces_one().await;
    suite("cards").cards_of_ended_turns_are_found().await;
    suite("rate").feedback_is_taken_again_and_again().await;
}

struct TurnSuite<'s, S> {
    store: &'s S,
    prefix: String,
    now_ms: u64,
}

impl<S: TurnStore> TurnSuite<'_, S> {
    fn conversation(&self) -> ConversationId {
        ConversationId::parse(&format!("c-{}", self.prefix)).expect("an id")
    }

    fn turn(&self, name: u64) -> TurnId {
        TurnId::parse(&format!("t-{}-{name}", self.prefix)).expect("an id")
    }

    fn owner(&self) -> Principal {
        samples::shopper(&self.prefix)
    }

    /// A lock for turn `number` as its number.
    fn lock(&self, number: u64) -> LockRequest {
        LockRequest {
            conversation_id: self.conversation(),
            owner: self.owner(),
            turn_id: self.turn(number),
            number,
            replaces: None,
            lease_until: self.now_ms + LEASE_MS,
            attempt: format!("attempt-{number}"),
            now: self.now_ms,
        }
    }

    async fn locked(&self, request: &LockRequest) -> LockOutcome {
        self.store.lock(request).await.unwrap()
    }

    /// The conversation and the numbers of its newest exchanges.
    async fn stored(&self, exchanges_max: u32) -> Option<(Conversation, Vec<u64>)> {
        let (conversation, exchanges) = self.store.conversation(&self.conversation(), exchanges_max).await.unwrap()?;
        Some((conversation, exchanges.iter().map(|exchange| exchange.number).collect()))
    }

    fn held_by(&self, number: u64) -> Conversation {
        let lock = HeldLock { turn_id: self.turn(number), lease_until: self.now_ms + LEASE_MS };
        Conversation { owner: self.owner(), turns: number, lock: Some(lock), summary: None }
    }

    fn free_after(&self, turns: u64) -> Conversation {
        Conversation { owner: self.owner(), turns, lock: None, summary: None }
    }

    fn request(&self, number: u64) -> TurnRequest {
        TurnRequest {
            turn_id: self.turn(number),
            conversation_id: self.conversation(),
            number,
            principal: self.owner(),
            client_message_id: samples::client_message_id(number.into()),
            payload_hash: format!("hash-{number}"),
            text: "海賊の漫画は？ \"<&>\"\n".to_owned(),
            locale: Locale::Ja,
            product_id: (number % 2 == 1).then(|| samples::product_id("one-1")),
            connection: samples::connection("asked-on="),
            asked_at: self.now_ms,
            lease_until: self.now_ms + LEASE_MS,
        }
    }

    async fn record(&self, number: u64) -> TurnRequest {
        let request = self.request(number);
        assert_eq!(self.store.record(&request).await.unwrap(), RecordOutcome::Recorded);
        request
    }

    fn write(&self, epoch: u64, writer: &str, number: u64, frames: Vec<TurnFrame>) -> JournalWrite {
        JournalWrite {
            turn_id: self.turn(1),
            epoch,
            writer: writer.to_owned(),
            number,
            frames,
            hold: Hold::Leased { until: self.now_ms + LEASE_MS },
            outcome: None,
            now: self.now_ms,
        }
    }

    /// The first write of a new owner, as soon as a lease that was renewed just now lets it.
    fn claim(&self, epoch: u64, writer: &str, frames: Vec<TurnFrame>) -> JournalWrite {
        JournalWrite { now: self.now_ms + LEASE_MS + TAKEOVER_MARGIN_MS, ..self.write(epoch, writer, 1, frames) }
    }

    async fn journal(&self) -> TurnJournal {
        self.store.turn(&self.turn(1)).await.unwrap().expect("recorded").journal
    }

    async fn written(&self, write: &JournalWrite) -> TurnJournal {
        match self.store.journal(write).await.unwrap() {
            JournalOutcome::Written(journal) => journal,
            JournalOutcome::Fenced(journal) => panic!("fenced by {journal:?}"),
        }
    }

    async fn fenced(&self, write: &JournalWrite) {
        let before = self.journal().await;
        match self.store.journal(write).await.unwrap() {
            JournalOutcome::Written(journal) => panic!("written: {journal:?}"),
            JournalOutcome::Fenced(journal) => assert_eq!(journal, before, "a fenced writer is shown the journal"),
        }
        assert_eq!(self.journal().await, before, "a fenced write leaves nothing");
    }

    async fn locks_follow_the_conversation(&self) {
        assert_eq!(self.stored(9).await, None);
        assert_eq!(self.locked(&self.lock(2)).await, LockOutcome::Changed, "there is no first turn");
        assert_eq!(self.stored(9).await, None, "a failed lock makes no conversation");

        assert_eq!(self.locked(&self.lock(1)).await, LockOutcome::Locked);
        assert_eq!(self.stored(9).await, Some((self.held_by(1), vec![])));
        assert_eq!(self.locked(&self.lock(1)).await, LockOutcome::Locked, "the same attempt had succeeded");
        let other = LockRequest { attempt: "another".to_owned(), ..self.lock(1) };
        assert_eq!(self.locked(&other).await, LockOutcome::Changed, "another attempt of the same turn");
        assert_eq!(self.locked(&self.lock(2)).await, LockOutcome::Changed, "held");

        self.store.release(&self.conversation(), &self.turn(2)).await.unwrap();
        assert_eq!(self.stored(9).await, Some((self.held_by(1), vec![])), "only the holder releases");
        self.store.release(&self.conversation(), &self.turn(1)).await.unwrap();
        assert_eq!(self.stored(9).await, Some((self.free_after(1), vec![])));
        self.store.release(&self.conversation(), &self.turn(1)).await.unwrap();

        let again = LockRequest { attempt: "again".to_owned(), ..self.lock(1) };
        assert_eq!(self.locked(&again).await, LockOutcome::Changed, "the first turn was had");
        assert_eq!(self.locked(&self.lock(3)).await, LockOutcome::Changed, "the second was not");
        assert_eq!(self.locked(&self.lock(2)).await, LockOutcome::Locked);
        assert_eq!(self.locked(&self.lock(2)).await, LockOutcome::Locked, "the same attempt had succeeded");
        assert_eq!(self.stored(9).await, Some((self.held_by(2), vec![])));
    }

    async fn locks_belong_to_the_owner(&self) {
        assert_eq!(self.locked(&self.lock(1)).await, LockOutcome::Locked);
        self.store.release(&self.conversation(), &self.turn(1)).await.unwrap();
        let stranger = LockRequest { owner: samples::guest("stranger"), ..self.lock(2) };
        assert_eq!(self.locked(&stranger).await, LockOutcome::Changed);
        assert_eq!(self.stored(9).await, Some((self.free_after(1), vec![])));
    }

    async fn only_the_named_lock_is_replaced(&self) {
        assert_eq!(self.locked(&self.lock(1)).await, LockOutcome::Locked);
        let replacing = |number, held| LockRequest { replaces: Some(self.turn(held)), ..self.lock(number) };
        assert_eq!(self.locked(&replacing(2, 7)).await, LockOutcome::Changed, "held by another");
        assert_eq!(self.locked(&replacing(3, 1)).await, LockOutcome::Changed, "not the next number");
        assert_eq!(self.locked(&replacing(2, 1)).await, LockOutcome::Locked);
        assert_eq!(self.stored(9).await, Some((self.held_by(2), vec![])));
        self.store.release(&self.conversation(), &self.turn(1)).await.unwrap();
        assert_eq!(self.stored(9).await, Some((self.held_by(2), vec![])), "the former holder holds nothing");
        self.store.release(&self.conversation(), &self.turn(2)).await.unwrap();
        assert_eq!(self.locked(&replacing(3, 2)).await, LockOutcome::Locked, "free meanwhile");
    }

    async fn one_of_many_lockers_wins(&self) {
        for number in 1..=3 {
            let requests: Vec<LockRequest> = (0..4)
                .map(|rival| LockRequest {
                    turn_id: self.turn(10 * number + rival),
                    attempt: format!("attempt-{number}-{rival}"),
                    ..self.lock(number)
                })
                .collect();
            let outcomes = join_all(requests.iter().map(|request| self.locked(request))).await;
            let won = requests.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == LockOutcome::Locked);
            let won: Vec<&LockRequest> = won.map(|(request, _)| request).collect();
            assert_eq!(won.len(), 1, "{outcomes:?}");
            let (conversation, _) = self.stored(9).await.expect("made by the first");
            assert_eq!(conversation.turns, number);
            assert_eq!(conversation.lock.map(|lock| lock.turn_id).as_ref(), Some(&won[0].turn_id));
            self.store.release(&self.conversation(), &won[0].turn_id).await.unwrap();
        }
    }

    async fn a_turn_is_recorded_once(&self) {
        assert_eq!(self.store.turn(&self.turn(1)).await.unwrap(), None);
        let request = self.record(1).await;
        let stored = StoredTurn { request: request.clone(), journal: TurnJournal::default() };
        assert_eq!(self.store.turn(&self.turn(1)).await.unwrap().as_ref(), Some(&stored));
        assert_eq!(self.store.record(&request).await.unwrap(), RecordOutcome::Recorded, "this very record");
        let other = TurnRequest { number: 2, text: "another".to_owned(), ..request };
        assert_eq!(self.store.record(&other).await.unwrap(), RecordOutcome::Exists);
        assert_eq!(self.store.turn(&self.turn(1)).await.unwrap(), Some(stored));

        let guest = TurnRequest { principal: samples::guest("g-1"), locale: Locale::En, ..self.request(2) };
        assert_eq!(self.store.record(&guest).await.unwrap(), RecordOutcome::Recorded);
        assert_eq!(self.store.turn(&self.turn(2)).await.unwrap().map(|turn| turn.request), Some(guest));
    }

    async fn the_journal_grows_and_ends(&self) {
        self.record(1).await;
        let first = self.write(1, "a", 1, vec![text(1, 0, 0, "海賊"), text(1, 1, 1, "と\u{0}\"\n")]);
        let after_first =
            TurnJournal { epoch: 1, frames: first.frames.clone(), hold: Some(first.hold), ..TurnJournal::default() };
        assert_eq!(self.written(&first).await, after_first);
        assert_eq!(self.written(&first).await, after_first, "appended once, however often it is sent");
        assert_eq!(self.journal().await, after_first);

        let second = self.write(1, "a", 2, vec![text(1, 2, 4, "忍者")]);
        let mut grown = after_first;
        grown.frames.extend(second.frames.iter().cloned());
        assert_eq!(self.written(&second).await, grown);
        assert_eq!(self.written(&second).await, grown);

        let outcome = Outcome { state: TurnState::Completed, usage: Usage { input_tokens: 11, output_tokens: 7 } };
        let last = JournalWrite { outcome: Some(outcome.clone()), ..self.write(1, "a", 3, vec![end(1, 5)]) };
        grown.frames.extend(last.frames.iter().cloned());
        grown.outcome = Some(outcome);
        let ended = self.written(&last).await;
        // Who holds a turn that has ended means nothing.
        grown.hold = ended.hold;
        assert_eq!(ended, grown);
        assert_eq!(self.written(&last).await, grown, "also the end is recognised");
        assert_eq!(self.journal().await, grown);
        self.fenced(&self.write(1, "a", 4, vec![text(1, 6, 6, "late")])).await;
        self.fenced(&self.claim(2, "b", vec![text(2, 6, 6, "late")])).await;
    }

    async fn a_stale_owner_writes_nothing(&self) {
        self.record(1).await;
        self.written(&self.write(1, "a", 1, vec![text(1, 0, 0, "one")])).await;
        self.fenced(&self.write(1, "b", 1, vec![text(1, 1, 1, "another of the same epoch")])).await;
        self.fenced(&self.write(1, "b", 2, vec![text(1, 1, 1, "another of the same epoch")])).await;
        let claim = self.claim(2, "b", vec![text(2, 1, 1, "two")]);
        self.fenced(&JournalWrite { now: claim.now - 1, ..claim.clone() }).await;
        let taken_over = self.written(&claim).await;
        assert_eq!((taken_over.epoch, taken_over.frames.len()), (2, 2));
        self.fenced(&self.write(1, "a", 2, vec![text(1, 1, 1, "stale")])).await;
        self.fenced(&self.write(1, "b", 9, vec![text(1, 1, 1, "stale")])).await;
        let much_later = JournalWrite { now: 2 * claim.now, ..self.write(1, "a", 2, vec![text(1, 1, 1, "stale")]) };
        self.fenced(&much_later).await;
        let beside = self.claim(3, "c", vec![text(3, 1, 1, "made of a journal that was read before")]);
        let beside = JournalWrite { now: 2 * claim.now, ..beside };
        self.fenced(&beside).await;
        assert_eq!(
            self.written(&JournalWrite { frames: vec![], ..beside }).await,
            TurnJournal { epoch: 3, ..taken_over }
        );
        let ending = Outcome { state: TurnState::Failed, usage: Usage::default() };
        self.fenced(&JournalWrite { outcome: Some(ending), ..self.write(1, "a", 2, vec![end(1, 1)]) }).await;
    }

    async fn the_hold_is_stored_with_every_write(&self) {
        self.record(1).await;
        assert_eq!(self.journal().await.hold, None, "the first lease is the request's");
        let first = self.write(1, "a", 1, vec![text(1, 0, 0, "one")]);
        assert_eq!(self.written(&first).await.hold, Some(first.hold));
        let renewed = Hold::Leased { until: self.now_ms + 2 * LEASE_MS };
        let renewal = JournalWrite { hold: renewed, ..self.write(1, "a", 2, vec![]) };
        let journal = self.written(&renewal).await;
        assert_eq!((journal.hold, journal.frames), (Some(renewed), first.frames.clone()), "renewed without a frame");
        assert_eq!(self.written(&renewal).await.hold, Some(renewed), "recognised without a frame");
        let late = JournalWrite { hold: Hold::Leased { until: self.now_ms + 9 * LEASE_MS }, ..first };
        self.fenced(&late).await;
        assert_eq!(self.journal().await.hold, Some(renewed));
        assert_eq!(self.store.turn(&self.turn(1)).await.unwrap().map(|turn| turn.request), Some(self.request(1)));
    }

    async fn a_queued_turn_is_claimed_by_the_next_epoch(&self) {
        self.record(1).await;
        let queued = Hold::Queued { since: self.now_ms + 21_000 };
        let hand_over = JournalWrite { hold: queued, ..self.write(1, "a", 1, vec![text(1, 0, 0, "one")]) };
        assert_eq!(self.written(&hand_over).await.hold, Some(queued));
        assert_eq!(self.journal().await.hold, Some(queued));

        let claim = self.write(2, "b", 1, vec![]);
        let journal = self.written(&claim).await;
        assert_eq!((journal.epoch, journal.hold), (2, Some(claim.hold)), "claimed without a frame");
        assert_eq!(journal.frames, hand_over.frames, "with all that was written before");
        assert_eq!(self.written(&claim).await, journal, "the same claim had succeeded");
        self.fenced(&self.write(2, "c", 1, vec![])).await;
        self.fenced(&self.write(1, "a", 2, vec![])).await;
        let queued_again = Hold::Queued { since: self.now_ms + 50_000 };
        let put_back = JournalWrite { hold: queued_again, ..self.write(2, "b", 2, vec![]) };
        assert_eq!(self.written(&put_back).await.hold, Some(queued_again));
        self.fenced(&self.write(1, "a", 2, vec![])).await;
        assert_eq!(self.written(&self.write(5, "d", 1, vec![])).await.epoch, 5, "epochs may be left out");
    }

    async fn one_of_many_claims_wins(&self) {
        self.record(1).await;
        let ending = Outcome { state: TurnState::Failed, usage: Usage::default() };
        let claims: Vec<JournalWrite> = (0..4)
            .map(|rival| JournalWrite {
                outcome: Some(ending.clone()),
                ..self.write(2, &format!("rival-{rival}"), 1, vec![end(2, 0)])
            })
            .collect();
        let outcomes = join_all(claims.iter().map(|claim| self.store.journal(claim))).await;
        let won = outcomes.into_iter().filter(|outcome| matches!(outcome, Ok(JournalOutcome::Written(_)))).count();
        assert_eq!(won, 1);
        assert_eq!(self.journal().await.frames, vec![end(2, 0)]);
    }

    async fn asked_to_cancel(&self) -> TurnJournal {
        self.store.ask_to_cancel(&self.turn(1), self.now_ms).await.unwrap()
    }

    async fn a_running_turn_learns_of_a_cancel(&self) {
        self.record(1).await;
        let asked = self.asked_to_cancel().await;
        assert_eq!(asked, TurnJournal { cancel_asked: true, ..TurnJournal::default() }, "may come before any write");
        let turn = self.store.turn(&self.turn(1)).await.unwrap().expect("recorded");
        assert_eq!((turn.request, turn.journal), (self.request(1), asked));
        let first = self.write(1, "a", 1, vec![text(1, 0, 0, "one")]);
        let journal = self.written(&first).await;
        assert!(journal.cancel_asked, "the owner learns of it by its next write");
        assert_eq!((journal.epoch, journal.frames), (1, first.frames));

        assert_eq!(self.asked_to_cancel().await, self.journal().await, "again");
        let taken_over = self.written(&self.claim(2, "b", vec![])).await;
        assert!(taken_over.cancel_asked, "and whoever takes over");
        let outcome = Outcome { state: TurnState::Cancelled, usage: Usage::default() };
        let last = JournalWrite { outcome: Some(outcome.clone()), ..self.write(2, "b", 2, vec![end(2, 1)]) };
        assert_eq!(self.written(&last).await.outcome, Some(outcome));
    }

    async fn an_ended_turn_is_not_cancelled(&self) {
        self.record(1).await;
        let running = self.written(&self.write(1, "a", 1, vec![text(1, 0, 0, "one")])).await;
        assert!(!running.cancel_asked);
        let outcome = Outcome { state: TurnState::Completed, usage: Usage::default() };
        let last = JournalWrite { outcome: Some(outcome), ..self.write(1, "a", 2, vec![end(1, 1)]) };
        let ended = self.written(&last).await;
        assert_eq!(self.asked_to_cancel().await, ended, "shown how it ended");
        assert_eq!(self.journal().await, ended, "and left so");
    }

    async fn subscribers_are_registered_up_to_the_limit(&self) {
        self.record(1).await;
        let first = samples::connection("follower-0");
        let names = |journal: &TurnJournal| {
            let mut names: Vec<String> = journal.subscribers.iter().map(ConnectionId::to_string).collect();
            names.sort_unstable();
            names
        };
        let before = self.store.subscribe(&self.turn(1), &first, self.now_ms).await.unwrap();
        assert_eq!(before.frames, vec![], "may come before the first write");
        let journal = self.written(&self.write(1, "a", 1, vec![text(1, 0, 0, "one")])).await;
        assert_eq!(names(&journal), ["follower-0"], "the owner learns of it by its next write");
        let again = self.store.subscribe(&self.turn(1), &first, self.now_ms).await.unwrap();
        assert_eq!(names(&again), ["follower-0"], "registered once");
        assert_eq!((again.epoch, again.frames), (1, vec![text(1, 0, 0, "one")]), "the journal as of that moment");

        for name in 1..=SUBSCRIBERS_MAX {
            let follower = samples::connection(&format!("follower-{name}"));
            let journal = self.store.subscribe(&self.turn(1), &follower, self.now_ms).await.unwrap();
            let registered = names(&journal);
            assert_eq!(registered.len(), (name + 1).min(SUBSCRIBERS_MAX));
            assert_eq!(registered.contains(&follower.to_string()), name < SUBSCRIBERS_MAX);
            assert_eq!(journal.frames.len(), 1, "one too many is still shown the journal");
        }
        let again = self.store.subscribe(&self.turn(1), &first, self.now_ms).await.unwrap();
        assert_eq!(names(&again).len(), SUBSCRIBERS_MAX, "who is registered stays so");
        let journal = self.written(&self.write(1, "a", 2, vec![text(1, 1, 1, "two")])).await;
        assert_eq!(names(&journal), names(&again));
        assert_eq!(journal.frames.len(), 2);
    }

    fn exchange(&self, number: u64) -> Exchange {
        Exchange {
            number,
            turn_id: self.turn(number),
            asked_at: self.now_ms + number,
            question: format!("問い {number} \"<&>\""),
            answer: if number == 3 { String::new() } else { format!("答え\n{number}") },
            state: if number == 3 { TurnState::Failed } else { TurnState::Completed },
        }
    }

    async fn exchanges_are_remembered_in_order(&self) {
        let id = self.conversation();
        assert_eq!(self.store.exchanges(&id, None, 9).await.unwrap(), vec![]);
        for number in 1..=12 {
            assert_eq!(self.locked(&self.lock(number)).await, LockOutcome::Locked);
            self.store.remember(&id, &self.exchange(number), self.now_ms).await.unwrap();
            self.store.remember(&id, &self.exchange(number), self.now_ms).await.unwrap();
            self.store.release(&id, &self.turn(number)).await.unwrap();
        }
        let all: Vec<Exchange> = (1..=12).rev().map(|number| self.exchange(number)).collect();
        assert_eq!(self.store.exchanges(&id, None, 50).await.unwrap(), all, "each once, newest first");
        assert_eq!(self.store.exchanges(&id, None, 3).await.unwrap(), all[..3]);
        assert_eq!(self.store.exchanges(&id, Some(10), 3).await.unwrap(), all[3..6], "below the number given");
        assert_eq!(self.store.exchanges(&id, Some(2), 3).await.unwrap(), all[11..]);
        assert_eq!(self.store.exchanges(&id, Some(1), 3).await.unwrap(), vec![]);
        assert_eq!(self.store.exchanges(&id, Some(0), 3).await.unwrap(), vec![]);
        assert_eq!(self.store.exchanges(&id, Some(1_000), 1).await.unwrap(), all[..1]);
        assert_eq!(self.stored(6).await, Some((self.free_after(12), (7..=12).rev().collect())));
        assert_eq!(self.stored(1).await, Some((self.free_after(12), vec![12])));
        assert_eq!(self.stored(0).await, Some((self.free_after(12), vec![])));
    }

    async fn an_exchange_is_not_replaced_by_another_turns(&self) {
        let id = self.conversation();
        assert_eq!(self.locked(&self.lock(1)).await, LockOutcome::Locked);
        self.store.remember(&id, &self.exchange(1), self.now_ms).await.unwrap();
        let rival = Exchange { turn_id: self.turn(9), answer: "another".to_owned(), ..self.exchange(1) };
        self.store.remember(&id, &rival, self.now_ms).await.unwrap();
        assert_eq!(self.store.exchanges(&id, None, 9).await.unwrap(), vec![self.exchange(1)]);
    }

    async fn only_a_further_summary_replaces_one(&self) {
        let id = self.conversation();
        for number in 1..=6 {
            assert_eq!(self.locked(&self.lock(number)).await, LockOutcome::Locked);
            self.store.remember(&id, &self.exchange(number), self.now_ms).await.unwrap();
            self.store.release(&id, &self.turn(number)).await.unwrap();
        }
        assert_eq!(self.stored(6).await, Some((self.free_after(6), (1..=6).rev().collect())), "none so far");
        let summary = |through, text: &str| Summary { through, text: text.to_owned() };
        for (offered, held) in [
            (summary(3, "海賊 \"<&>\"\n"), summary(3, "海賊 \"<&>\"\n")),
            (summary(3, "as far"), summary(3, "海賊 \"<&>\"\n")),
            (summary(2, "less far"), summary(3, "海賊 \"<&>\"\n")),
            (summary(4, "further"), summary(4, "further")),
        ] {
            self.store.summarise(&id, &offered, self.now_ms).await.unwrap();
            let conversation = Conversation { summary: Some(held), ..self.free_after(6) };
            for exchanges_max in [0, 1, 5, 6, 50] {
                let numbers = (1..=6).rev().take(exchanges_max).collect();
                let exchanges_max = u32::try_from(exchanges_max).expect("small");
                assert_eq!(self.stored(exchanges_max).await, Some((conversation.clone(), numbers)), "{exchanges_max}");
            }
        }
        let all: Vec<Exchange> = (1..=6).rev().map(|number| self.exchange(number)).collect();
        assert_eq!(self.store.exchanges(&id, None, 50).await.unwrap(), all, "a summary is no exchange");
        assert_eq!(self.locked(&self.lock(7)).await, LockOutcome::Locked);
        let conversation = Conversation { summary: Some(summary(4, "further")), ..self.held_by(7) };
        assert_eq!(self.stored(0).await, Some((conversation, vec![])), "a lock leaves the summary");
    }

    async fn cards_of_ended_turns_are_found(&self) {
        self.record(1).await;
        let frames = vec![
            text(1, 0, 0, "Two cards."),
            TurnFrame { epoch: 1, seq: 1, ts: self.now_ms, event: product_card() },
            TurnFrame { epoch: 1, seq: 2, ts: self.now_ms, event: order_card() },
            end(1, 3),
        ];
        let outcome = Outcome { state: TurnState::Completed, usage: Usage::default() };
        self.written(&JournalWrite { outcome: Some(outcome), ..self.write(1, "a", 1, frames) }).await;
        let cards = self.store.cards(&[self.turn(1), self.turn(2)]).await.unwrap();
        assert_eq!(cards.get(&self.turn(1)), Some(&vec![product_card(), order_card()]));
        assert!(cards.get(&self.turn(2)).is_none_or(Vec::is_empty), "a turn that never was");
        assert!(self.store.cards(&[]).await.unwrap().is_empty());
    }

    async fn feedback_is_taken_again_and_again(&self) {
        self.record(1).await;
        let before = self.store.turn(&self.turn(1)).await.unwrap();
        self.store.rate(&self.turn(1), Rating::Up, Some("よかった"), self.now_ms).await.unwrap();
        self.store.rate(&self.turn(1), Rating::Down, None, self.now_ms + 1).await.unwrap();
        assert_eq!(self.store.turn(&self.turn(1)).await.unwrap(), before, "the turn is as it was");
    }
}

fn text(epoch: u64, from_seq: u64, seq: u64, text: &str) -> TurnFrame {
    let from_seq = (from_seq != seq).then_some(from_seq);
    let event = ServerEvent::TextDelta(TextDelta { text: text.to_owned(), from_seq });
    TurnFrame { epoch, seq, ts: crate::START_MS, event }
}

fn end(epoch: u64, seq: u64) -> TurnFrame {
    let event = ServerEvent::TurnCompleted(TurnCompleted {
        stop_reason: StopReason::EndTurn,
        usage: Usage { input_tokens: 11, output_tokens: 7 },
        latency: Default::default(),
    });
    TurnFrame { epoch, seq, ts: crate::START_MS, event }
}

fn product_card() -> ServerEvent {
    ServerEvent::ProductCard(ProductCard {
        product_id: "one-1".to_owned(),
        title: "ひとつ 1".to_owned(),
        volume: Some(1),
        authors: vec!["作者".to_owned()],
        price: Price { amount: 528, currency: "JPY".to_owned() },
        in_stock: true,
        url: "https://store.example/products/one-1".to_owned(),
        image_url: None,
        reason: Some("because".to_owned()),
        as_of: crate::START_MS,
    })
}

fn order_card() -> ServerEvent {
    ServerEvent::OrderCard(OrderCard {
        order_id: "MC-1".to_owned(),
        status: OrderStatus::OutForDelivery,
        eta: Some("2026-11-24".to_owned()),
        carrier: None,
        items: Vec::new(),
        url: "https://store.example/orders/MC-1".to_owned(),
        as_of: crate::START_MS,
    })
}
