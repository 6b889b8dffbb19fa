//! The program.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::functions::Functions;
use crate::{connect, ok, soon};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn listens_beyond_loopback_only_when_told_to() {
    let arguments = ["--listen", "0.0.0.0:0", "--route", "$default=message"];
    let output = soon("the exit", program().args(arguments).output()).await.unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow-remote"));
}

#[tokio::test]
async fn serves_until_interrupted_and_ends_its_connections() {
    let functions = Functions::start().await;
    let mut child = program()
        .args(["--listen", "127.0.0.1:0", "--stage", "dev", "--invoke-url", functions.url()])
        .args(["--route", "$default=message", "--route", "$disconnect=disconnect"])
        .args(["--authorizer", "authorizer", "--identity-source", "route.request.querystring.shop"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = soon("the ready line", lines.next_line()).await.unwrap().unwrap();
    let url = ready.strip_prefix("ready: websocket=").unwrap();

    let (client, ()) = tokio::join!(connect(format!("{url}?shop=tokyo")), async {
        let statement = serde_json::json!({ "Effect": "Allow", "Action": "*", "Resource": "*" });
        let answer = serde_json::json!({ "principalId": "me", "policyDocument": { "Statement": [statement] } });
        functions.invoked("authorizer").await.answer(&answer);
    });
    let mut client = client.unwrap();
    client.send("hello").await;
    functions.invoked("message").await.answer(&ok());

    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    assert_eq!(client.closed().await.0, 1001);
    functions.invoked("disconnect").await.answer(&ok());
    assert!(soon("the exit", child.wait()).await.unwrap().success());
}
