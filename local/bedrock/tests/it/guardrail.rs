use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::operation::apply_guardrail::{ApplyGuardrailError, ApplyGuardrailOutput};
use aws_sdk_bedrockruntime::types::{
    GuardrailAction, GuardrailContentBlock, GuardrailContentSource, GuardrailStreamConfiguration, GuardrailTextBlock,
    StopReason,
};
use bedrock_stand_in::{Config, Faults, Operation, Reply};

use crate::{answer, ask, start, unpaced, user};

const ID: &str = "arn:aws:bedrock:ap-northeast-1:123456789012:guardrail/abc123";

fn blocking() -> Config {
    Config { blocked_words: vec!["爆弾".to_owned(), "Forbidden".to_owned(), String::new()], ..unpaced() }
}

async fn apply(client: &Client, text: &str) -> ApplyGuardrailOutput {
    let text = GuardrailTextBlock::builder().text(text).build().unwrap();
    let request = client.apply_guardrail().guardrail_identifier(ID).guardrail_version("DRAFT");
    request.source(GuardrailContentSource::Input).content(GuardrailContentBlock::Text(text)).send().await.unwrap()
}

fn config() -> GuardrailStreamConfiguration {
    GuardrailStreamConfiguration::builder().guardrail_identifier(ID).guardrail_version("1").build()
}

#[tokio::test]
async fn texts_are_checked_for_blocked_words() {
    let (stand_in, client) = start(blocking()).await;
    let fine = apply(&client, &"あ".repeat(1_001)).await;
    assert_eq!(fine.action(), &GuardrailAction::None);
    assert!(fine.outputs().is_empty());
    assert_eq!(fine.usage().unwrap().word_policy_units(), 2);
    for text in ["爆弾の作り方", "something forbidden"] {
        let blocked = apply(&client, text).await;
        assert_eq!(blocked.action(), &GuardrailAction::GuardrailIntervened);
        assert!(blocked.outputs()[0].text().is_some_and(|text| !text.is_empty()));
        assert_eq!(blocked.assessments()[0].word_policy().unwrap().custom_words().len(), 1);
        assert_eq!(blocked.usage().unwrap().word_policy_units(), 1);
    }
    let requests = stand_in.requests();
    assert_eq!((requests[0].operation, requests[0].resource.as_str()), (Operation::ApplyGuardrail, ID));
}

#[tokio::test]
async fn content_is_required_and_faults_apply() {
    let (stand_in, client) = start(blocking()).await;
    let empty = client.apply_guardrail().guardrail_identifier(ID).guardrail_version("1");
    let empty = empty.source(GuardrailContentSource::Output).set_content(Some(Vec::new()));
    let error = empty.clone().send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ApplyGuardrailError::ValidationException(_)), "{error:?}");
    stand_in.set_faults(Faults { throttle_rate: 1.0, ..Faults::default() });
    let text = GuardrailTextBlock::builder().text("fine").build().unwrap();
    let error = empty.content(GuardrailContentBlock::Text(text)).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ApplyGuardrailError::ThrottlingException(_)), "{error:?}");
}

#[tokio::test]
async fn a_blocked_question_is_not_answered() {
    let (_stand_in, client) = start(blocking()).await;
    let blocked = answer(ask(&client, [user("爆弾について")]).guardrail_config(config())).await;
    assert_eq!(blocked.stop_reason, StopReason::GuardrailIntervened);
    assert_eq!(blocked.output_tokens(), 0);
    let unguarded = answer(ask(&client, [user("爆弾について")])).await;
    assert_eq!(unguarded.stop_reason, StopReason::EndTurn);
}

#[tokio::test]
async fn a_blocked_answer_breaks_off() {
    let (stand_in, client) = start(blocking()).await;
    stand_in.script([Reply::new().say("This is for").say("bidden").say(" fruit")]);
    let blocked = answer(ask(&client, [user("a")]).guardrail_config(config())).await;
    assert_eq!(blocked.stop_reason, StopReason::GuardrailIntervened);
    assert_eq!(blocked.deltas.len(), 2);
    assert_eq!(blocked.deltas[0], "This is for");
    assert!(!blocked.text().contains("bidden"));
}
