//! Migrations are numbered without gaps, the same in every engine's folder.
//!
//! Until the first release the first one is still edited in place; with the release their hashes are pinned here, and an
//! edit of a released file then fails.

use std::fs;

use super::source;

#[test]
fn migrations_are_numbered_without_gaps() {
    let engines = fs::read_dir(source::base("vault/migrations")).unwrap();
    let mut first: Option<Vec<String>> = None;
    for engine in engines.map(|entry| entry.unwrap().path()) {
        let names = fs::read_dir(&engine).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        assert!(!names.is_empty(), "{}", engine.display());
        for (at, name) in names.iter().enumerate() {
            let numbered = name.starts_with(&format!("{:04}_", at + 1)) && name.ends_with(".sql");
            assert!(numbered, "{}/{name}: number {} is expected", engine.display(), at + 1);
        }
        assert_eq!(first.get_or_insert_with(|| names.clone()), &names, "{}", engine.display());
    }
    assert!(first.is_some(), "there are migrations");
}
