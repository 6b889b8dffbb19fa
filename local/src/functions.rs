//! The functions: built for this machine, packed as Lambda takes them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use aws_lc_rs::digest::{SHA256, digest};
use cargo_metadata::Message;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::process::Group;

/// Builds the binaries of these names, each in the package of the same name, and returns where they are. Cargo's own
/// progress and diagnostics go to standard error.
///
/// # Errors
/// Cargo cannot be started or reports an error.
pub(crate) async fn build<'a>(
    root: &Path,
    names: impl IntoIterator<Item = &'a str>,
    release: bool,
) -> Result<BTreeMap<String, PathBuf>> {
    // Under `cargo run` and `cargo test`, this very cargo.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.arg("build").arg("--message-format=json-render-diagnostics").current_dir(root).stdout(Stdio::piped());
    if release {
        command.arg("--release");
    }
    for name in names {
        command.args(["--package", name, "--bin", name]);
    }

    let mut group = Group::spawn(&mut command)?;
    let mut messages = Vec::new();
    if let Some(mut stdout) = group.child().stdout.take() {
        stdout.read_to_end(&mut messages).await?;
    }
    if !group.wait().await?.success() {
        bail!("the functions do not compile");
    }
    let mut executables = BTreeMap::new();
    for message in Message::parse_stream(messages.as_slice()) {
        if let Message::CompilerArtifact(artifact) = message?
            && let Some(executable) = artifact.executable
        {
            executables.insert(artifact.target.name, executable.into_std_path_buf());
        }
    }
    Ok(executables)
}

/// A deployment package.
pub(crate) struct Package {
    /// SHA-256 of its content, in hexadecimal.
    pub(crate) hash: String,
    /// A zip archive with the executable as `bootstrap`.
    pub(crate) zip: Vec<u8>,
}

/// Packs an executable. Nothing is compressed: the archive goes no further than this machine.
///
/// # Errors
/// The executable cannot be read.
pub(crate) fn package(executable: &Path) -> Result<Package> {
    let code = fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(0o755);
    let mut archive = ZipWriter::new(Cursor::new(Vec::with_capacity(code.len())));
    archive.start_file("bootstrap", options)?;
    archive.write_all(&code)?;
    let zip = archive.finish()?.into_inner();
    // Hashing in Rust takes a second per function as long as this tool is built unoptimised.
    let hash = digest(&SHA256, &zip).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Package { hash, zip })
}
