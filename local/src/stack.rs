//! The whole suite, running.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bedrock_stand_in::StandIn;
use gateway::Gateway;
use tokio::time::{Instant, sleep};
use tokio::try_join;
use tokio_util::task::AbortOnDropHandle;

use crate::aws::Aws;
use crate::chat_api::gateway_config;
use crate::controls::Controls;
use crate::deploy::{Deployment, Template};
use crate::fault::{Fault, Target};
use crate::functions::Functions;
use crate::gate::Traffic;
use crate::ministack::MiniStack;
use crate::page::{Site, router};
use crate::running::{Note, Running, forget_dead};
use crate::services::Services;
use crate::shoppers::Shoppers;
use crate::valkey::Valkey;
use crate::{ports, python};

/// Where a stack says what it is doing, a line at a time.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

const STAGE: &str = "v1";

/// The sample store fills its table when it is first asked for its health.
const SEED_MAX: Duration = Duration::from_secs(60);
const SEED_POLL: Duration = Duration::from_millis(200);

/// How a stack is started. The default picks free ports and answers with the Bedrock stand-in.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Port of the chat page on 127.0.0.1; 0 picks a free one.
    pub page_port: u16,
    /// Port of the embedded AWS on 127.0.0.1; 0 picks a free one.
    pub aws_port: u16,
    /// Base URL of an OpenAI-compatible server that answers in place of the stand-in.
    pub llm_url: Option<String>,
    /// The model to ask that server for; without it, the deployed `ModelId`.
    pub llm_model: Option<String>,
    /// Sent to that server as a bearer token.
    pub llm_key: Option<String>,
    /// Build the functions in the release profile.
    pub release: bool,
}

/// A running suite: the embedded AWS with everything `template.yaml` describes, the gateway, the Bedrock stand-in, Valkey,
/// the front of the store's services and the page server, all on 127.0.0.1. Dropping it ends them; [`Stack::stop`] also
/// waits for that.
pub struct Stack {
    release: bool,
    progress: Progress,
    deployment: Deployment,
    page_url: String,
    websocket_url: String,
    aws_url: String,
    shoppers: Shoppers,
    gateway: Gateway,
    bedrock: StandIn,
    services: Services,
    valkey: Valkey,
    controls: Controls,
    _note: Note,
    _page: AbortOnDropHandle<()>,
    ministack: MiniStack,
}

impl Stack {
    /// Starts everything, on the caller's runtime, and returns when the chat can be used. The first time takes minutes:
    /// it makes `.venv` and builds the functions.
    ///
    /// # Errors
    /// A port is busy, Python is missing, the functions do not compile, the template is refused… The error's chain, on
    /// one line, is meant for the developer.
    pub async fn start(options: Options, progress: impl Fn(&str) + Send + Sync + 'static) -> Result<Self> {
        let progress: Progress = Arc::new(progress);
        let root = root();
        forget_dead(&root).await?;
        // The template needs these addresses.
        let page_listener = ports::listen(options.page_port, "--port").await?;
        let page_port = page_listener.local_addr()?.port();
        if options.aws_port != 0 {
            drop(ports::listen(options.aws_port, "--aws-port").await?);
        }
        let gateway_listener = ports::listen_on_free().await?;
        let gateway_address = gateway_listener.local_addr()?;
        let bedrock = StandIn::start(ports::listen_on_free().await?, bedrock_config(&options)?);
        let services = Services::start(ports::listen_on_free().await?)?;
        let valkey_listener = ports::listen_on_free().await?;

        let start_servers = async {
            let python = python::environment(&root, &progress).await?;
            progress("starting MiniStack and Valkey");
            let ministack = MiniStack::start(&root, &python, options.aws_port).await?;
            let log_stays = options.aws_port != 0;
            let valkey = Valkey::start(&root, &python, valkey_listener, ministack.port(), log_stays).await?;
            anyhow::Ok((ministack, valkey))
        };
        let ((ministack, valkey), (template, functions)) =
            try_join!(start_servers, build(&root, options.release, &progress))?;

        let aws = Aws::new(ministack.url())?;
        let mut parameters = parameters(&ministack.url(), &bedrock.url(), gateway_address);
        parameters.extend(services.parameters());
        parameters.insert("ValkeyUrl", valkey.url());
        progress("deploying template.yaml");
        let deployment = Deployment::create(aws.clone(), parameters, &template, &functions).await?;

        let gateway =
            Gateway::start(gateway_listener, gateway_config(&aws, deployment.output("ChatApi")?, STAGE).await?);
        let shoppers = Shoppers::new(aws.clone(), deployment.outputs())?;
        progress("filling the sample store");
        try_join!(shoppers.create(), seed(&aws, deployment.output("StoreUrl")?))?;
        services.forward_to(deployment.output("StoreUrl")?);

        let gates = services.gates().chain([(Target::Valkey, valkey.gate())]);
        let controls = Controls::new(bedrock.fault_control(), gates);
        let page_url = format!("http://127.0.0.1:{page_port}");
        let websocket_url = deployment.output("WebSocketUrl")?.to_owned();
        let site = Site {
            page: root.join("web/index.html"),
            port: page_port,
            websocket: websocket_url.clone(),
            shoppers: shoppers.clone(),
            controls: controls.clone(),
        };
        let page = AbortOnDropHandle::new(tokio::spawn(async move {
            // Ends with the stack only: axum retries what fails.
            let _ = axum::serve(page_listener, router(site)).await;
        }));
        let running = Running { aws_port: ministack.port(), page: page_url.clone(), websocket: websocket_url.clone() };
        let note = Note::leave(&root, &running)?;
        Ok(Self {
            release: options.release,
            progress,
            deployment,
            page_url,
            websocket_url,
            aws_url: ministack.url(),
            shoppers,
            gateway,
            bedrock,
            services,
            valkey,
            controls,
            _note: note,
            _page: page,
            ministack,
        })
    }

