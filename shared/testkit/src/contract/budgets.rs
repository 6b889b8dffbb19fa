//! The contract of [`TokenBudgets`].

use std::sync::atomic::{AtomicU64, Ordering};

use domain::limits::BUDGET_REFUSAL_MS;
use domain::ports::{ModelChoice, Reservation, TokenBudgets};
use fastrand::Rng;
use futures_util::future::join_all;

/// A minute, ms.
const MINUTE_MS: u64 = 60_000;

/// Holds [`TokenBudgets`] to their contract, as several environments see them that share `budget` tokens a minute of the
/// primary model, kept in at most four parts, and any number of the cheaper. From the minute after `now_ms` on no tokens are set aside yet.
///
/// # Panics
/// Where they break it.
pub async fn token_budgets(environments: &[impl TokenBudgets], budget: u64, now_ms: u64) {
    let suite =
        |case: u64| BudgetSuite { environments, budget, start: (now_ms / MINUTE_MS + 10 * case + 1) * MINUTE_MS };
    suite(0).a_reservation_says_what_it_is_of().await;
    suite(1).each_minute_has_its_own_budget().await;
    suite(2).what_was_not_used_comes_back().await;
    suite(3).what_was_used_above_the_reservation_counts().await;
    suite(4).nothing_comes_back_when_the_minute_is_over().await;
    suite(5).more_than_the_budget_is_not_to_be_had().await;
    suite(6).a_model_without_limit_is_never_refused().await;
    for seed in 0..3 {
        suite(7 + seed).never_more_than_the_budget_is_set_aside(seed).await;
    }
}

struct BudgetSuite<'s, B> {
    environments: &'s [B],
    budget: u64,
    /// The beginning of a minute, Unix milliseconds; nine more follow that are as new.
    start: u64,
}

