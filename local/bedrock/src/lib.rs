//! A stand-in for Amazon Bedrock Runtime on the developer's machine.
//!
//! It speaks the wire protocol of `ConverseStream`, `Converse` and `ApplyGuardrail`, so the AWS SDKs talk to it once their
//! endpoint is set to [`StandIn::url`]. It answers a shopper's question from the store data in the prompt, at a model's
//! pace; or says what a test scripted; or passes on what an OpenAI-compatible server says. Faults can be switched on while
//! it runs. Credentials and signatures are not checked.

mod answer;
mod api;
mod exception;
mod faults;
mod forward;
mod generation;
mod guardrail;
mod prompt;
mod script;
mod server;
mod tokens;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use api::StopReason;
pub use exception::{Exception, ExceptionKind};
pub use faults::{Faults, MidStreamError, Stall, happens};
pub use forward::LLM_STALL_MS;
pub use reqwest::Url;
pub use script::Reply;
pub use server::{Operation, REQUESTS_RECORDED_MAX, Request, Stats};

use server::Bedrock;

/// How long [`StandIn::stop`] waits for open connections to close.
const STOP_MS_MAX: u64 = 2_000;

/// How the stand-in behaves; the default is a model's pace, no faults and no forwarding.
#[derive(Clone)]
pub struct Config {
    /// From the request to the first token, milliseconds. Does not apply to scripted or forwarded answers.
    pub first_token_ms: u64,
    /// Pace after the first token; 0 is as fast as the client reads. Does not apply to scripted or forwarded answers.
    pub tokens_per_second: u32,
    /// Words and phrases every guardrail blocks, in any letter case.
    pub blocked_words: Vec<String>,
    /// The faults to begin with.
    pub faults: Faults,
    /// An OpenAI-compatible server that answers instead: its base URL, with or without `/v1`.
    pub llm_url: Option<Url>,
    /// Sent to that server as a bearer token.
    pub llm_key: Option<String>,
    /// The model to ask that server for; without it, the model id of the request.
    pub llm_model: Option<String>,
    /// How long that server may be silent, milliseconds.
    pub llm_stall_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            first_token_ms: 300,
            tokens_per_second: 50,
            blocked_words: Vec::new(),
            faults: Faults::default(),
            llm_url: None,
            llm_key: None,
            llm_model: None,
            llm_stall_ms: LLM_STALL_MS,
        }
    }
}

/// A running stand-in. Dropping it stops it without waiting.
pub struct StandIn {
    address: SocketAddr,
    bedrock: Arc<Bedrock>,
    serving: JoinHandle<std::io::Result<()>>,
    stopping: DropGuard,
}

impl StandIn {
    /// Serves on `listener` from now on. Must be called within a Tokio runtime.
    #[expect(clippy::expect_used, reason = "a bound listener has an address")]
    pub fn start(listener: TcpListener, config: Config) -> Self {
        let address = listener.local_addr().expect("the listener is bound");
        let stopping = CancellationToken::new();
        let bedrock = Arc::new(Bedrock::new(config, stopping.clone()));
        let server = axum::serve(listener, server::router(Arc::clone(&bedrock)));
        let serving = tokio::spawn(server.with_graceful_shutdown(stopping.clone().cancelled_owned()).into_future());
        Self { address, bedrock, serving, stopping: stopping.drop_guard() }
    }

    /// What to give an AWS SDK as the endpoint of Bedrock Runtime: `http://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the faults, for calls that begin from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.bedrock.set_faults(faults);
    }

    /// What sets the faults where the stand-in itself is out of reach.
    pub fn fault_control(&self) -> FaultControl {
        FaultControl(Arc::clone(&self.bedrock))
    }

    /// Queues replies: each is given to one of the next calls of `Converse` or `ConverseStream` that it fits, in order. A
    /// scripted call is free of [`Faults`].
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.bedrock.script(replies);
    }

    /// The last [`REQUESTS_RECORDED_MAX`] well-formed requests, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.bedrock.requests()
    }

    /// What happened since the start.
    pub fn stats(&self) -> Stats {
        self.bedrock.stats()
    }

    /// Stops: answers under way break off. Returns when no connection is open, or after two seconds.
    pub async fn stop(self) {
        drop(self.stopping);
        // Whatever is still open then is a client that neither reads nor closes.
        let _closed = tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), self.serving).await;
    }
}

/// The faults of one stand-in.
#[derive(Clone)]
pub struct FaultControl(Arc<Bedrock>);

impl FaultControl {
    /// Replaces the faults, for calls that begin from now on.
    pub fn set(&self, faults: Faults) {
        self.0.set_faults(faults);
    }

    /// The faults that are in force.
    pub fn get(&self) -> Faults {
        self.0.faults()
    }
}
