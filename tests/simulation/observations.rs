//! What the shopper saw must have had a reason.

use domain::ids::ConnectionId;
use domain::limits::{EPOCHS_MAX, GONE_GRACE_MS, TICK_MS, TURN_AGE_MAX_MS};
use domain::protocol::TurnState;
use domain::turn::StoredTurn;
use serde_json::json;

use crate::invariants;
use crate::stores::Stores;
use crate::trace::Events;
use crate::world::{Message, Request, World};

/// A cancel ends the turn within this, ms.
const CANCEL_MS_MAX: u64 = 1_500;

/// What the calls between a frame and its effect may take in a simulated world, ms.
const SLACK_MS: u64 = 500;

/// Every end has a reason.
pub fn are_explained<S: Stores>(world: &World<S>, messages: &[Message]) {
    for message in messages {
        let Some(turn) = world.stored(&world.turn_id(message)) else { continue };
        let events = world.lambda.trace.events();
        let ended_at = ended_at(&events, &turn);
        match turn.state() {
            TurnState::Failed => had_to_fail(&events, &turn, ended_at),
            TurnState::Cancelled => was_to_be_cancelled(world, &events, &turn, ended_at),
            TurnState::Completed | TurnState::Running => {}
        }
        cancels_were_heeded(world, &events, &turn, ended_at);
    }
}

fn ended_at(events: &Events, turn: &StoredTurn) -> u64 {
    let ended = events.written_to(&turn.request.turn_id).find(|written| written.write.outcome.is_some());
    ended.expect("every turn has ended").at
}

/// "Past `epochs_max` or `turn_age_max_ms` the turn is settled as failed", and when an owner can neither answer nor hand
/// over, because something befell it.
fn had_to_fail(events: &Events, turn: &StoredTurn, ended_at: u64) {
    let age_ms = ended_at - turn.request.asked_at.min(ended_at);
    let ended_by = events.written_to(&turn.request.turn_id).last().expect("every turn has ended").by;
    assert!(
        turn.epoch() >= EPOCHS_MAX || age_ms + SLACK_MS >= TURN_AGE_MAX_MS || events.started[ended_by].disturbed,
        "{} failed after {age_ms} ms with epoch {}: {:?}",
        turn.request.turn_id,
        turn.epoch(),
        invariants::shown(turn).end
    );
}

fn was_to_be_cancelled<S: Stores>(world: &World<S>, events: &Events, turn: &StoredTurn, ended_at: u64) {
    let id = &turn.request.turn_id;
    let (_, data) = invariants::shown(turn).end.unwrap();
    if data["by"] == json!("client") {
        let asked = world.cancels.iter().any(|cancel| cancel.turn == *id && cancel.at <= ended_at);
        assert!(asked, "{id} was cancelled by a client, which none did");
        return;
    }
    assert_eq!(turn.epoch(), 1, "{id} was given up though it had been taken over, and such turns run to their end");
    // Whoever followed it within the grace period, and was there for long enough to be heard, is a reason to go on.
    let followed = |(by, at, connection): &(usize, u64, &ConnectionId)| {
        let cut_at = world.cuts.get(*connection).copied();
        let heard_by = at + TICK_MS + SLACK_MS;
        let was_heard = heard_by <= ended_at && cut_at.is_none_or(|cut_at| heard_by <= cut_at);
        let was_there = cut_at.is_none_or(|cut_at| cut_at + GONE_GRACE_MS > ended_at + SLACK_MS);
        was_heard && was_there && !events.started[*by].disturbed
    };
    let resumed = world.resumes.iter().filter(|resume| resume.turn == *id);
    let resumed = resumed.map(|resume| (resume.by, resume.at, &resume.connection));
    let (message, text) = (turn.request.client_message_id, &turn.request.text);
    let sent = world.sends.iter().filter(|sent| sent.id == message && sent.text == *text);
    let sent = sent.map(|sent| (sent.by, sent.at, &sent.connection));
    let follower = resumed.chain(sent).find(followed);
    assert!(follower.is_none(), "{id} was given up at {ended_at}, but {follower:?} followed it");
}

/// "Stops the model call within 1.5 s", if who is to do so lives.
fn cancels_were_heeded<S: Stores>(world: &World<S>, events: &Events, turn: &StoredTurn, ended_at: u64) {
    let id = &turn.request.turn_id;
    let undisturbed = |by: usize| !events.started[by].disturbed && !events.started[by].faults.crashed();
    let recorded_at = events.record_of(id).map_or(0, |recorded| recorded.at);
    let owners =
        events.written_to(id).map(|written| written.by).chain(events.record_of(id).map(|recorded| recorded.by));
    if !owners.into_iter().all(undisturbed) {
        return;
    }
    let heard = |cancel: &&Request| cancel.turn == *id && cancel.at > recorded_at && undisturbed(cancel.by);
    if let Some(cancel) = world.cancels.iter().find(heard) {
        assert!(
            ended_at <= cancel.at + CANCEL_MS_MAX + SLACK_MS,
            "{id} was cancelled at {} by #{} and ended at {ended_at}",
            cancel.at,
            cancel.by
        );
    }
}
