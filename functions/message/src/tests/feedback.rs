//! `feedback.submit`.

use domain::limits::COMMENT_CHARS_MAX;
use domain::protocol::Rating;
use serde_json::{Value, json};
use testkit::StoredRating;

use super::{World, asked, completed, text};

fn feedback(rating: &str, comment: Option<&str>) -> Value {
    json!({ "action": "feedback.submit", "turn_id": "t-1", "rating": rating, "comment": comment })
}

fn answered() -> World {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("answer"), completed()], true);
    world.conclude(&asked(1, "question"));
    world
}

fn stored(world: &World) -> Option<StoredRating> {
    world.ports.turns.inner.rating(&asked(1, "").turn_id)
}

#[test]
fn the_last_word_counts() {
    let world = answered();
    let aiko = world.shopper("aiko", "one");
    for (rating, comment, kept) in
        [("up", Some("はい"), Rating::Up), ("down", Some("not that one"), Rating::Down), ("up", None, Rating::Up)]
    {
        let [accepted] = <[_; 1]>::try_from(aiko.ask(feedback(rating, comment))).unwrap();
        assert_eq!(accepted["type"], "feedback.accepted");
        assert_eq!((&accepted["turn_id"], &accepted["conversation_id"]), (&json!("t-1"), &json!("c-1")));
        assert_eq!(stored(&world), Some(StoredRating { rating: kept, comment: comment.map(str::to_owned) }));
    }
}

#[test]
fn an_answer_may_be_rated_before_it_ends() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.shopper("aiko", "one").ask(feedback("down", None));
    assert_eq!(stored(&world), Some(StoredRating { rating: Rating::Down, comment: None }));
}

#[test]
fn only_ones_own_answers_are_rated() {
    let world = answered();
    let ben = world.shopper("ben", "one");
    assert_eq!(ben.refused(feedback("up", None)), "not_found");
    let mut unknown = feedback("up", None);
    unknown["turn_id"] = json!("t-2");
    assert_eq!(ben.refused(unknown), "not_found");
    let [others, unknown] = <[_; 2]>::try_from(ben.frames()).unwrap();
    assert_eq!(others, unknown, "nothing tells the two apart");
    assert_eq!(stored(&world), None);
}

#[test]
fn a_comment_has_an_end() {
    let world = answered();
    let aiko = world.shopper("aiko", "one");
    let comment = "あ".repeat(COMMENT_CHARS_MAX);
    assert_eq!(aiko.ask(feedback("up", Some(&comment)))[0]["type"], "feedback.accepted");
    assert_eq!(aiko.refused(feedback("down", Some(&(comment + "あ")))), "payload_too_large");
    assert_eq!(stored(&world).unwrap().rating, Rating::Up);
}
