//! Wires `authorizer` to its token verifier.

use std::sync::Arc;

use authorizer::Authorizer;
use aws_adapters::configuration::{AuthorizerConfiguration, environment};
use aws_adapters::{RandomNonces, SystemClock, TokenVerifier, telemetry};
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("authorizer");
    let configuration = AuthorizerConfiguration::from_lookup(environment)?;
    let session_key = configuration.session_key.clone();
    let identities = TokenVerifier::new(configuration, SystemClock);
    let authorizer = Arc::new(Authorizer { identities, session_key, clock: SystemClock, nonces: RandomNonces });
    run_concurrent(service_fn(move |event: LambdaEvent<_>| {
        let authorizer = authorizer.clone();
        async move { authorizer.handle(event.payload).await }
    }))
    .await
}
