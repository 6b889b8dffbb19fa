//! Learns which words, runs of characters and cues speak for which intent: multinomial logistic regression by Adagrad. It
//! draws no random numbers but from a seed and uses no function that differs between machines, so that the same files always
//! give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Result;
use std::path::{Path, PathBuf};

use domain::intent::features::{Feature, Reading};
use domain::intent::model::{self, CLASSES, INTENTS, Scores};
use domain::intent::phrases::{self, Kind, Phrases};

/// A katakana title shorter than this is not recognised in hiragana.
const KANA_FOLDED_CHARS_MIN: usize = 4;

/// Utterances with a feature for it to have weights.
const UTTERANCES_MIN: usize = 2;

/// Times all utterances are learned from.
const ROUNDS: usize = 10;

/// How far one utterance moves the weights.
const RATE: f32 = 0.35;

/// What draws every weight back to nothing, each time it is moved.
const DECAY: f32 = 2e-4;

/// The greatest weight as it is stored: finer ones understand no better and make the packages larger.
const WEIGHT_MAX: i8 = 31;

/// Pairs of utterances with different wishes, which together are unsure.
const PAIRS: usize = 120;

/// An utterance with its label.
#[derive(Debug, Clone)]
pub struct Utterance {
    /// Whether it is for testing.
    pub is_test: bool,
    /// `ja` or `en`.
    pub locale: String,
    /// The position of its intent, or after them for unsure.
    pub class: usize,
    /// What was said.
    pub text: String,
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files that are made, with what they hold.
pub fn all() -> Result<[(PathBuf, Vec<u8>); 2]> {
    let phrases = phrases()?;
    let mut utterances = utterances()?;
    utterances.retain(|utterance| !utterance.is_test);
    let weights = weights(Phrases::new(&phrases), &utterances)?;
    Ok([(path("data/phrases.bin"), phrases), (path("data/weights.bin"), weights)])
}

/// The lines of a table, without its heading, in cells.
fn table(name: &str) -> Result<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(path(name))?;
    Ok(text
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect())
}

/// The name of a class.
pub fn class_name(class: usize) -> String {
    let intent = INTENTS.get(class).and_then(|intent| serde_json::to_value(intent).ok());
    intent.as_ref().and_then(|name| name.as_str()).unwrap_or("unsure").to_owned()
}

/// The labelled utterances.
pub fn utterances() -> Result<Vec<Utterance>> {
    let mut utterances = Vec::new();
    for name in [
        "../../tests/data/intents.tsv",
        "../../tests/data/intents_more.tsv",
        "../../tests/data/intents_ja.tsv",
        "../../tests/data/intents_en.tsv",
    ] {
        for row in table(name)? {
            let [split, locale, intent, text] = row.as_slice() else { panic!("{name}: {row:?} has not four cells") };
            let class = (0..CLASSES).find(|class| class_name(*class) == *intent);
            utterances.push(Utterance {
                is_test: split == "test",
                locale: locale.clone(),
                class: class.unwrap_or_else(|| panic!("{name}: no intent is called {intent}")),
                text: text.clone(),
            });
        }
    }
    Ok(utterances)
}

/// The table of phrases, as [`Phrases`] describes it.
pub fn phrases() -> Result<Vec<u8>> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut records: BTreeSet<(usize, String, u8, String)> = BTreeSet::new();
    for (file, kind) in [
        ("polite", Kind::Polite),
        ("cues", Kind::Cue),
        ("genres", Kind::Genre),
        ("series", Kind::Series),
        ("authors", Kind::Author),
        ("this", Kind::This),
    ] {
        for row in table(&format!("data/{file}.tsv"))? {
            let [name, said @ ..] = row.as_slice() else { continue };
            names.insert(name.clone());
            for phrase in said.iter().flat_map(|cell| cell.split('|')) {
                let compared = domain::intent::Normal::of_text(phrase);
                let chars: Vec<char> = compared.chars().collect();
                let [first, second, ..] = chars.as_slice() else { continue };
                let katakana = phrase.chars().all(|char| ('ァ'..='ヾ').contains(&char));
                let is_short = katakana && chars.len() < KANA_FOLDED_CHARS_MIN;
                let kind = if kind == Kind::Series && is_short { Kind::SeriesInKatakana } else { kind };
                let position = Kind::ALL.iter().position(|other| *other == kind).unwrap_or_default() as u8;
                records.insert((phrases::bucket(*first, *second), compared.clone(), position, name.clone()));
            }
        }
    }
    let mut texts = Vec::new();
    let mut name_offsets = Vec::new();
    for name in &names {
        name_offsets.push(texts.len() as u32);
        texts.extend_from_slice(name.as_bytes());
    }
    name_offsets.push(texts.len() as u32);
    let mut rows = Vec::new();
    let mut counts = vec![0u16; phrases::BUCKETS];
    for (bucket, phrase, kind, name) in &records {
        counts[*bucket] += 1;
        rows.extend((texts.len() as u32).to_le_bytes());
        rows.extend((phrase.len() as u16).to_le_bytes());
        rows.extend([*kind, phrases::third(phrase.chars().nth(2))]);
        let name = names.iter().position(|other| other == name).unwrap_or_default();
        rows.extend((name as u16).to_le_bytes());
        texts.extend_from_slice(phrase.as_bytes());
    }
    let mut bytes = offsets(&counts);
    bytes.extend((names.len() as u16).to_le_bytes());
    bytes.extend(name_offsets.iter().flat_map(|offset| offset.to_le_bytes()));
    bytes.extend((records.len() as u16).to_le_bytes());
    bytes.extend(rows);
    bytes.extend(texts);
    Ok(bytes)
}