impl<B: TokenBudgets> BudgetSuite<'_, B> {
    async fn reserved(&self, environment: usize, tokens: u64, now: u64) -> Option<Reservation> {
        self.environments[environment].reserve(ModelChoice::Primary, tokens, now).await.unwrap()
    }

    async fn settle(&self, reservation: &Reservation, used: u64, now: u64) {
        self.environments[0].settle(reservation, used, now).await.unwrap();
    }

    /// A fortieth of the budget.
    fn usual(&self) -> u64 {
        self.budget / 40
    }

    /// Sets a minute's budget aside, in fortieths, as far as all environments together find any.
    async fn use_up(&self, now: u64) -> Vec<Reservation> {
        let all = join_all((0..self.environments.len()).map(|environment| async move {
            let mut reservations = Vec::new();
            while let Some(reservation) = self.reserved(environment, self.usual(), now).await {
                reservations.push(reservation);
            }
            reservations
        }));
        let reservations = all.await.concat();
        let tokens = set_aside(&reservations);
        assert!(tokens <= self.budget, "{tokens} of {}", self.budget);
        assert!(tokens >= self.budget / 10 * 9, "nine tenths are found: {tokens} of {}", self.budget);
        reservations
    }

    async fn a_reservation_says_what_it_is_of(&self) {
        let now = self.start + MINUTE_MS - 1;
        let reservation = self.reserved(0, 7, now).await.expect("nothing is set aside yet");
        assert_eq!(
            (reservation.model, reservation.minute, reservation.tokens),
            (ModelChoice::Primary, self.start / MINUTE_MS, 7)
        );
    }

    async fn each_minute_has_its_own_budget(&self) {
        for minute in 0..2 {
            let now = self.start + minute * MINUTE_MS;
            for reservation in self.use_up(now).await {
                assert_eq!(reservation.minute, now / MINUTE_MS);
            }
            let last = now + MINUTE_MS - 1;
            assert_eq!(self.reserved(0, self.budget / 10, last).await, None, "used up to its last millisecond");
        }
    }

    async fn what_was_not_used_comes_back(&self) {
        let reservations = self.use_up(self.start).await;
        let soon = self.start + BUDGET_REFUSAL_MS;
        for reservation in &reservations {
            self.settle(reservation, reservation.tokens / 2, soon).await;
        }
        let late = soon + BUDGET_REFUSAL_MS;
        let mut again = Vec::new();
        while let Some(reservation) = self.reserved(0, self.usual(), late).await {
            again.push(reservation);
        }
        let tokens = set_aside(&again);
        let given_back = set_aside(&reservations).div_ceil(2) + reservations.len() as u64;
        let never_taken = self.budget - set_aside(&reservations);
        assert!(tokens >= self.budget / 10 * 4, "most of half of it: {tokens} of {}", self.budget);
        assert!(tokens <= given_back + never_taken, "{tokens}, and only {given_back} were given back");
    }

    async fn what_was_used_above_the_reservation_counts(&self) {
        let reservation = self.reserved(0, 1, self.start).await.expect("nothing is set aside yet");
        self.settle(&reservation, self.budget / 2, self.start).await;
        let mut tokens = 0;
        while let Some(reservation) = self.reserved(0, self.usual(), self.start).await {
            tokens += reservation.tokens;
        }
        // Half of the budget may be more than the part of it that the reservation was in, a quarter or all of it.
        assert!(tokens <= self.budget / 10 * 8, "{tokens} of {}", self.budget);
    }

    async fn nothing_comes_back_when_the_minute_is_over(&self) {
        let reservations = self.use_up(self.start).await;
        let next = self.start + MINUTE_MS;
        for reservation in &reservations {
            self.settle(reservation, 0, next).await;
        }
        self.use_up(next).await;
        assert_eq!(self.reserved(0, self.budget / 10, self.start).await, None, "nor where a clock is late");
    }

    async fn more_than_the_budget_is_not_to_be_had(&self) {
        assert_eq!(self.reserved(0, self.budget + 1, self.start).await, None);
        assert_eq!(self.reserved(0, u64::MAX, self.start).await, None);
        self.use_up(self.start).await;
    }

    async fn a_model_without_limit_is_never_refused(&self) {
        self.use_up(self.start).await;
        for tokens in [1, self.budget, u64::MAX / 4] {
            let cheaper = self.environments[0].reserve(ModelChoice::Cheaper, tokens, self.start).await.unwrap();
            let reservation = cheaper.expect("no limit");
            assert_eq!((reservation.model, reservation.tokens), (ModelChoice::Cheaper, tokens));
            self.settle(&reservation, 0, self.start).await;
        }
    }

    /// Whatever the environments reserve and settle at once, and however large.
    async fn never_more_than_the_budget_is_set_aside(&self, seed: u64) {
        // Goes up after tokens were set aside and down before they are given back: never more than what really is.
        let ledger = AtomicU64::new(0);
        let most = AtomicU64::new(0);
        let environments = (0..self.environments.len()).map(|environment| {
            let (ledger, most) = (&ledger, &most);
            async move {
                let mut rng = Rng::with_seed(seed << 32 | environment as u64);
                let mut open: Vec<Reservation> = Vec::new();
                for step in 0..30 {
                    let now = self.start + step * 2_000;
                    if rng.u8(..3) == 0 && !open.is_empty() {
                        let reservation = open.swap_remove(rng.usize(..open.len()));
                        let used = rng.u64(..=reservation.tokens);
                        ledger.fetch_sub(reservation.tokens - used, Ordering::Relaxed);
                        self.settle(&reservation, used, now).await;
                    } else {
                        let largest = self.budget >> rng.u32(3..8);
                        let tokens = rng.u64(1..=largest);
                        if let Some(reservation) = self.reserved(environment, tokens, now).await {
                            let now_set_aside = ledger.fetch_add(tokens, Ordering::Relaxed) + tokens;
                            most.fetch_max(now_set_aside, Ordering::Relaxed);
                            open.push(reservation);
                        }
                    }
                }
            }
        });
        join_all(environments).await;
        let most = most.into_inner();
        assert!(most <= self.budget, "seed {seed}: {most} of {}", self.budget);
        assert!(most >= self.budget / 2, "seed {seed}: they meet the limit: {most} of {}", self.budget);
    }
}

fn set_aside(reservations: &[Reservation]) -> u64 {
    reservations.iter().map(|reservation| reservation.tokens).sum()
}
