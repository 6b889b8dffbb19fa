//! The smallest function there is: what a cold start costs before any code of ours. Measured by `cold_start`.

use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_concurrent(service_fn(|event: LambdaEvent<Value>| async move { Ok::<_, Error>(event.payload) })).await
}
