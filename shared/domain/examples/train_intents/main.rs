//! Writes `data/phrases.bin` and `data/weights.bin` of the domain from the tables beside them and the utterances in
//! `tests/data/`: `cargo run --package domain --example train_intents`.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a tool of ours over files of ours: a panic says what is wrong with them"
)]

mod training;

fn main() -> std::io::Result<()> {
    for (path, bytes) in training::all()? {
        println!("{}: {} bytes", path.display(), bytes.len());
        std::fs::write(path, bytes)?;
    }
    Ok(())
}
