//! `web/index.html`: the page's own policy lets its script and style run.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::stack::repository;

#[test]
fn the_policy_names_the_script_and_the_style_by_their_hashes() {
    let page = fs::read_to_string(repository().join("web/index.html")).unwrap();
    for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
        let start = format!("<{element}>");
        let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("{start} is missing"));
        let (content, _) = rest.split_once(&format!("</{element}>")).expect("the element ends");
        let hash = STANDARD.encode(Sha256::digest(content.as_bytes()));
        assert!(page.contains(&format!("{directive} 'sha256-{hash}'")), "{directive} must be 'sha256-{hash}'");
    }
}
