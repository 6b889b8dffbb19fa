//! When an upstream is left alone, and how it is tried again.

use domain::breaker::{Breaker, Breakers, Hint, Passage, Transition, Upstream};
use domain::limits::{BREAKER_OPEN_MS, BREAKER_PROBE_MS, BREAKER_REPORTS_MIN};
use proptest::prelude::*;

const NOW: u64 = 1_000_000;
const NO_HINT: Hint = Hint { reports: 0, open_until: 0 };

fn opened(breaker: &Breaker) -> u64 {
    let (passage, transition) = breaker.enter(NOW, NO_HINT);
    assert_eq!((passage, transition), (Some(Passage::Free), None));
    let until = NOW + BREAKER_OPEN_MS;
    assert_eq!(breaker.failed(Passage::Free, NOW), Some(Transition::Opened { until }));
    until
}

#[test]
fn an_open_breaker_lets_nothing_through_until_its_time_is_over_and_then_one_probe() {
    let breaker = Breaker::default();
    let until = opened(&breaker);
    assert_eq!(breaker.enter(until - 1, NO_HINT), (None, None));
    let deadline = until + BREAKER_PROBE_MS;
    assert_eq!(breaker.enter(until, NO_HINT), (Some(Passage::Probe { deadline }), Some(Transition::HalfOpened)));
    assert_eq!(breaker.enter(until, NO_HINT), (None, None), "one probe at a time");
}

#[test]
fn traffic_returns_with_the_first_probe_that_succeeds() {
    let breaker = Breaker::default();
    let until = opened(&breaker);
    let probe = breaker.enter(until, NO_HINT).0.unwrap();
    assert_eq!(breaker.succeeded(probe, until + 5), Some(Transition::Closed));
    assert_eq!(breaker.enter(until + 5, NO_HINT), (Some(Passage::Free), None));
}

#[test]
fn a_probe_that_fails_opens_the_breaker_again() {
    let breaker = Breaker::default();
    let until = opened(&breaker);
    let probe = breaker.enter(until, NO_HINT).0.unwrap();
    let again = until + 5 + BREAKER_OPEN_MS;
    assert_eq!(breaker.failed(probe, until + 5), Some(Transition::Opened { until: again }));
    assert_eq!(breaker.enter(again - 1, NO_HINT).0, None);
}

#[test]
fn a_probe_that_never_reports_blocks_nothing_and_counts_for_nothing() {
    let breaker = Breaker::default();
    let until = opened(&breaker);
    let lost = breaker.enter(until, NO_HINT).0.unwrap();
    assert_eq!(breaker.enter(until + BREAKER_PROBE_MS - 1, NO_HINT).0, None);
    let second = breaker.enter(until + BREAKER_PROBE_MS, NO_HINT).0.unwrap();
    assert_ne!(lost, second);
    assert_eq!(breaker.succeeded(lost, until + BREAKER_PROBE_MS), None);
    assert_eq!(breaker.failed(lost, until + BREAKER_PROBE_MS), None);
    assert_eq!(breaker.succeeded(second, until + BREAKER_PROBE_MS), Some(Transition::Closed));
}

#[test]
fn calls_that_began_before_it_opened_change_nothing() {
    let breaker = Breaker::default();
    let until = opened(&breaker);
    assert_eq!(breaker.failed(Passage::Free, NOW + 10), None, "it stays open no longer");
    assert_eq!(breaker.succeeded(Passage::Free, NOW + 10), None, "and no shorter");
    assert_eq!(breaker.enter(until - 1, NO_HINT).0, None);
}

fn hint(reports: usize) -> Hint {
    Hint { reports, open_until: NOW + BREAKER_OPEN_MS }
}

#[test]
fn too_few_reports_make_careful_and_no_more() {
    let breaker = Breaker::default();
    let (passage, _) = breaker.enter(NOW, hint(BREAKER_REPORTS_MIN - 1));
    let Some(probe @ Passage::Probe { .. }) = passage else { panic!("{passage:?}") };
    assert_eq!(breaker.succeeded(probe, NOW), Some(Transition::Closed));
    let (passage, _) = breaker.enter(NOW, hint(BREAKER_REPORTS_MIN));
    assert_eq!(passage, Some(Passage::Free), "who has seen that it works does not listen");
}

#[test]
fn several_reports_are_heeded_once_whatever_they_say() {
    let breaker = Breaker::default();
    let forever = Hint { reports: BREAKER_REPORTS_MIN, open_until: u64::MAX };
    let until = NOW + BREAKER_OPEN_MS;
    assert_eq!(breaker.enter(NOW, forever), (None, Some(Transition::Opened { until })));
    assert_eq!(breaker.enter(until - 1, forever).0, None);
    let probe = breaker.enter(until, forever).0.unwrap();
    breaker.succeeded(probe, until);
    assert_eq!(breaker.enter(until, forever).0, Some(Passage::Free));
}

#[test]
fn a_hint_that_is_over_is_none() {
    let breaker = Breaker::default();
    let over = Hint { reports: 100, open_until: NOW };
    assert_eq!(breaker.enter(NOW, over), (Some(Passage::Free), None));
}

#[test]
fn each_upstream_has_its_own() {
    let breakers = Breakers::default();
    for upstream in Upstream::ALL {
        assert_eq!(breakers.of(upstream).enter(NOW, NO_HINT).0, Some(Passage::Free));
        breakers.of(upstream).failed(Passage::Free, NOW);
    }
    for upstream in Upstream::ALL {
        assert_eq!(breakers.of(upstream).enter(NOW, NO_HINT).0, None);
    }
}

proptest! {
    /// Whatever is reported and hinted, nobody waits longer than a probe and the time a breaker is open for a call to be let
    /// through.
    #[test]
    fn no_upstream_is_left_alone_for_ever(
        steps in prop::collection::vec((0_u64..20_000, 0_usize..6, 0_u64..100_000, 0_u8..3), 1..200),
    ) {
        let breaker = Breaker::default();
        let (mut now, mut let_through) = (NOW, NOW);
        for (wait, reports, hinted, outcome) in steps {
            now += wait;
            let (passage, _) = breaker.enter(now, Hint { reports, open_until: now + hinted });
            match passage {
                Some(passage) => {
                    let_through = now;
                    match outcome {
                        0 => drop(breaker.succeeded(passage, now)),
                        1 => drop(breaker.failed(passage, now)),
                        _ => {}
                    }
                }
                None => prop_assert!(now - let_through < BREAKER_OPEN_MS + BREAKER_PROBE_MS + 20_000),
            }
        }
    }
}
