//! The contract of [`FollowUpStore`].

use domain::ids::Principal;
use domain::limits::FOLLOW_UP_CLAIM_MS;
use domain::ports::{ClaimOutcome, FollowUpStore, ScheduledFollowUp};
use futures_util::future::join_all;

use crate::samples;

/// Holds a [`FollowUpStore`] to its contract, but for the tasks it has sent. `now_ms` is what its clock shows, if it has
/// one.
///
/// # Panics
/// Where the store breaks it.
pub async fn follow_ups(store: &impl FollowUpStore, prefix: &str, now_ms: u64) {
    let suite = |case: &str| FollowUpSuite { store, prefix: format!("{prefix}-{case}"), now_ms };
    suite("due").what_is_due_is_found_oldest_first().await;
    suite("again").a_follow_up_is_scheduled_once().await;
    suite("claim").a_claim_lasts_until_its_end().await;
    suite("race").one_of_many_claims_wins().await;
    suite("finish").only_the_claimant_finishes().await;
    suite("slow").a_lapsed_claim_that_nobody_took_is_still_finished().await;
}

struct FollowUpSuite<'s, S> {
    store: &'s S,
    prefix: String,
    now_ms: u64,
}

impl<S: FollowUpStore> FollowUpSuite<'_, S> {
    fn principal(&self) -> Principal {
        samples::shopper(&self.prefix)
    }

    fn follow_up(&self, name: &str, due_at: u64) -> ScheduledFollowUp {
        samples::follow_up(&format!("{}-{name}", self.prefix), &self.principal(), due_at)
    }

    /// The names of those that are due.
    async fn due(&self, now_ms: u64, max: u32) -> Vec<String> {
        let due = self.store.due(&self.principal(), now_ms, max).await.unwrap();
        due.into_iter().map(|follow_up| follow_up.follow_up_id).collect()
    }

    /// Schedules one that is due.
    async fn scheduled(&self) -> ScheduledFollowUp {
        let follow_up = self.follow_up("1", self.now_ms);
        self.store.schedule(&follow_up).await.unwrap();
        follow_up
    }

    async fn claimed(&self, follow_up: &ScheduledFollowUp, attempt: &str, now_ms: u64) -> ClaimOutcome {
        let id = &follow_up.follow_up_id;
        self.store.claim(&self.principal(), id, attempt, now_ms, now_ms + FOLLOW_UP_CLAIM_MS).await.unwrap()
    }

    async fn finished(&self, follow_up: &ScheduledFollowUp, attempt: &str, delivered: bool) {
        self.store.finish(&self.principal(), &follow_up.follow_up_id, attempt, delivered).await.unwrap();
    }

    async fn what_is_due_is_found_oldest_first(&self) {
        assert_eq!(self.due(self.now_ms, 9).await, Vec::<String>::new());
        let follow_ups: Vec<ScheduledFollowUp> =
            [("d", 0), ("c", 10), ("b", 20), ("a", 30)].map(|(name, ms)| self.follow_up(name, self.now_ms + ms)).into();
        for follow_up in follow_ups.iter().rev() {
            self.store.schedule(follow_up).await.unwrap();
        }
        let other = ScheduledFollowUp { principal: samples::guest(&self.prefix), ..self.follow_up("e", self.now_ms) };
        self.store.schedule(&other).await.unwrap();

        let all = self.store.due(&self.principal(), self.now_ms + 30, 9).await.unwrap();
        assert_eq!(all, follow_ups, "whole, and nobody else's");
        let names: Vec<String> = follow_ups.into_iter().map(|follow_up| follow_up.follow_up_id).collect();
        assert_eq!(self.due(self.now_ms + 30, 2).await, names[..2], "the oldest of them");
        assert_eq!(self.due(self.now_ms + 19, 9).await, names[..2], "a millisecond too early for the third");
        assert_eq!(self.due(self.now_ms + 20, 9).await, names[..3]);
        assert_eq!(self.store.due(&other.principal, self.now_ms, 9).await.unwrap(), vec![other]);
    }

    async fn a_follow_up_is_scheduled_once(&self) {
        let follow_up = self.scheduled().await;
        self.store.schedule(&follow_up).await.unwrap();
        assert_eq!(self.due(self.now_ms, 9).await.len(), 1);
        assert_eq!(self.claimed(&follow_up, "a", self.now_ms).await, ClaimOutcome::Claimed(follow_up.clone()));
        self.store.schedule(&follow_up).await.unwrap();
        assert_eq!(self.claimed(&follow_up, "b", self.now_ms).await, ClaimOutcome::Busy, "the claim stands");
        self.finished(&follow_up, "a", true).await;
        self.store.schedule(&follow_up).await.unwrap();
        assert_eq!(self.due(self.now_ms, 9).await, Vec::<String>::new(), "what was delivered is not due again");
        assert_eq!(self.claimed(&follow_up, "b", self.now_ms).await, ClaimOutcome::Done);
    }

    async fn a_claim_lasts_until_its_end(&self) {
        let follow_up = self.scheduled().await;
        let claimed = ClaimOutcome::Claimed(follow_up.clone());
        assert_eq!(self.claimed(&follow_up, "a", self.now_ms).await, claimed);
        assert_eq!(self.claimed(&follow_up, "a", self.now_ms).await, claimed, "the same attempt had succeeded");
        let end = self.now_ms + FOLLOW_UP_CLAIM_MS;
        assert_eq!(self.claimed(&follow_up, "b", end - 1).await, ClaimOutcome::Busy);
        assert_eq!(self.claimed(&follow_up, "b", end).await, claimed, "lapsed");
        assert_eq!(self.claimed(&follow_up, "a", end).await, ClaimOutcome::Busy, "lost");
        let unknown = self.follow_up("unknown", self.now_ms);
        assert_eq!(self.claimed(&unknown, "a", self.now_ms).await, ClaimOutcome::Done);
        assert_eq!(self.claimed(&unknown, "b", self.now_ms).await, ClaimOutcome::Done, "a claim makes nothing");
    }

    async fn one_of_many_claims_wins(&self) {
        let follow_up = self.scheduled().await;
        let attempts = ["a", "b", "c", "d"];
        let outcomes = join_all(attempts.map(|attempt| self.claimed(&follow_up, attempt, self.now_ms))).await;
        let claimed = outcomes.iter().filter(|outcome| matches!(outcome, ClaimOutcome::Claimed(_))).count();
        let busy = outcomes.iter().filter(|outcome| **outcome == ClaimOutcome::Busy).count();
        assert_eq!((claimed, busy), (1, 3), "{outcomes:?}");
    }

    async fn only_the_claimant_finishes(&self) {
        let follow_up = self.scheduled().await;
        let claimed = ClaimOutcome::Claimed(follow_up.clone());
        assert_eq!(self.claimed(&follow_up, "a", self.now_ms).await, claimed);
        self.finished(&follow_up, "b", true).await;
        assert_eq!(self.claimed(&follow_up, "c", self.now_ms).await, ClaimOutcome::Busy, "another finishes nothing");
        self.finished(&follow_up, "a", false).await;
        assert_eq!(self.due(self.now_ms, 9).await, [follow_up.follow_up_id.as_str()], "left for the next visit");
        assert_eq!(self.claimed(&follow_up, "b", self.now_ms).await, claimed, "free before the claim's end");
        self.finished(&follow_up, "a", true).await;
        assert_eq!(self.claimed(&follow_up, "c", self.now_ms).await, ClaimOutcome::Busy, "the claim is another's now");
        self.finished(&follow_up, "b", true).await;
        self.finished(&follow_up, "b", true).await;
        assert_eq!(self.claimed(&follow_up, "c", self.now_ms).await, ClaimOutcome::Done);
        assert_eq!(self.claimed(&follow_up, "b", self.now_ms).await, ClaimOutcome::Done, "also for who delivered it");
        let later = self.now_ms + 2 * FOLLOW_UP_CLAIM_MS;
        assert_eq!(self.claimed(&follow_up, "c", later).await, ClaimOutcome::Done, "for good");
    }

    async fn a_lapsed_claim_that_nobody_took_is_still_finished(&self) {
        let follow_up = self.scheduled().await;
        let claimed = ClaimOutcome::Claimed(follow_up.clone());
        assert_eq!(self.claimed(&follow_up, "a", self.now_ms - FOLLOW_UP_CLAIM_MS).await, claimed);
        self.finished(&follow_up, "a", true).await;
        assert_eq!(self.claimed(&follow_up, "b", self.now_ms).await, ClaimOutcome::Done);
        assert_eq!(self.due(self.now_ms, 9).await, Vec::<String>::new());
    }
}
