use bedrock_stand_in::{Faults, Stall};
use serde_json::{Value, json};

use crate::{answer, ask, start, unpaced, user};

#[tokio::test]
async fn another_process_reads_and_sets_the_faults() {
    let (stand_in, client) = start(unpaced()).await;
    let url = format!("{}/_stand-in/faults", stand_in.url());
    let http = reqwest::Client::new();
    let get = async || http.get(&url).send().await.unwrap().json::<Faults>().await.unwrap();
    let put = async |faults: Value| http.put(&url).json(&faults).send().await.unwrap().status().as_u16();

    assert_eq!(get().await, Faults::default());
    assert_eq!(put(json!({ "throttle_rate": 1.0 })).await, 200);
    assert!(ask(&client, [user("a")]).send().await.is_err());
    assert_eq!(put(json!({ "throtle_rate": 1.0 })).await, 422);
    assert_eq!(get().await.throttle_rate, 1.0);
    assert_eq!(put(json!({ "stall": { "after_tokens": 3, "duration_ms": 0 } })).await, 200);
    let stall = Stall { rate: 1.0, after_tokens: 3, duration_ms: Some(0) };
    assert_eq!(get().await, Faults { stall: Some(stall), ..Faults::default() });
    answer(ask(&client, [user("a")])).await;
}

#[tokio::test]
async fn another_process_reads_the_counters() {
    let (stand_in, client) = start(unpaced()).await;
    let said = answer(ask(&client, [user("a")])).await.deltas.len();
    let stats: Value = reqwest::get(format!("{}/_stand-in/stats", stand_in.url())).await.unwrap().json().await.unwrap();
    assert_eq!(stats, json!({ "calls": 1, "streams_active": 0, "cancelled": 0, "tokens": said }));
}

#[tokio::test]
async fn other_operations_are_unknown() {
    let (stand_in, _client) = start(unpaced()).await;
    let response = reqwest::Client::new().post(format!("{}/model/m/invoke", stand_in.url())).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 404);
    assert_eq!(response.headers()["x-amzn-errortype"], "UnknownOperationException");
}
