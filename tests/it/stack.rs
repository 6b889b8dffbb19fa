//! The local stack that all tests of this binary share.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use bedrock_stand_in::{Reply, Request, StandIn, Stats};
use domain::limits::HINT_COPIES;
use local::{Options, Stack, Target, Valkey};
use serde_json::{Value, json};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::processes::environments;

/// A started stack. Its tasks run on a runtime of their own, because every test's runtime ends with the test.
pub struct Running {
    stack: Stack,
    runtime: Handle,
}

impl Running {
    /// A JWT that the sample shopper `name` would sign in with.
    pub async fn token(&'static self, name: &'static str) -> String {
        let token = self.runtime.spawn(async move { self.stack.token(name).await });
        token.await.expect("the task ends").expect("a sample shopper has a token")
    }

    /// The output `name` of the deployed CloudFormation stack.
    pub fn output(&self, name: &str) -> &str {
        output(&self.stack, name)
    }

    /// The name of a function, which is deployed under this id.
    pub fn function_name(&self, id: &str) -> &str {
        self.output(id).split(':').nth(6).expect("an alias has an ARN")
    }

    pub fn websocket_url(&self) -> &str {
        self.stack.websocket_url()
    }

    pub fn aws_url(&self) -> &str {
        self.stack.aws_url()
    }

    /// What the model was asked lately.
    pub fn model_requests(&self) -> Vec<Request> {
        self.stack.bedrock().requests()
    }

    /// What happened to the model's answers since the start.
    pub fn model_stats(&self) -> Stats {
        self.stack.bedrock().stats()
    }

    /// Has the model answer the question with these replies, one a call. No other call gets them.
    pub fn script(&self, question: &str, replies: impl IntoIterator<Item = Reply>) {
        self.stack.bedrock().script(replies.into_iter().map(|reply| reply.about(question)));
    }

    /// Ends all environments of functions, whose breakers may be open, and deletes what they have told one another.
    async fn forget_failures(&self) {
        environments(self.aws_url()).iter().for_each(|environment| _ = environment.kill());
        let table = self.output("TableName");
        for copy in 0..HINT_COPIES {
            let key = json!({"pk": {"S": format!("hints#{copy}")}, "sk": {"S": "hints"}});
            self.call("DynamoDB_20120810.DeleteItem", json!({"TableName": table, "Key": key})).await;
        }
    }

    /// What clients of the embedded AWS are built from.
    pub fn sdk(&self) -> SdkConfig {
        sdk(self.aws_url())
    }

    /// Calls a service of the embedded AWS that speaks JSON and asks for no signature.
    pub async fn call(&self, target: &str, request: Value) -> Value {
        let call = reqwest::Client::new()
            .post(self.aws_url())
            .json(&request)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", target);
        let answer = call.send().await.expect("the embedded AWS answers");
        assert!(answer.status().is_success(), "{target}: {}", answer.text().await.unwrap_or_default());
        let body = answer.bytes().await.expect("a body");
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") }
    }
}

/// The stack, used beside other tests: nothing that they would notice may be changed.
pub struct Shared {
    running: &'static Running,
    _use: RwLockReadGuard<'static, ()>,
}

impl Deref for Shared {
    type Target = &'static Running;

    fn deref(&self) -> &Self::Target {
        &self.running
    }
}

/// The stack for one test alone, which may change what all others depend on. However the test ends, nothing has a fault
/// afterwards.
pub struct Exclusive {
    running: &'static Running,
    _use: RwLockWriteGuard<'static, ()>,
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.running.stack.end_faults();
        let running = self.running;
        // Not in the test's runtime, which must not be blocked.
        let recovering = thread::spawn(move || running.runtime.block_on(running.forget_failures()));
        recovering.join().expect("the functions forget what they know of failures");
    }
}

impl Exclusive {
    /// Replaces what is wrong with a target, written as for `cargo dev fault`.
    pub fn fault(&self, target: Target, fault: &str) {
        self.running.stack.fault(target, fault.parse().expect("a fault"));
    }

    /// How many requests came to a target since the start.
    pub fn requests(&self, target: Target) -> u64 {
        self.running.stack.traffic(target).requests
    }

    pub fn valkey(&self) -> &'static Valkey {
        self.running.stack.valkey()
    }

    /// Has every function start anew, with closed breakers, nothing in its memory and nothing in the cache they share.
    pub async fn start_anew(&self) {
        self.valkey().restart().await.expect("Valkey starts again");
        self.running.forget_failures().await;
    }

    pub fn bedrock(&self) -> &'static StandIn {
        self.running.stack.bedrock()
    }
}

impl Deref for Exclusive {
    type Target = &'static Running;

    fn deref(&self) -> &Self::Target {
        &self.running
    }
}

static USE: RwLock<()> = RwLock::const_new(());

pub async fn shared() -> Shared {
    let _use = USE.read().await;
    Shared { running: running(), _use }
}

pub async fn exclusive() -> Exclusive {
    let _use = USE.write().await;
    Exclusive { running: running(), _use }
}

/// The stack for nobody: its tests wait for one that has a stack of its own and needs the whole machine.
pub async fn unused() -> impl Sized {
    USE.write().await
}

/// The output `name` of a deployed CloudFormation stack.
pub fn output<'a>(stack: &'a Stack, name: &str) -> &'a str {
    stack.outputs().get(name).unwrap_or_else(|| panic!("the stack has the output {name}"))
}

/// What clients of an AWS at `url` are built from.
pub fn sdk(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(local::REGION))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
        .endpoint_url(url)
        .build()
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// Starts the stack when the first test asks for it. It lives as long as this process: its child processes end with it.
fn running() -> &'static Running {
    static RUNNING: OnceLock<Result<Running, String>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| thread::spawn(start).join().expect("the stack starts"));
    running.as_ref().unwrap_or_else(|error| panic!("the local stack does not start: {error}"))
}

fn start() -> Result<Running, String> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("a multi-thread runtime"));
    let started = runtime.block_on(Stack::start(Options::default(), |step| eprintln!("{step}")));
    let stack = started.map_err(|error| format!("{error:#}"))?;
    let running = Running { stack, runtime: runtime.handle().clone() };
    runtime.block_on(disable_schedules(&running));
    Ok(running)
}

/// The redriver runs when a test invokes it, and at no other time.
async fn disable_schedules(stack: &Running) {
    let rules = stack.call("AWSEvents.ListRules", json!({})).await;
    let rules = rules["Rules"].as_array().expect("rules");
    assert!(!rules.is_empty(), "the template schedules the redriver");
    for rule in rules {
        stack.call("AWSEvents.DisableRule", json!({"Name": rule["Name"]})).await;
    }
}
