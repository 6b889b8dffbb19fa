//! The contract of [`TokenBuckets`].

use domain::ports::{BucketKey, TakeOutcome, TakeToken, TokenBuckets};
use futures_util::future::join_all;

use crate::samples;

/// Holds [`TokenBuckets`] to their contract. `now_ms` is what their clock shows, if they have one.
///
/// # Panics
/// Where they break it.
pub async fn token_buckets(buckets: &impl TokenBuckets, prefix: &str, now_ms: u64) {
    let suite = |case: &str| BucketSuite { buckets, prefix: format!("{prefix}-{case}"), now_ms };
    suite("keys").each_key_has_a_bucket_of_its_own().await;
    suite("stale").a_token_is_taken_from_the_bucket_that_was_read().await;
    suite("attempt").an_attempt_takes_one_token().await;
    suite("race").one_of_many_takers_wins().await;
}

struct BucketSuite<'s, S> {
    buckets: &'s S,
    prefix: String,
    now_ms: u64,
}

impl<S: TokenBuckets> BucketSuite<'_, S> {
    fn messages(&self) -> BucketKey {
        BucketKey::Messages(samples::shopper(&self.prefix))
    }

    fn full_at(&self, tokens: u64) -> u64 {
        self.now_ms + 60_000 + 2_000 * tokens
    }

    /// The token after `before` others.
    fn token(&self, key: &BucketKey, before: u64, attempt: &str) -> TakeToken {
        TakeToken {
            key: key.clone(),
            full_at_before: (before > 0).then(|| self.full_at(before)),
            full_at: self.full_at(before + 1),
            attempt: attempt.to_owned(),
        }
    }

    async fn held(&self, key: &BucketKey) -> Option<u64> {
        self.buckets.full_at(key).await.unwrap()
    }

    async fn taken(&self, token: &TakeToken) -> TakeOutcome {
        self.buckets.take(token).await.unwrap()
    }

    async fn each_key_has_a_bucket_of_its_own(&self) {
        let keys = [
            self.messages(),
            BucketKey::Messages(samples::guest(&self.prefix)),
            BucketKey::Replays(samples::shopper(&self.prefix)),
            BucketKey::Connections(self.prefix.clone()),
        ];
        for key in &keys {
            assert_eq!(self.held(key).await, None, "{key:?}");
            assert_eq!(self.taken(&self.token(key, 0, "first")).await, TakeOutcome::Taken);
            assert_eq!(self.held(key).await, Some(self.full_at(1)));
        }
        assert_eq!(self.taken(&self.token(&keys[0], 1, "second")).await, TakeOutcome::Taken);
        assert_eq!(self.held(&keys[0]).await, Some(self.full_at(2)));
        for key in &keys[1..] {
            assert_eq!(self.held(key).await, Some(self.full_at(1)), "{key:?}");
        }
    }

    async fn a_token_is_taken_from_the_bucket_that_was_read(&self) {
        let key = self.messages();
        let unread = self.token(&key, 1, "early");
        assert_eq!(self.taken(&unread).await, TakeOutcome::Changed(None), "there is no such bucket");
        assert_eq!(self.held(&key).await, None);
        assert_eq!(self.taken(&self.token(&key, 0, "first")).await, TakeOutcome::Taken);
        let changed = TakeOutcome::Changed(Some(self.full_at(1)));
        assert_eq!(self.taken(&self.token(&key, 0, "second")).await, changed, "there is one now");
        assert_eq!(self.taken(&self.token(&key, 2, "second")).await, changed, "it holds more");
        assert_eq!(self.taken(&self.token(&key, 1, "second")).await, TakeOutcome::Taken);
        assert_eq!(self.taken(&self.token(&key, 1, "third")).await, TakeOutcome::Changed(Some(self.full_at(2))));
        assert_eq!(self.held(&key).await, Some(self.full_at(2)));
    }

    async fn an_attempt_takes_one_token(&self) {
        let key = self.messages();
        for before in 0..2 {
            let token = self.token(&key, before, &format!("attempt-{before}"));
            assert_eq!(self.taken(&token).await, TakeOutcome::Taken);
            assert_eq!(self.taken(&token).await, TakeOutcome::Taken, "the same attempt had succeeded");
            assert_eq!(self.held(&key).await, Some(self.full_at(before + 1)), "and took one token");
        }
    }

    async fn one_of_many_takers_wins(&self) {
        let key = self.messages();
        for before in 0..3 {
            let tokens: Vec<TakeToken> =
                (0..4).map(|rival| self.token(&key, before, &format!("attempt-{before}-{rival}"))).collect();
            let outcomes = join_all(tokens.iter().map(|token| self.taken(token))).await;
            let taken = outcomes.iter().filter(|outcome| **outcome == TakeOutcome::Taken).count();
            let changed = TakeOutcome::Changed(Some(self.full_at(before + 1)));
            let told = outcomes.iter().filter(|outcome| **outcome == changed).count();
            assert_eq!((taken, told), (1, 3), "{outcomes:?}");
        }
    }
}
