//! `cargo dev`: the whole suite on this machine.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use local::{AWS_PORT_DEFAULT, Options, Stack, Watch};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

/// Runs the whole suite on this machine: the deployed template, the WebSocket gateway, a model and the chat page
///
/// Ends with the line `ready: page=… websocket=… aws=…` on standard output. Ctrl-C ends everything.
#[derive(Parser)]
#[command(bin_name = "cargo dev", args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Run {
    /// Port of the chat page; 0 picks a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port of the embedded AWS; 0 picks a free one
    #[arg(long, default_value_t = AWS_PORT_DEFAULT)]
    aws_port: u16,
    /// OpenAI-compatible server that answers in place of the built-in stand-in; its key is read from LLM_API_KEY
    #[arg(long, value_name = "URL")]
    llm_url: Option<String>,
    /// Model to ask that server for
    #[arg(long, value_name = "NAME", requires = "llm_url")]
    llm_model: Option<String>,
    /// Rebuild and redeploy when functions/, shared/ or template.yaml change
    #[arg(long)]
    watch: bool,
    /// Build the functions in the release profile
    #[arg(long)]
    release: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Print a token of a sample shopper (aiko, ben) that the running stack accepts
    Token {
        /// The shopper
        name: String,
        /// The running stack's port of the embedded AWS, when several run [default: 4566 if one runs there]
        #[arg(long)]
        aws_port: Option<u16>,
    },
    /// Put a fault before a part of the running stack, or list the faults in force
    ///
    /// `cargo dev fault catalog latency=1.5s error=0.2` replaces the fault of the catalog, `cargo dev fault catalog off` ends
    /// it, and `cargo dev fault off` ends them all. See docs/faults.md.
    #[command(override_usage = "cargo dev fault [TARGET FAULT... | off] [--aws-port <AWS_PORT>]")]
    Fault {
        /// TARGET: bedrock, catalog, recommendations, orders, promotions, reviews, knowledge or valkey. FAULT: error=RATE (0
        /// to 1), latency=DURATION (200ms, 1.5s), stall, throttle (both also with a rate), or off
        #[arg(value_name = "TARGET FAULT")]
        words: Vec<String>,
        /// The running stack's port of the embedded AWS, when several run [default: 4566 if one runs there]
        #[arg(long)]
        aws_port: Option<u16>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let level = std::env::var("LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::WARN);
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => run(arguments.run).await,
        Some(Command::Token { name, aws_port }) => local::token(&name, aws_port).await.map(|token| println!("{token}")),
        Some(Command::Fault { words, aws_port }) => local::fault(&words, aws_port).await.map(|list| print!("{list}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until Ctrl-C or SIGTERM, which are the normal end.
async fn run(run: Run) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stopped);

    let options = Options {
        page_port: run.port,
        aws_port: run.aws_port,
        llm_url: run.llm_url,
        llm_model: run.llm_model,
        llm_key: std::env::var("LLM_API_KEY").ok(),
        release: run.release,
    };
    // Before the build reads the sources: no edit goes unnoticed.
    let watch = run.watch.then(Watch::start).transpose()?;
    let mut stack = tokio::select! {
        () = &mut stopped => return Ok(()),
        stack = Stack::start(options, |line| eprintln!("{line}")) => stack?,
    };
    println!("ready: page={} websocket={} aws={}", stack.page_url(), stack.websocket_url(), stack.aws_url());
    let result = tokio::select! {
        () = &mut stopped => Ok(()),
        error = keep(&mut stack, watch) => Err(error),
    };
    eprintln!("stopping");
    stack.stop().await.and(result)
}

/// Keeps the stack up to date, until it can run no longer.
async fn keep(stack: &mut Stack, mut watch: Option<Watch>) -> anyhow::Error {
    loop {
        tokio::select! {
            error = stack.failed() => return error,
            () = changed(&mut watch) => {}
        }
        match stack.redeploy().await {
            Ok(true) => eprintln!("deployed the change"),
            Ok(false) => eprintln!("nothing to deploy"),
            Err(error) => eprintln!("error: {error:#}; the last deployment stays"),
        }
    }
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
