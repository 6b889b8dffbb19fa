//! The whole suite on one machine: what `cargo dev` runs, and the end-to-end tests.
//!
//! [`Stack::start`] makes a Python environment for MiniStack, the embedded AWS; starts it; builds the functions; deploys
//! `template.yaml` to it; and starts the two parts it lacks, the WebSocket gateway and the Bedrock stand-in, and a server
//! for the chat page. Everything listens on 127.0.0.1 only and ends with this process, even when that is killed.

mod aws;
mod chat_api;
mod deploy;
mod functions;
mod ministack;
mod page;
mod ports;
mod process;
mod python;
mod running;
mod shoppers;
mod stack;
mod versions;
mod watch;

pub use ministack::REGION;
pub use running::{AWS_PORT_DEFAULT, token};
pub use shoppers::SHOPPERS;
pub use stack::{Options, Progress, Stack};
pub use watch::Watch;
