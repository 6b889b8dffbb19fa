//! Series, and the products that are sold of each.

use domain::store::{Bilingual, Format};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A digital edition costs this share of the paperback, percent, rounded down to a yen.
const DIGITAL_PRICE_PERCENT: u64 = 90;

/// Digital editions do not run out; this is what their stock says.
const DIGITAL_STOCK: u32 = 999;

/// The sample stock of a paperback is below this.
const PAPERBACK_STOCK_MAX: u32 = 24;

/// The sample stock of a box set is below this.
const BOX_SET_STOCK_MAX: u32 = 6;

/// Whom a series is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgeRating {
    /// Everybody.
    All,
    /// From about 13.
    Teen,
    /// From 18: recommended only to shoppers known to be adults.
    Mature,
}

impl AgeRating {
    /// As the contract spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            AgeRating::All => "all",
            AgeRating::Teen => "teen",
            AgeRating::Mature => "mature",
        }
    }
}

/// A series as the data file and the table hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// For example `one-piece`.
    pub series_id: String,
    /// Without a volume.
    pub title: Bilingual,
    /// What shoppers also call it.
    pub aliases: Vec<String>,
    /// Writers and artists.
    pub authors: Vec<Bilingual>,
    /// Its Japanese publisher.
    pub publisher: Bilingual,
    /// Keys of the search vocabulary's genres.
    pub genres: Vec<String>,
    /// Whom it is meant for.
    pub age_rating: AgeRating,
    /// Volumes so far.
    pub volumes_published: u32,
    /// A new paperback volume, yen, tax included.
    pub price_jpy: u64,
    /// 1 to 100, the higher the more in demand.
    pub popularity: u32,
    /// First and last volume of every range that is sold in print.
    pub paperback: Vec<(u32, u32)>,
    /// First and last volume of every range that is sold as a digital edition.
    pub digital: Vec<(u32, u32)>,
    /// Whether all volumes are sold in one box.
    pub box_set: bool,
    /// What it is about.
    pub summary: Bilingual,
}

/// One thing the store sells of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    /// For example `one-piece-1`, `one-piece-1-digital`, `haikyu-box`.
    pub product_id: String,
    /// With the volume, and the form unless it is a paperback.
    pub title: Bilingual,
    /// Absent for a box set.
    pub volume: Option<u32>,
    /// How it is delivered.
    pub format: Format,
}

impl Series {
    /// Everything that is sold of the series: paperbacks, digital editions, box set, each by volume.
    pub fn editions(&self) -> impl Iterator<Item = Edition> + '_ {
        let paperbacks = volumes(&self.paperback).map(|volume| self.paperback(volume));
        let digital = volumes(&self.digital).map(|volume| self.digital(volume));
        paperbacks.chain(digital).chain(self.box_set.then(|| self.boxed()))
    }

    fn paperback(&self, volume: u32) -> Edition {
        Edition {
            product_id: format!("{}-{volume}", self.series_id),
            title: Bilingual {
                ja: format!("{} {volume}", self.title.ja),
                en: format!("{}, Vol. {volume}", self.title.en),
            },
            volume: Some(volume),
            format: Format::Paperback,
        }
    }

    fn digital(&self, volume: u32) -> Edition {
        Edition {
            product_id: format!("{}-{volume}-digital", self.series_id),
            title: Bilingual {
                ja: format!("{} {volume}（電子版）", self.title.ja),
                en: format!("{}, Vol. {volume} (digital)", self.title.en),
            },
            volume: Some(volume),
            format: Format::Digital,
        }
    }

    fn boxed(&self) -> Edition {
        Edition {
            product_id: format!("{}-box", self.series_id),
            title: Bilingual {
                ja: format!("{} 全{}巻ボックスセット", self.title.ja, self.volumes_published),
                en: format!("{} Box Set (Vols. 1–{})", self.title.en, self.volumes_published),
            },
            volume: None,
            format: Format::BoxSet,
        }
    }

    /// The sample price of an edition, yen. A box costs what its volumes cost.
    pub fn price_jpy_of(&self, format: Format) -> u64 {
        match format {
            Format::Paperback => self.price_jpy,
            Format::Digital => self.price_jpy * DIGITAL_PRICE_PERCENT / 100,
            Format::BoxSet => self.price_jpy * u64::from(self.volumes_published),
        }
    }
}

impl Edition {
    /// The sample stock: a fixed number drawn from the product's id, so that it is the same wherever the store is
    /// seeded and some products are sold out.
    pub fn sample_stock(&self) -> u32 {
        let draw = u32::from_be_bytes(Sha256::digest(&self.product_id).first_chunk().copied().unwrap_or_default());
        match self.format {
            Format::Paperback => draw % PAPERBACK_STOCK_MAX,
            Format::Digital => DIGITAL_STOCK,
            Format::BoxSet => draw % BOX_SET_STOCK_MAX,
        }
    }
}

fn volumes(ranges: &[(u32, u32)]) -> impl Iterator<Item = u32> + '_ {
    ranges.iter().flat_map(|&(first, last)| first..=last)
}
