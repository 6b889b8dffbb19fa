//! The functions as they are deployed, built for this machine.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cargo_metadata::{Message, MetadataCommand};
use serde::Deserialize;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Builds the packages below `functions/`, all at once as they share what they depend on; their executables by name.
pub fn functions() -> BTreeMap<String, PathBuf> {
    let workspace = MetadataCommand::new().current_dir(repository()).no_deps().exec().unwrap();
    let folder = workspace.workspace_root.join("functions");
    let packages = workspace.packages.iter().filter(|package| package.manifest_path.starts_with(&folder));
    let mut targets = vec!["--bins"];
    targets.extend(packages.flat_map(|package| ["--package", package.name.as_str()]));
    build(&targets)
}

/// Runs `cargo build --release` and answers the executables by name.
pub fn build(targets: &[&str]) -> BTreeMap<String, PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--message-format=json-render-diagnostics"])
        .args(targets)
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{targets:?} do not compile");
    Message::parse_stream(output.stdout.as_slice())
        .filter_map(|message| {
            let Message::CompilerArtifact(artifact) = message.unwrap() else { return None };
            Some((artifact.target.name, artifact.executable?.into()))
        })
        .collect()
}

#[derive(Deserialize)]
struct SampleEnvironment {
    #[serde(rename = "Parameters")]
    parameters: BTreeMap<String, String>,
}

/// The environment of the samples.
pub fn sample_environment() -> BTreeMap<String, String> {
    let sample = fs::read(repository().join("events/env.json")).unwrap();
    let sample: SampleEnvironment = serde_json::from_slice(&sample).unwrap();
    sample.parameters
}

/// A function with the environment of the samples, as Lambda starts it: it asks `runtime_api` for work.
pub fn function(executable: &Path, runtime_api: SocketAddr) -> Command {
    let mut command = Command::new(executable);
    command
        .env_clear()
        .envs(sample_environment())
        // As deployed; the samples say more.
        .env("LOG_LEVEL", "info")
        .env("AWS_LAMBDA_FUNCTION_NAME", executable.file_name().unwrap())
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string())
        .env("AWS_REGION", "ap-northeast-1")
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .stdout(Stdio::null());
    command
}

/// The value below which `percent` of the sorted `values` lie.
pub fn percentile<T: Copy>(sorted: &[T], percent: usize) -> T {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// Says on what the figures were measured.
pub fn print_machine() {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().unwrap();
    println!("{cores} × {}, {}\n", model.trim_start_matches(['\t', ' ', ':']), std::env::consts::OS);
}
