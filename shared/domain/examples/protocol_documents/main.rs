//! Writes `docs/protocol/` from the types of the protocol: `cargo run --package domain --example protocol_documents`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a tool of ours over types of ours: a panic says what is wrong with them"
)]

mod documents;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, text) in documents::all() {
        std::fs::write(root.join(path), text)?;
        println!("{path}");
    }
    Ok(())
}
