//! The async runtime of a function.

use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::configuration::environment;

/// One thread where Lambda hands an environment one invocation at a time: more would only pass the work around. As many as
/// there are processors where it hands over several (Lambda Managed Instances, by `AWS_LAMBDA_MAX_CONCURRENCY`).
///
/// # Errors
/// When the operating system gives no thread or event queue.
pub fn runtime() -> io::Result<Runtime> {
    let invocations = environment("AWS_LAMBDA_MAX_CONCURRENCY").and_then(|number| number.parse().ok()).unwrap_or(1_u32);
    let mut builder = if invocations > 1 { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.enable_all().build()
}
