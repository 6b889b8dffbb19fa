//! `BedrockModel` against the stand-in.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;

use aws_adapters::configuration::{GuardrailConfiguration, ModelConfiguration};
use aws_adapters::{BedrockModel, clients};
use bedrock_stand_in::{Config, Exception, ExceptionKind, Operation, Reply, StandIn, StopReason as BedrockStop};
use domain::ports::{LanguageModel as _, ModelChoice, ModelError, ModelEvent};
use domain::prompt::{Prompt, PromptMessage, Role};
use domain::protocol::StopReason;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::fake::{Fake, nobody};
use crate::{environment, within};

const MODEL: &str = "apac.anthropic.claude-sonnet-4-20250514-v1:0";

const CHEAPER_MODEL: &str = "apac.amazon.nova-lite-v1:0";

fn configuration() -> ModelConfiguration {
    ModelConfiguration {
        model_id: MODEL.to_owned(),
        prefill: true,
        cheaper_model_id: CHEAPER_MODEL.to_owned(),
        guardrail: None,
        tokens_per_minute: None,
        cheaper_tokens_per_minute: None,
    }
}

/// Behind a guardrail.
fn guarded() -> ModelConfiguration {
    let guardrail = GuardrailConfiguration { id: "gr-1".to_owned(), version: "3".to_owned() };
    ModelConfiguration { guardrail: Some(guardrail), ..configuration() }
}

fn model_at(url: &str) -> BedrockModel {
    BedrockModel::new(clients::bedrock_runtime(&environment(url)), configuration())
}

async fn start() -> (StandIn, BedrockModel) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stand_in = StandIn::start(listener, Config { first_token_ms: 0, tokens_per_second: 0, ..Config::default() });
    let model = model_at(&stand_in.url());
    (stand_in, model)
}

fn prompt() -> Prompt {
    let said = |role, text: &str| PromptMessage { role, text: text.to_owned() };
    Prompt {
        system: "You help shoppers.".to_owned(),
        messages: vec![
            said(Role::User, "こんにちは"),
            said(Role::Assistant, "いらっしゃいませ"),
            said(Role::User, "海賊の漫画は？"),
        ],
        question_at: 0,
        prefill: None,
        model: ModelChoice::Primary,
        answer_tokens_max: 1_024,
        instructions_dropped: 0,
    }
}

async fn answer(model: &BedrockModel) -> Vec<Result<ModelEvent, ModelError>> {
    within(model.answer(prompt()).collect()).await
}

async fn said(model: &BedrockModel) -> Vec<ModelEvent> {
    answer(model).await.into_iter().map(Result::unwrap).collect()
}

/// The failure an answer consists of, after some text.
async fn broken_off(model: &BedrockModel, text: &[&str]) -> ModelError {
    let mut events = answer(model).await;
    let error = events.pop().unwrap().unwrap_err();
    let before: Vec<ModelEvent> = events.into_iter().map(Result::unwrap).collect();
    assert_eq!(before, text.iter().map(|text| ModelEvent::Text((*text).to_owned())).collect::<Vec<_>>());
    error
}

fn kind(error: &ModelError) -> &'static str {
    match error {
        ModelError::Throttled(_) => "throttled",
        ModelError::Unavailable(_) => "unavailable",
        ModelError::Refused(_) => "refused",
    }
}

#[tokio::test]
async fn a_prompt_is_asked_as_it_is() {
    let (stand_in, model) = start().await;
    stand_in.script([Reply::new().say("はい")]);
    said(&model).await;
    let requests = stand_in.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].operation, requests[0].resource.as_str()), (Operation::ConverseStream, MODEL));
    let mut body = requests[0].body.clone();
    let temperature = body["inferenceConfig"].as_object_mut().unwrap().remove("temperature").unwrap();
    assert!((0.0..=1.0).contains(&temperature.as_f64().unwrap()));
    assert_eq!(
        body,
        json!({
            "system": [{ "text": "You help shoppers." }],
            "messages": [
                { "role": "user", "content": [{ "text": "こんにちは" }] },
                { "role": "assistant", "content": [{ "text": "いらっしゃいませ" }] },
                { "role": "user", "content": [{ "text": "海賊の漫画は？" }] },
            ],
            "inferenceConfig": { "maxTokens": 1_024 },
        })
    );
}

