use aws_sdk_bedrockruntime::config::http::HttpResponse;
use aws_sdk_bedrockruntime::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamError;
use aws_sdk_bedrockruntime::operation::converse_stream::builders::ConverseStreamFluentBuilder;
use aws_sdk_bedrockruntime::types::{
    ContentBlock, ConversationRole, ImageBlock, ImageFormat, ImageSource, InferenceConfiguration, Message,
    SystemContentBlock,
};
use bedrock_stand_in::StandIn;

use crate::{answer, ask, assistant, max_tokens, start, unpaced, user};

async fn refused(stand_in: &StandIn, request: ConverseStreamFluentBuilder, says: &str) {
    let result = request.send().await;
    let status = result.as_ref().err().and_then(SdkError::raw_response).map(|raw: &HttpResponse| raw.status().as_u16());
    assert_eq!(status, Some(400));
    let error = result.unwrap_err().into_service_error();
    assert!(matches!(error, ConverseStreamError::ValidationException(_)), "{error:?}");
    assert!(error.message().unwrap().contains(says), "{error:?}");
    assert_eq!(stand_in.requests(), [], "a refused request was recorded");
}

#[tokio::test]
async fn conversations_begin_with_the_user_and_alternate() {
    let (stand_in, client) = start(unpaced()).await;
    refused(&stand_in, ask(&client, []), "must start with a user message").await;
    refused(&stand_in, ask(&client, [assistant("a"), user("b")]), "must start with a user message").await;
    refused(&stand_in, ask(&client, [user("a"), user("b")]), "must alternate").await;
    refused(&stand_in, ask(&client, [user("a"), assistant("b"), assistant("c")]), "must alternate").await;
    answer(ask(&client, [user("a"), assistant("b"), user("c")])).await;
}

#[tokio::test]
async fn texts_are_not_blank() {
    let (stand_in, client) = start(unpaced()).await;
    refused(&stand_in, ask(&client, [user(" \n")]), "at messages.0.content.0 is blank").await;
    refused(&stand_in, ask(&client, [user("a"), assistant("")]), "at messages.1.content.0 is blank").await;
    let empty = Message::builder().role(ConversationRole::User).set_content(Some(Vec::new())).build().unwrap();
    refused(&stand_in, ask(&client, [empty]), "at messages.0 is empty").await;
    let blank = SystemContentBlock::Text("　".to_owned());
    refused(&stand_in, ask(&client, [user("a")]).system(blank), "at system.0 is blank").await;
}

#[tokio::test]
async fn a_prefilled_answer_has_no_space_at_its_end() {
    let (stand_in, client) = start(unpaced()).await;
    refused(&stand_in, ask(&client, [user("a"), assistant("b ")]), "trailing whitespace").await;
}

#[tokio::test]
async fn inference_parameters_have_their_ranges() {
    let (stand_in, client) = start(unpaced()).await;
    let config = InferenceConfiguration::builder;
    for wrong in [0, -1] {
        refused(
            &stand_in,
            ask(&client, [user("a")]).inference_config(max_tokens(wrong)),
            "'inferenceConfig.maxTokens'",
        )
        .await;
    }
    for wrong in [-0.1, 1.1] {
        let temperature = config().temperature(wrong).build();
        refused(&stand_in, ask(&client, [user("a")]).inference_config(temperature), "'inferenceConfig.temperature'")
            .await;
        let top_p = config().top_p(wrong).build();
        refused(&stand_in, ask(&client, [user("a")]).inference_config(top_p), "'inferenceConfig.topP'").await;
    }
    let least = config().max_tokens(1).temperature(0.0).top_p(1.0).build();
    assert_eq!(answer(ask(&client, [user("a")]).inference_config(least)).await.deltas.len(), 1);
}

#[tokio::test]
async fn blocks_other_than_text_are_refused() {
    let (stand_in, client) = start(unpaced()).await;
    let image =
        ImageBlock::builder().format(ImageFormat::Png).source(ImageSource::Bytes(vec![0].into())).build().unwrap();
    let image = Message::builder().role(ConversationRole::User).content(ContentBlock::Image(image)).build().unwrap();
    refused(&stand_in, ask(&client, [image]), "Malformed input request").await;
}
