use std::time::{Duration, Instant};

use aws_sdk_bedrockruntime::types::{CachePointBlock, CachePointType, ContentBlock, ConversationRole, StopReason};
use bedrock_stand_in::{Config, Operation};

use crate::{MODEL, answer, ask, assistant, max_tokens, start, stats_until, unpaced, user, within};

#[tokio::test]
async fn a_plain_question_is_answered_in_its_language() {
    let (stand_in, client) = start(unpaced()).await;
    let japanese = answer(ask(&client, [user("おすすめの漫画は？")])).await;
    assert!(japanese.text().contains("代役"), "{}", japanese.text());
    let english = answer(ask(&client, [user("Which manga do you like?")])).await;
    assert!(english.text().contains("stand-in"), "{}", english.text());
    for said in [&japanese, &english] {
        assert_eq!(said.stop_reason, StopReason::EndTurn);
        assert!((60..=120).contains(&said.deltas.len()), "{}", said.deltas.len());
        assert_eq!(said.output_tokens(), said.deltas.len());
        let usage = said.metadata.usage().unwrap();
        assert!(usage.input_tokens() > 0);
        assert_eq!(usage.total_tokens(), usage.input_tokens() + usage.output_tokens());
        assert!(said.metadata.metrics().unwrap().latency_ms() >= 0);
    }
    let stats = stand_in.stats();
    assert_eq!((stats.calls, stats.streams_active, stats.cancelled), (2, 0, 0));
    assert_eq!(usize::try_from(stats.tokens).unwrap(), japanese.deltas.len() + english.deltas.len());
}

#[tokio::test]
async fn the_same_prompt_is_answered_the_same() {
    let (_stand_in, client) = start(unpaced()).await;
    let first = answer(ask(&client, [user("詳しく教えて")])).await;
    let second = answer(ask(&client, [user("詳しく教えて")])).await;
    assert_eq!(first.deltas, second.deltas);
    assert!(first.deltas.len() >= 200, "{}", first.deltas.len());
}

#[tokio::test]
async fn tokens_come_no_sooner_than_the_pace_allows() {
    let (_stand_in, client) = start(Config { first_token_ms: 80, tokens_per_second: 200, ..unpaced() }).await;
    let begun = Instant::now();
    let mut stream = ask(&client, [user("Hello?")]).inference_config(max_tokens(20)).send().await.unwrap().stream;
    let mut token = 0;
    while let Some(event) = within(stream.recv()).await.unwrap() {
        if event.is_content_block_delta() {
            assert!(begun.elapsed() >= Duration::from_millis(80 + 5 * token), "token {token}: {:?}", begun.elapsed());
            token += 1;
        }
        if let Ok(metadata) = event.as_metadata() {
            assert!(metadata.metrics().unwrap().latency_ms() >= 80 + 5 * 19);
        }
    }
    assert_eq!(token, 20);
}

#[tokio::test]
async fn max_tokens_at_the_length_and_one_below() {
    let (_stand_in, client) = start(unpaced()).await;
    let whole = answer(ask(&client, [user("質問")])).await;
    let length = whole.deltas.len();
    let max = |max: usize| max_tokens(i32::try_from(max).unwrap());
    let fits = answer(ask(&client, [user("質問")]).inference_config(max(length))).await;
    assert_eq!((fits.text(), fits.stop_reason), (whole.text(), StopReason::EndTurn));
    let cut = answer(ask(&client, [user("質問")]).inference_config(max(length - 1))).await;
    assert_eq!(cut.deltas, whole.deltas[..length - 1]);
    assert_eq!(cut.stop_reason, StopReason::MaxTokens);
    assert_eq!(cut.output_tokens(), length - 1);
}

#[tokio::test]
async fn stop_sequences_are_not_said() {
    let (_stand_in, client) = start(unpaced()).await;
    let config = aws_sdk_bedrockruntime::types::InferenceConfiguration::builder().stop_sequences("model").build();
    let said = answer(ask(&client, [user("Hello?")]).inference_config(config)).await;
    assert_eq!((said.text().as_str(), said.stop_reason), ("This is the local stand-in ", StopReason::StopSequence));
}

