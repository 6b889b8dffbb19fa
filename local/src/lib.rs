//! The whole suite on one machine: what `cargo dev` runs, and the end-to-end tests.
//!
//! [`Stack::start`] makes a Python environment for MiniStack, the embedded AWS, and for Valkey, the cache; starts both;
//! builds the functions; deploys `template.yaml` to MiniStack; and starts the two parts it lacks, the WebSocket gateway and
//! the Bedrock stand-in, and a server for the chat page. Everything listens on 127.0.0.1 only and ends with this process,
//! even when that is killed.
//!
//! The model, each of the store's services and the cache can be given a [`Fault`] while the stack runs.

mod aws;
mod chat_api;
mod controls;
mod deploy;
mod fault;
mod functions;
mod gate;
mod ministack;
mod page;
mod ports;
mod process;
mod python;
mod running;
mod services;
mod shoppers;
mod stack;
mod valkey;
mod valkey_proxy;
mod versions;
mod watch;

pub use fault::{Fault, Target};
pub use gate::Traffic;
pub use ministack::REGION;
pub use running::{AWS_PORT_DEFAULT, fault, token};
pub use shoppers::SHOPPERS;
pub use stack::{Options, Progress, Stack};
pub use valkey::Valkey;
pub use watch::Watch;