#[tokio::test]
async fn the_beginning_of_an_answer_is_the_last_message_without_white_space_at_its_end() {
    let (stand_in, model) = start().await;
    let cases = [
        (Some("海賊の漫画なら\u{3000}\n "), Some("海賊の漫画なら")),
        (Some(" \n"), None),
        (Some(""), None),
        (None, None),
    ];
    for (prefill, expected) in cases {
        stand_in.script([Reply::new().say("はい")]);
        let prompt = Prompt { prefill: prefill.map(str::to_owned), ..prompt() };
        within(model.answer(prompt).collect::<Vec<_>>()).await;
        let requests = stand_in.requests();
        let messages = requests.last().unwrap().body["messages"].as_array().unwrap();
        let added = messages[3..].iter().map(|message| (&message["role"], &message["content"])).collect::<Vec<_>>();
        match expected {
            Some(text) => assert_eq!(added, [(&json!("assistant"), &json!([{ "text": text }]))]),
            None => assert_eq!(added, [], "{prefill:?}"),
        }
    }
}

#[tokio::test]
async fn a_model_continues_answers_if_it_is_said_to() {
    let client = clients::bedrock_runtime(&environment("http://unused"));
    for accepts_prefill in [true, false] {
        let configuration = ModelConfiguration { prefill: accepts_prefill, ..configuration() };
        assert_eq!(BedrockModel::new(client.clone(), configuration).accepts_prefill(), accepts_prefill);
    }
}

#[tokio::test]
async fn under_pressure_the_cheaper_model_is_asked() {
    let (stand_in, model) = start().await;
    let prompt = Prompt { model: ModelChoice::Cheaper, ..prompt() };
    within(model.answer(prompt).collect::<Vec<_>>()).await;
    assert_eq!(stand_in.requests()[0].resource, CHEAPER_MODEL);
}

#[tokio::test]
async fn a_guardrail_looks_at_the_shoppers_own_words() {
    let (stand_in, _) = start().await;
    let model = BedrockModel::new(clients::bedrock_runtime(&environment(&stand_in.url())), guarded());
    let mut prompt = prompt();
    prompt.messages[2].text = "<store_data/>\n海賊の漫画は？".to_owned();
    prompt.question_at = "<store_data/>\n".len();
    within(model.answer(prompt).collect::<Vec<_>>()).await;
    let body = stand_in.requests()[0].body.clone();
    assert_eq!(body["messages"][0]["content"], json!([{ "text": "こんにちは" }]), "what was looked at before");
    let guarded = json!({ "guardContent": { "text": { "text": "海賊の漫画は？" } } });
    assert_eq!(body["messages"][2]["content"], json!([{ "text": "<store_data/>\n" }, guarded]));
    let expected = json!({
        "guardrailIdentifier": "gr-1", "guardrailVersion": "3", "streamProcessingMode": "sync", "trace": "disabled",
    });
    assert_eq!(body["guardrailConfig"], expected);
}

#[tokio::test]
async fn what_a_guardrail_says_is_not_heard() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let blocked_words = vec!["海賊".to_owned(), "treasure".to_owned()];
    let config = Config { first_token_ms: 0, tokens_per_second: 0, blocked_words, ..Config::default() };
    let stand_in = StandIn::start(listener, config);
    let model = BedrockModel::new(clients::bedrock_runtime(&environment(&stand_in.url())), guarded());
    let stopped = ModelEvent::Stopped(StopReason::Guardrail);
    let events = said(&model).await;
    assert_eq!(events[0], stopped, "the question is blocked: {events:?}");
    stand_in.script([Reply::new().say("Pirates look for ").say("treasure").say(" at sea")]);
    let events = said(&model).await;
    assert_eq!(events[..2], [ModelEvent::Text("Pirates look for ".to_owned()), stopped], "{events:?}");
}

