//! Wires `dlq-redriver` to the real table and queues.

use std::io;
use std::sync::Arc;

use aws_adapters::configuration::{RedriverConfiguration, environment};
use aws_adapters::{clients, redriver, telemetry};
use domain::redrive::RequestError;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run_concurrent, service_fn};

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("dlq-redriver");
    let configuration = RedriverConfiguration::from_lookup(environment)?;
    let redriver = Arc::new(redriver(&clients::sdk_config().await, &configuration));
    run_concurrent(service_fn(move |event: LambdaEvent<_>| {
        let redriver = redriver.clone();
        async move { dlq_redriver::handle(&redriver, &event.payload, io::stdout()).await.map_err(refusal) }
    }))
    .await
}

/// What an invoker is told whose request is refused.
fn refusal(error: RequestError) -> Diagnostic {
    Diagnostic { error_type: "RequestError".to_owned(), error_message: error.to_string() }
}