/// Where each bucket begins, and the last ends.
fn offsets(counts: &[u16]) -> Vec<u8> {
    let mut offset = 0u16;
    let mut bytes = offset.to_le_bytes().to_vec();
    for count in counts {
        offset += count;
        bytes.extend(offset.to_le_bytes());
    }
    bytes
}

/// Numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// An utterance as it is learned from.
struct Lesson {
    class: usize,
    features: Vec<(usize, f32)>,
}

/// Weights learned from utterances, as [`model::Model`] describes them.
pub fn weights(phrases: Phrases<'_>, utterances: &[Utterance]) -> Result<Vec<u8>> {
    let as_written = utterances.len();
    let utterances = varied(utterances)?;
    let read: Vec<(usize, BTreeSet<Feature>)> = utterances
        .iter()
        .map(|(class, text)| {
            let mut features = BTreeSet::new();
            Reading::of(text, false, phrases).features(|feature| {
                features.insert(feature);
            });
            (*class, features)
        })
        .collect();
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for feature in read.iter().take(as_written).flat_map(|(_, features)| features) {
        *counts.entry(feature.hash).or_default() += 1;
    }
    counts.retain(|_, count| *count >= UTTERANCES_MIN);
    let positions: BTreeMap<u32, usize> = counts.keys().enumerate().map(|(position, hash)| (*hash, position)).collect();
    let mut lessons: Vec<Lesson> = read
        .iter()
        .map(|(class, features)| {
            let known: Vec<(usize, u8)> =
                features.iter().filter_map(|feature| Some((*positions.get(&feature.hash)?, feature.value))).collect();
            let squares = known.iter().map(|(_, value)| u32::from(*value) * u32::from(*value)).sum();
            let share = model::share(squares);
            Lesson {
                class: *class,
                features: known.iter().map(|(at, value)| (*at, f32::from(*value) * share)).collect(),
            }
        })
        .collect();
    let (weights, biases) = learn(&mut lessons, positions.len());
    Ok(packed(&positions, &weights, &biases))
}

fn learn(lessons: &mut [Lesson], features: usize) -> (Vec<Scores>, Scores) {
    let mut random = Random(7);
    let mut weights: Vec<Scores> = vec![[0.0; CLASSES]; features];
    let mut moved: Vec<Scores> = vec![[1e-2; CLASSES]; features];
    let mut biases: Scores = [0.0; CLASSES];
    for round in 0..ROUNDS {
        let rate = RATE / (1.0 + round as f32 * 0.2);
        for last in (1..lessons.len()).rev() {
            lessons.swap(last, random.below(last + 1));
        }
        for lesson in lessons.iter() {
            let mut errors = biases;
            for (at, value) in &lesson.features {
                for (score, weight) in errors.iter_mut().zip(&weights[*at]) {
                    *score += weight * value;
                }
            }
            model::softmax(&mut errors);
            errors[lesson.class] -= 1.0;
            for (bias, error) in biases.iter_mut().zip(&errors) {
                *bias -= 0.01 * error;
            }
            for (at, value) in &lesson.features {
                for ((weight, moved), error) in weights[*at].iter_mut().zip(&mut moved[*at]).zip(&errors) {
                    let slope = error * value + DECAY * *weight;
                    *moved += slope * slope;
                    *weight -= rate * slope / moved.sqrt();
                }
            }
        }
    }
    (weights, biases)
}

