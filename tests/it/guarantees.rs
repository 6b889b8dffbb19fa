//! What docs/guarantees.md promises is held by tests of these names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::stack::repository;

/// What is written like a test's name and is none.
const OTHER_NAMES: [&str; 1] = ["follow_up_id"];

/// The names of all functions in the Rust files below a folder.
fn functions_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source file");
            let defined = source.split("fn ").skip(1).filter_map(|rest| rest.split_once('(')).map(|(name, _)| name);
            names.extend(defined.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_holds_a_promise_exists() {
    let mut functions = BTreeSet::new();
    for folder in ["functions", "gateway", "local", "shared", "tests"] {
        functions_below(&repository().join(folder), &mut functions);
    }
    let text = fs::read_to_string(repository().join("docs/guarantees.md")).expect("the promises");
    let of_name = |byte: u8| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = |word: &&str| word.contains('_') && word.bytes().all(of_name);
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() > 50, "{named:?}");
    let missing: Vec<&str> =
        named.into_iter().filter(|name| !OTHER_NAMES.contains(name) && !functions.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