    /// The chat page, `http://127.0.0.1:<port>`.
    pub fn page_url(&self) -> &str {
        &self.page_url
    }

    /// Where chat clients connect, `ws://127.0.0.1:<port>/v1`.
    pub fn websocket_url(&self) -> &str {
        &self.websocket_url
    }

    /// The embedded AWS, `http://127.0.0.1:<port>`; it takes any credentials, and the Region is [`REGION`](crate::REGION).
    pub fn aws_url(&self) -> &str {
        &self.aws_url
    }

    /// The deployed stack's outputs by name.
    pub fn outputs(&self) -> &BTreeMap<String, String> {
        self.deployment.outputs()
    }

    /// The Bedrock stand-in, for its faults and records.
    pub fn bedrock(&self) -> &StandIn {
        &self.bedrock
    }

    /// Where the functions find Valkey, `redis://127.0.0.1:<port>`.
    pub fn valkey_url(&self) -> String {
        self.valkey.url()
    }

    /// Valkey, to be killed and restarted.
    pub fn valkey(&self) -> &Valkey {
        &self.valkey
    }

    /// Replaces what is wrong with `target`, as `cargo dev fault` does. What came to Bedrock before keeps its course; what is
    /// stalled elsewhere meets the new fault.
    pub fn fault(&self, target: Target, fault: Fault) {
        self.controls.set(target, fault);
    }

    /// What is wrong with `target`. Of the stand-in's own faults, those that a [`Fault`] can say.
    pub fn fault_of(&self, target: Target) -> Fault {
        self.controls.get(target)
    }

    /// Ends every fault.
    pub fn end_faults(&self) {
        self.controls.clear();
    }

    /// What has come to `target` since the start.
    pub fn traffic(&self, target: Target) -> Traffic {
        self.controls.gate(target).map_or_else(
            || {
                let stats = self.bedrock.stats();
                Traffic { requests: stats.calls, in_flight: stats.streams_active }
            },
            |gate| gate.traffic(),
        )
    }

    /// The WebSocket front.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// A JWT of a sample shopper that the stack accepts for an hour.
    ///
    /// # Errors
    /// There is no such shopper; the error names those there are.
    pub async fn token(&self, name: &str) -> Result<String> {
        self.shoppers.token(name).await
    }

    /// Builds the functions again and deploys what has changed since; says whether anything had. The old code answers
    /// until the new one is deployed. The gateway keeps the routes it started with.
    ///
    /// # Errors
    /// The functions do not compile or the template is refused: then the old deployment stays.
    pub async fn redeploy(&mut self) -> Result<bool> {
        let (template, functions) = build(&root(), self.release, &self.progress).await?;
        let updated = self.deployment.update(&template, &functions).await?;
        self.services.forward_to(self.deployment.output("StoreUrl")?);
        Ok(updated)
    }

    /// Waits until the stack is of no more use, which it becomes when the embedded AWS ends by itself, and says why.
    pub async fn failed(&mut self) -> anyhow::Error {
        self.ministack.failed().await
    }

    /// Ends everything and waits until it has ended.
    ///
    /// # Errors
    /// A process does not end.
    pub async fn stop(self) -> Result<()> {
        self.gateway.stop().await;
        self.bedrock.stop().await;
        let valkey = self.valkey.stop();
        self.ministack.stop().await.and(valkey)
    }
}

/// Builds what the template deploys.
async fn build(root: &Path, release: bool, progress: &Progress) -> Result<(Template, Functions)> {
    progress("building the functions");
    let template = Template::read(&root.join("template.yaml"))?;
    let functions = Functions::build(root, &template.binaries(), release).await?;
    Ok((template, functions))
}

/// The checkout this tool was built in.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The template's parameters for this machine.
fn parameters(aws_url: &str, bedrock_url: &str, gateway: SocketAddr) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("Architecture", if ARCH == "aarch64" { "arm64" } else { ARCH }.to_owned()),
        ("BedrockEndpointUrl", bedrock_url.to_owned()),
        ("CallbackUrl", format!("http://{gateway}/{STAGE}")),
        ("CognitoUrl", aws_url.to_owned()),
        ("ExecuteApiUrl", format!("{aws_url}/_aws/execute-api")),
        // The sample store knows its shoppers by name.
        ("JwtSubjectClaim", "cognito:username".to_owned()),
        ("Platform", "local".to_owned()),
        ("StageName", STAGE.to_owned()),
    ])
}

fn bedrock_config(options: &Options) -> Result<bedrock_stand_in::Config> {
    let llm_url = match &options.llm_url {
        None => None,
        Some(url) => Some(url.parse().with_context(|| format!("--llm-url {url} is no URL"))?),
    };
    Ok(bedrock_stand_in::Config {
        llm_url,
        llm_key: options.llm_key.clone(),
        llm_model: options.llm_model.clone(),
        blocked_words: BLOCKED_WORDS.map(str::to_owned).to_vec(),
        ..Default::default()
    })
}

/// What the stand-in's guardrail blocks, for want of one that understands.
const BLOCKED_WORDS: [&str; 2] = ["爆弾の作り方", "how to build a bomb"];

/// Waits until the sample store is healthy, which it is once it has filled its table.
async fn seed(aws: &Aws, store_url: &str) -> Result<()> {
    let deadline = Instant::now() + SEED_MAX;
    loop {
        match aws.get(&format!("{store_url}/health")).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.context("the sample store is not healthy")),
            Err(_) => sleep(SEED_POLL).await,
        }
    }
}
