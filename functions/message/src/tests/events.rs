//! The samples of `sam local invoke`.

use std::collections::BTreeMap;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use domain::ids::{ConversationId, TurnId};
use domain::turn::TurnRequest;
use testkit::{StoreData, samples};

use super::{World, asked, completed, text};

/// A sample by name.
pub(super) fn sample(name: &str) -> ApiGatewayWebsocketProxyRequest {
    samples::events("message").remove(name).unwrap()
}

/// In a world with the conversation that the samples speak of.
#[test]
fn every_sample_is_answered() {
    let mut answered = BTreeMap::new();
    for (name, event) in samples::events("message") {
        let world = World::new();
        let catalog = vec![samples::product("one-piece-1")];
        world.ports.store.stock(StoreData { catalog, ..samples::store_data() });
        let earlier = TurnRequest {
            turn_id: TurnId::parse("t_Kf5uD8nXb1QoW4cGyT6vHs").unwrap(),
            conversation_id: ConversationId::parse("c_9sVtq3LmZ0xYh7RkEwPj2A").unwrap(),
            ..asked(1, "はじめに読むなら？")
        };
        world.begin_turn(&earlier);
        world.journal(&earlier, vec![text("こちらです。"), completed()], true);
        world.conclude(&earlier);

        assert_eq!(world.run(world.message.handle(event)).status_code, 200);
        let sent = world.ports.sender.inner.sent();
        assert!(sent.iter().all(|sent| sent.connection == samples::connection("Zt4mKdx9tjMCJ7w=")));
        let mut said: Vec<String> = sent
            .iter()
            .map(|sent| sent.frame["data"]["code"].as_str().or(sent.frame["type"].as_str()).unwrap().to_owned())
            .collect();
        said.dedup();
        answered.insert(name, said.join(" "));
    }
    let expected = [
        ("feedback-submit", "feedback.accepted"),
        ("history-list", "history.page"),
        ("malformed", "invalid_frame"),
        ("message-cancel", "turn.completed"),
        ("message-send-en", "message.accepted turn.started card.product text.delta turn.completed"),
        ("message-send-ja", "message.accepted turn.started card.product text.delta turn.completed"),
        ("ping", "pong"),
        ("session-start", "session.ready"),
        ("stream-resume", "text.delta turn.completed"),
        ("unknown-action", "unknown_action"),
    ];
    assert_eq!(answered, expected.map(|(name, said)| (name.to_owned(), said.to_owned())).into());
}
