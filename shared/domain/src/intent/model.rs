//! How much each feature speaks for each intent.
//!
//! `data/weights.bin` is learned from labelled utterances by `cargo run -p domain --example train_intents` and is read where it
//! lies.

use super::Intent;
use super::features::Reading;

/// The intents at the positions of their weights; those of "unsure" come last.
pub const INTENTS: [Intent; 10] = [
    Intent::ProductDiscovery,
    Intent::Recommendation,
    Intent::ProductQuestion,
    Intent::Faq,
    Intent::OrderTracking,
    Intent::ReturnRequest,
    Intent::Promotion,
    Intent::CheckoutHelp,
    Intent::Escalation,
    Intent::Chitchat,
];

/// The intents and "unsure".
pub const CLASSES: usize = INTENTS.len() + 1;

/// Buckets of features by the upper bits of their hashes.
pub const BUCKETS: usize = 16_384;

/// A value for each of the [`INTENTS`], and for "unsure".
pub type Scores = [f32; CLASSES];

/// Weights of features. First what a weight of 1 is worth (f32) and what each class is worth with no feature (f32), then the
/// offsets of the buckets (u16, one more than there are buckets), then the [`lower`] halves of all features' hashes, then a
/// weight for each class (i8) of all of them. Little-endian.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    bytes: &'a [u8],
}

impl Model<'static> {
    /// The committed weights.
    pub const STORE: Model<'static> = Model { bytes: include_bytes!("../../data/weights.bin") };
}

const OFFSETS: usize = 4 * (1 + CLASSES);
const HASHES: usize = OFFSETS + 2 * (BUCKETS + 1);

impl<'a> Model<'a> {
    /// Weights that were learned.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn f32(self, position: usize) -> Option<f32> {
        Some(f32::from_le_bytes(self.bytes.get(position * 4..position * 4 + 4)?.try_into().ok()?))
    }

    fn offset(self, bucket: usize) -> Option<usize> {
        let at = OFFSETS + bucket * 2;
        Some(usize::from(u16::from_le_bytes(self.bytes.get(at..at + 2)?.try_into().ok()?)))
    }

    /// The position of a feature that has weights.
    fn position(self, hash: u32) -> Option<usize> {
        let bucket = bucket(hash);
        let (start, end) = (self.offset(bucket)?, self.offset(bucket + 1)?);
        let hashes = self.bytes.get(HASHES + start * 2..HASHES + end * 2)?;
        let found = hashes.chunks_exact(2).position(|bytes| bytes == lower(hash))?;
        Some(start + found)
    }

    fn weights(self, count: usize, position: usize) -> impl Iterator<Item = i8> {
        let at = HASHES + count * 2 + position * CLASSES;
        let weights = self.bytes.get(at..at + CLASSES).unwrap_or_default();
        weights.iter().map(|byte| i8::from_le_bytes([*byte]))
    }

    /// How likely each class is for a message; they add up to 1.
    pub fn likelihoods(self, reading: &Reading) -> Scores {
        let count = self.offset(BUCKETS).unwrap_or_default();
        let mut seen = vec![false; count];
        let mut sums = [0i32; CLASSES];
        let mut squares = 0u32;
        reading.features(|feature| {
            let Some(position) = self.position(feature.hash) else { return };
            let Some(seen) = seen.get_mut(position).filter(|seen| !**seen) else { return };
            *seen = true;
            squares += u32::from(feature.value) * u32::from(feature.value);
            for (sum, weight) in sums.iter_mut().zip(self.weights(count, position)) {
                *sum += i32::from(weight) * i32::from(feature.value);
            }
        });
        let unit = self.f32(0).unwrap_or_default() * share(squares);
        let mut scores = [0.0; CLASSES];
        for (class, (score, sum)) in scores.iter_mut().zip(sums).enumerate() {
            *score = self.f32(1 + class).unwrap_or_default() + sum as f32 * unit;
        }
        softmax(&mut scores);
        scores
    }
}

/// The bucket of a feature.
pub fn bucket(hash: u32) -> usize {
    usize::try_from(hash >> 18).unwrap_or_default()
}

/// What tells the features of a bucket apart.
pub fn lower(hash: u32) -> [u8; 2] {
    let [first, second, ..] = hash.to_le_bytes();
    [first, second]
}

/// What each feature of a message counts, by the sum of their squared values: so long messages are not surer than short ones.
pub fn share(squares: u32) -> f32 {
    1.0 / (squares.clamp(4, 100) as f32).sqrt()
}

/// Makes scores likelihoods. The same on every machine, as it only adds, multiplies and divides.
pub fn softmax(scores: &mut Scores) {
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    for score in scores.iter_mut() {
        // e^x is the limit of (1 + x/n)^n.
        let mut power = (1.0 + (*score - most) / 1024.0).max(0.0);
        for _ in 0..10 {
            power *= power;
        }
        *score = power;
    }
    let sum: f32 = scores.iter().sum();
    for score in scores.iter_mut() {
        *score /= sum;
    }
}
