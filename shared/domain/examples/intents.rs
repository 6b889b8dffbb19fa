//! Prints how well and how fast the utterances for testing are understood:
//! `cargo run --release --package domain --example intents`. Its output stands in `docs/intents.md`.

#[path = "train_intents/training.rs"]
#[expect(dead_code, clippy::panic, clippy::indexing_slicing, reason = "only the utterances are read here")]
mod training;

use std::io::Result;
use std::time::{Duration, Instant};

use domain::intent::model::{CLASSES, INTENTS};
use domain::intent::understand;
use domain::limits::TEXT_CHARS_MAX;

/// Times each text is understood for its time.
const TIMES: usize = 21;

/// Right answers of all.
#[derive(Default, Clone, Copy)]
struct Tally {
    right: usize,
    all: usize,
}

impl Tally {
    fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.all += 1;
    }

    fn print(self, name: &str) {
        let percent = 100.0 * self.right as f64 / self.all.max(1) as f64;
        println!("{name:<20} {percent:5.1} %  ({} of {})", self.right, self.all);
    }
}

fn main() -> Result<()> {
    let utterances: Vec<_> = training::utterances()?.into_iter().filter(|utterance| utterance.is_test).collect();
    let mut whole = Tally::default();
    let mut locales = [("ja", Tally::default()), ("en", Tally::default())];
    let mut confusion = [[0usize; CLASSES]; CLASSES];
    let mut times = Vec::new();
    for utterance in &utterances {
        let intent = understand(&utterance.text, false).intent;
        let class = INTENTS.iter().position(|other| Some(*other) == intent).unwrap_or(INTENTS.len());
        let right = class == utterance.class;
        whole.add(right);
        for (locale, tally) in &mut locales {
            if *locale == utterance.locale {
                tally.add(right);
            }
        }
        if let Some(count) = confusion.get_mut(utterance.class).and_then(|row| row.get_mut(class)) {
            *count += 1;
        }
        times.push(time(&utterance.text));
    }
    whole.print("all");
    for (locale, tally) in locales {
        tally.print(locale);
    }
    for (class, row) in confusion.iter().enumerate() {
        let right = row.get(class).copied().unwrap_or_default();
        Tally { right, all: row.iter().sum() }.print(&training::class_name(class));
    }
    let unsure: usize = confusion.iter().filter_map(|row| row.last()).sum();
    println!("\nunsure: {:.1} % of all", 100.0 * unsure as f64 / whole.all.max(1) as f64);
    println!("\nlabelled (down) and understood (across), in the order above:");
    for (class, row) in confusion.iter().enumerate() {
        let cells: String = row.iter().map(|count| format!("{count:4}")).collect();
        println!("{:<20}{cells}", training::class_name(class));
    }
    times.sort_unstable();
    let share = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    println!("\ntime: median {:?}, p99 {:?}", share(50), share(99));
    for (name, part) in
        [("Japanese", "ワンピースの3巻が1,000円以下であるか知りたいです。"), ("English", "Where is my order, please? ")]
    {
        let text: String = part.chars().cycle().take(TEXT_CHARS_MAX).collect();
        println!("time for {TEXT_CHARS_MAX} characters of {name}: {:?}", time(&text));
    }
    let all: String = utterances.iter().flat_map(|utterance| utterance.text.chars()).take(TEXT_CHARS_MAX).collect();
    println!("time for {TEXT_CHARS_MAX} characters of utterances: {:?}", time(&all));
    Ok(())
}

/// The median time it takes to understand a text.
fn time(text: &str) -> Duration {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let begun = Instant::now();
            std::hint::black_box(understand(std::hint::black_box(text), false));
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.get(TIMES / 2).copied().unwrap_or_default()
}