#[tokio::test]
async fn a_prefilled_answer_is_continued() {
    let (_stand_in, client) = start(unpaced()).await;
    let whole = answer(ask(&client, [user("質問")])).await;
    for cut in [1, whole.deltas.len() / 2, whole.deltas.len() - 1] {
        let begun = whole.deltas[..cut].concat();
        let rest = answer(ask(&client, [user("質問"), assistant(&begun)])).await;
        assert_eq!(begun + &rest.text(), whole.text());
    }
    let other = answer(ask(&client, [user("質問"), assistant("別の答え")])).await;
    assert_eq!(other.text(), whole.text());
}

#[tokio::test]
async fn model_ids_of_every_form_arrive_decoded() {
    let (stand_in, client) = start(unpaced()).await;
    let ids = [
        MODEL,
        "jp.anthropic.claude-sonnet-4-20250514-v1:0",
        "arn:aws:bedrock:ap-northeast-1:123456789012:application-inference-profile/a1b2c3",
    ];
    for id in ids {
        client.converse_stream().model_id(id).messages(user("Hi")).send().await.unwrap();
        client.converse().model_id(id).messages(user("Hi")).send().await.unwrap();
    }
    let requests = stand_in.requests();
    let seen: Vec<_> = requests.iter().map(|request| (request.operation, request.resource.as_str())).collect();
    let expected: Vec<_> =
        ids.iter().flat_map(|id| [(Operation::ConverseStream, *id), (Operation::Converse, *id)]).collect();
    assert_eq!(seen, expected);
    assert_eq!(requests[0].body["messages"][0]["content"][0]["text"], "Hi");
}

#[tokio::test]
async fn converse_says_the_same_at_once() {
    let (_stand_in, client) = start(unpaced()).await;
    let streamed = answer(ask(&client, [user("質問")])).await;
    let whole = client.converse().model_id(MODEL).messages(user("質問")).send().await.unwrap();
    let message = whole.output().unwrap().as_message().unwrap();
    assert_eq!(message.role(), &ConversationRole::Assistant);
    assert_eq!(message.content()[0].as_text().unwrap(), &streamed.text());
    assert_eq!(whole.stop_reason(), &StopReason::EndTurn);
    assert_eq!(whole.usage(), streamed.metadata.usage());
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_generation() {
    let (stand_in, client) = start(Config { tokens_per_second: 1, ..unpaced() }).await;
    let mut stream = ask(&client, [user("Hello?")]).send().await.unwrap().stream;
    while !within(stream.recv()).await.unwrap().unwrap().is_content_block_delta() {}
    assert_eq!(stand_in.stats().streams_active, 1);
    drop(stream);
    let stats = stats_until(&stand_in, |stats| stats.streams_active == 0).await;
    assert_eq!(stats.cancelled, 1);
}

#[tokio::test]
async fn stopping_breaks_answers_off() {
    let (stand_in, client) = start(Config { tokens_per_second: 1, ..unpaced() }).await;
    let mut stream = ask(&client, [user("Hello?")]).send().await.unwrap().stream;
    while !within(stream.recv()).await.unwrap().unwrap().is_content_block_delta() {}
    let address = stand_in.url();
    within(stand_in.stop()).await;
    while let Ok(Some(event)) = within(stream.recv()).await {
        assert!(!event.is_message_stop());
    }
    assert!(tokio::net::TcpStream::connect(address.trim_start_matches("http://")).await.is_err());
}

#[tokio::test]
async fn a_cache_point_changes_nothing() {
    let (_stand_in, client) = start(unpaced()).await;
    let cache_point = CachePointBlock::builder().r#type(CachePointType::Default).build().unwrap();
    let with_cache_point = aws_sdk_bedrockruntime::types::Message::builder()
        .role(ConversationRole::User)
        .content(ContentBlock::Text("質問".to_owned()))
        .content(ContentBlock::CachePoint(cache_point))
        .build()
        .unwrap();
    let plain = answer(ask(&client, [user("質問")])).await;
    assert_eq!(answer(ask(&client, [with_cache_point])).await.text(), plain.text());
}