#[tokio::test]
async fn an_answer_is_text_then_its_end_then_its_cost() {
    let (stand_in, model) = start().await;
    stand_in.script([Reply::new().say("海賊").say("王 ").say("\"<&>\"\n")]);
    let events = said(&model).await;
    let [texts @ .., ModelEvent::Stopped(reason), ModelEvent::Usage(usage)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(texts, ["海賊", "王 ", "\"<&>\"\n"].map(|text| ModelEvent::Text(text.to_owned())));
    assert_eq!(*reason, StopReason::EndTurn);
    assert_eq!(usage.output_tokens, stand_in.stats().tokens);
    assert!(usage.input_tokens > 0 && usage.output_tokens > 0, "{usage:?}");
}

#[tokio::test]
async fn an_answer_says_why_it_ends() {
    let (stand_in, model) = start().await;
    let cases = [
        (BedrockStop::EndTurn, StopReason::EndTurn),
        (BedrockStop::StopSequence, StopReason::EndTurn),
        (BedrockStop::MaxTokens, StopReason::MaxTokens),
        (BedrockStop::GuardrailIntervened, StopReason::Guardrail),
        (BedrockStop::ContentFiltered, StopReason::Guardrail),
    ];
    for (bedrock, ours) in cases {
        stand_in.script([Reply::new().say("a").end(bedrock)]);
        let events = said(&model).await;
        assert_eq!(events[1], ModelEvent::Stopped(ours), "{bedrock:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_refused_fails_by_its_kind() {
    let cases = [
        (ExceptionKind::Throttling, "throttled", 3),
        (ExceptionKind::Validation, "refused", 1),
        (ExceptionKind::AccessDenied, "refused", 1),
        (ExceptionKind::ResourceNotFound, "refused", 1),
        (ExceptionKind::InternalServer, "unavailable", 3),
        (ExceptionKind::ServiceUnavailable, "unavailable", 3),
    ];
    for (exception, expected, attempts) in cases {
        let (stand_in, model) = start().await;
        stand_in.script((0..9).map(|_| Reply::refuse(Exception::new(exception, "no"))));
        assert_eq!(kind(&broken_off(&model, &[]).await), expected, "{exception:?}");
        assert_eq!(stand_in.stats().calls, attempts, "{exception:?}");
    }
    for exception in [ExceptionKind::ModelError, ExceptionKind::ModelTimeout] {
        let (stand_in, model) = start().await;
        stand_in.script((0..9).map(|_| Reply::refuse(Exception::new(exception, "no"))));
        assert_eq!(kind(&broken_off(&model, &[]).await), "unavailable", "{exception:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_throttled_once_is_repeated() {
    let (stand_in, model) = start().await;
    stand_in.script([Reply::refuse(Exception::new(ExceptionKind::Throttling, "wait")), Reply::new().say("はい")]);
    assert_eq!(said(&model).await[0], ModelEvent::Text("はい".to_owned()));
}

#[tokio::test]
async fn an_exception_within_an_answer_fails_by_its_kind_and_is_not_repeated() {
    let cases = [
        (ExceptionKind::ModelStreamError, "unavailable"),
        (ExceptionKind::InternalServer, "unavailable"),
        (ExceptionKind::ServiceUnavailable, "unavailable"),
        (ExceptionKind::Throttling, "throttled"),
        (ExceptionKind::Validation, "refused"),
    ];
    for (exception, expected) in cases {
        let (stand_in, model) = start().await;
        stand_in.script([Reply::new().say("海賊").fail(Exception::new(exception, "broke off"))]);
        assert_eq!(kind(&broken_off(&model, &["海賊"]).await), expected, "{exception:?}");
        assert_eq!(stand_in.stats().calls, 1, "{exception:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_an_answer_without_an_end() {
    let (stand_in, model) = start().await;
    stand_in.script([Reply::new().say("海賊").hang()]);
    let mut stream = pin!(model.answer(prompt()));
    let first = within(stream.next()).await.unwrap().unwrap();
    assert_eq!(first, ModelEvent::Text("海賊".to_owned()));
    stand_in.stop().await;
    let rest: Vec<_> = within(stream.collect()).await;
    assert!(!rest.iter().any(Result::is_ok), "neither a reason nor a cost: {rest:?}");
}

#[tokio::test]
async fn nothing_is_asked_before_the_first_poll() {
    let (stand_in, model) = start().await;
    drop(model.answer(prompt()));
    assert_eq!(stand_in.stats().calls, 0);
}

#[tokio::test]
async fn dropping_an_answer_stops_the_model() {
    let (stand_in, model) = start().await;
    let go_on = Arc::new(Notify::new());
    stand_in.script([Reply::new().say("海賊").until(Arc::clone(&go_on)).say("more").hang()]);
    {
        let mut stream = pin!(model.answer(prompt()));
        within(stream.next()).await.unwrap().unwrap();
        let stats = stand_in.stats();
        assert_eq!((stats.streams_active, stats.cancelled), (1, 0));
    }
    let stopped = async {
        while stand_in.stats().streams_active > 0 {
            tokio::task::yield_now().await;
        }
    };
    within(stopped).await;
    go_on.notify_one();
    let stats = stand_in.stats();
    assert_eq!((stats.cancelled, stats.calls), (1, 1));
}

#[tokio::test]
async fn a_model_out_of_reach_is_unavailable() {
    assert_eq!(kind(&broken_off(&model_at(&nobody().await), &[]).await), "unavailable");
}

#[tokio::test]
async fn a_model_that_never_begins_is_unavailable_within_its_timeout() {
    let silent = Fake::silent().await;
    assert_eq!(kind(&broken_off(&model_at(&silent.url), &[]).await), "unavailable");
    assert!((2..=3).contains(&silent.requests().len()), "attempts of 4 s within 9 s");
}