fn packed(positions: &BTreeMap<u32, usize>, weights: &[Scores], biases: &Scores) -> Vec<u8> {
    let greatest = weights.iter().flatten().fold(1e-6f32, |most, weight| most.max(weight.abs()));
    let unit = greatest / f32::from(WEIGHT_MAX);
    let rounded = |weights: &Scores| weights.map(|weight| (weight / unit).round() as i8);
    let kept: Vec<(u32, [i8; CLASSES])> = positions
        .iter()
        .map(|(hash, at)| (*hash, rounded(&weights[*at])))
        .filter(|(_, weights)| weights.iter().any(|weight| *weight != 0))
        .collect();
    let mut bytes: Vec<u8> = unit.to_le_bytes().to_vec();
    bytes.extend(biases.iter().flat_map(|bias| bias.to_le_bytes()));
    let mut counts = vec![0u16; model::BUCKETS];
    for (hash, _) in &kept {
        counts[model::bucket(*hash)] += 1;
    }
    bytes.extend(offsets(&counts));
    bytes.extend(kept.iter().flat_map(|(hash, _)| model::lower(*hash)));
    bytes.extend(kept.iter().flat_map(|(_, weights)| weights.map(|weight| weight.to_le_bytes()[0])));
    bytes
}

/// Utterances, and again with typing errors and with something said around them that does not change what is wanted.
fn varied(utterances: &[Utterance]) -> Result<Vec<(usize, String)>> {
    let mut random = Random(1);
    let around = table("../../tests/data/intents_around.tsv")?;
    let said = |locale: &str, place: &str| -> Vec<&str> {
        let rows = around.iter().filter(|row| {
            row.first().is_some_and(|cell| cell == locale) && row.get(1).is_some_and(|cell| cell == place)
        });
        rows.filter_map(|row| row.get(2)).map(String::as_str).collect()
    };
    let mut varied: Vec<(usize, String)> =
        utterances.iter().map(|utterance| (utterance.class, utterance.text.clone())).collect();
    for Utterance { locale, class, text, .. } in utterances {
        let unsure = *class == CLASSES - 1;
        let chitchat = *class == CLASSES - 2;
        if locale == "en" {
            varied.push((*class, mistyped(text, &mut random)));
        }
        if !unsure && !chitchat {
            let (before, after) = (said(locale, "before"), said(locale, "after"));
            let space = if locale == "en" { " " } else { "" };
            let first = before[random.below(before.len())];
            let second = before[random.below(before.len())];
            let last = after[random.below(after.len())];
            varied.push((*class, format!("{first}{space}{text}")));
            varied.push((*class, format!("{second}{space}{first}{space}{text}{space}{last}")));
        }
    }
    let short: Vec<&Utterance> = utterances
        .iter()
        .filter(|utterance| utterance.class < CLASSES - 2 && utterance.text.chars().count() < 40)
        .collect();
    for _ in 0..PAIRS {
        let (one, other) = (short[random.below(short.len())], short[random.below(short.len())]);
        if one.class != other.class && one.locale == other.locale {
            let joints: &[&str] = match one.locale.as_str() {
                "en" => &[" and also ", ", and another thing: ", " and at the same time ", ", both equally: "],
                _ => &["のと、あと", "。それと", "、それから同じくらい", "、両方："],
            };
            let joint = joints[random.below(joints.len())];
            varied.push((CLASSES - 1, format!("{}{joint}{}", one.text, other.text)));
        }
    }
    Ok(varied)
}

/// A text with one letter of a longer word left out, doubled or swapped with the next.
fn mistyped(text: &str, random: &mut Random) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let long: Vec<usize> =
        words.iter().enumerate().filter(|(_, word)| word.is_ascii() && word.len() >= 5).map(|(at, _)| at).collect();
    if !long.is_empty() {
        let word = &mut words[long[random.below(long.len())]];
        let at = 1 + random.below(word.len() - 2);
        let mut chars: Vec<char> = word.chars().collect();
        match random.below(3) {
            0 => drop(chars.remove(at)),
            1 => chars.swap(at, at + 1),
            _ => chars[at] = chars[at - 1],
        }
        *word = chars.into_iter().collect();
    }
    words.join(" ")
}
