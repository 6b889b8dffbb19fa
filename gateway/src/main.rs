//! Runs a [`gateway::Gateway`] in front of a Lambda Invoke endpoint.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_lambda::Client;
use clap::Parser;
use gateway::{AuthorizerConfig, Config, Gateway, IdentitySource, RouteSelectionExpression};
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;

/// API Gateway's WebSocket behaviour in front of any Lambda Invoke endpoint.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:3001")]
    listen: SocketAddr,
    /// Listen on an address that other machines reach. The gateway does not authenticate callbacks.
    #[arg(long)]
    allow_remote: bool,
    /// Invoke endpoint that checks no signatures. Without it: AWS Lambda, with the environment's credentials.
    #[arg(long)]
    invoke_url: Option<String>,
    /// Region of the functions.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Stage: the path clients connect to.
    #[arg(long, default_value = "v1")]
    stage: String,
    /// API id in the events.
    #[arg(long, default_value = "local")]
    api_id: String,
    /// Account id in the authorizer's methodArn.
    #[arg(long, default_value = "000000000000")]
    account_id: String,
    /// Domain name in the events; by default the Host header of each handshake.
    #[arg(long)]
    domain_name: Option<String>,
    /// Function that authorizes $connect.
    #[arg(long)]
    authorizer: Option<String>,
    /// Identity source of the authorizer, such as route.request.header.Authorization. Repeatable.
    #[arg(long, requires = "authorizer")]
    identity_source: Vec<IdentitySource>,
    /// Route and its function, such as '$default=message'. Repeatable.
    #[arg(long, required = true, value_parser = route)]
    route: Vec<(String, String)>,
    /// Expression that selects a message's route.
    #[arg(long, default_value = "$request.body.action")]
    route_selection_expression: RouteSelectionExpression,
}

fn route(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, function)) if !key.is_empty() && !function.is_empty() => Ok((key.to_owned(), function.to_owned())),
        Some(_) | None => Err("not of the form KEY=FUNCTION".to_owned()),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let level = std::env::var("LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    if !arguments.listen.ip().is_loopback() && !arguments.allow_remote {
        bail!("{} is reachable from other machines: give --allow-remote to listen on it", arguments.listen);
    }

    let client = client(&arguments).await;
    let config = Config {
        region: arguments.region,
        account_id: arguments.account_id,
        api_id: arguments.api_id,
        domain_name: arguments.domain_name,
        authorizer: arguments
            .authorizer
            .map(|function| AuthorizerConfig { function, identity_sources: arguments.identity_source }),
        routes: arguments.route.into_iter().collect::<BTreeMap<_, _>>(),
        route_selection_expression: arguments.route_selection_expression,
        ..Config::new(client, &arguments.stage)
    };
    let listener =
        TcpListener::bind(arguments.listen).await.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let gateway = Gateway::start(listener, config);
    println!("ready: websocket=ws://{}/{}", gateway.address(), arguments.stage);
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    gateway.stop().await;
    Ok(())
}

async fn client(arguments: &Arguments) -> Client {
    match &arguments.invoke_url {
        Some(url) => gateway::local_invoke_client(url, &arguments.region),
        None => {
            let region = Region::new(arguments.region.clone());
            let aws = aws_config::defaults(BehaviorVersion::latest()).region(region).load().await;
            let settings = aws_sdk_lambda::config::Builder::from(&aws);
            Client::from_conf(gateway::invoke_settings(settings).build())
        }
    }
}
