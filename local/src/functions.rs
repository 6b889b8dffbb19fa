//! The functions: built for this machine, packed as Lambda takes them.

use std::collections::{BTreeMap, BTreeSet};
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

/// The functions' executables by the name of their binary.
pub(crate) struct Functions(BTreeMap<String, PathBuf>);

impl Functions {
    /// Builds the binaries of these names, each in the package of the same name. Cargo's own progress and diagnostics go
    /// to standard error.
    ///
    /// # Errors
    /// Cargo cannot be started or reports an error.
    pub(crate) async fn build(root: &Path, names: &BTreeSet<&str>, release: bool) -> Result<Self> {
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
        Ok(Self(executables))
    }

    /// Packs them as Lambda takes them.
    ///
    /// # Errors
    /// An executable cannot be read.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        self.0.iter().map(|(binary, executable)| Package::of(binary, executable)).collect()
    }
}

/// A deployment package: a zip archive with the executable as `bootstrap`.
pub(crate) struct Package {
    /// The binary in it.
    pub(crate) binary: String,
    /// A file name that changes with the content.
    pub(crate) key: String,
    /// The archive.
    pub(crate) zip: Vec<u8>,
}

impl Package {
    fn of(binary: &str, executable: &Path) -> Result<Self> {
        let code = fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
        // Not compressed: the archive goes no further than this machine.
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(0o755);
        let mut archive = ZipWriter::new(Cursor::new(Vec::with_capacity(code.len())));
        archive.start_file("bootstrap", options)?;
        archive.write_all(&code)?;
        let zip = archive.finish()?.into_inner();
        // Hashing in Rust takes a second per function as long as this tool is built unoptimised.
        let hash: String = digest(&SHA256, &zip).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { binary: binary.to_owned(), key: format!("{binary}-{hash}.zip"), zip })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_holds_an_executable_bootstrap_and_is_named_by_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let executable = directory.path().join("message");
        fs::write(&executable, "code").unwrap();
        let first = Package::of("message", &executable).unwrap();
        assert_eq!(Package::of("message", &executable).unwrap().key, first.key);

        let mut archive = zip::ZipArchive::new(Cursor::new(first.zip)).unwrap();
        assert_eq!(archive.len(), 1);
        let bootstrap = archive.by_name("bootstrap").unwrap();
        assert_eq!(bootstrap.unix_mode().unwrap() & 0o777, 0o755);
        assert_eq!(std::io::read_to_string(bootstrap).unwrap(), "code");

        fs::write(&executable, "edited").unwrap();
        assert_ne!(Package::of("message", &executable).unwrap().key, first.key);
    }
}
