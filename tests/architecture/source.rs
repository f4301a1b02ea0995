//! Reads the source tree as text. It does not see macros, re-exports, block comments or `use sqlx as …`.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder beside the tests' crate.
pub(crate) fn base(root: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(root)
}

/// True if `text` holds `path` as a path of its own, not as part of a longer one.
pub(crate) fn names(text: &str, path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].trim_end_matches("::").chars().next_back();
        let after = text[at + path.len()..].chars().next();
        !before.is_some_and(word) && (path.ends_with(':') || !after.is_some_and(word))
    })
}

/// The file's text without comment lines.
pub(crate) fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The code without what is for tests only; nothing of a file that is a module for tests only.
pub(crate) fn shipped(file: &Path) -> String {
    if file.ancestors().any(is_for_tests) {
        return String::new();
    }
    without_test_items(&code(file))
}

/// Leaves out every item under `#[cfg(test)]`, and only that: what stands after it is shipped.
fn without_test_items(text: &str) -> String {
    let (mut kept, mut lines) = (Vec::new(), text.lines());
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        // rustfmt closes an item at the depth where it opened it; until then it is longer than one line.
        let indent = &line[..line.len() - line.trim_start().len()];
        let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
        if item.is_some_and(|item| !item.ends_with(';') && !item.ends_with('}')) {
            let closes = |line: &str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with(['}', ')', ']']));
            let _ = lines.by_ref().find(|line| closes(line) && !line.ends_with('{'));
        }
    }
    kept.join("\n")
}

/// True if the module around this file or folder declares it under `#[cfg(test)]`.
fn is_for_tests(path: &Path) -> bool {
    let (Some(folder), Some(name)) = (path.parent(), path.file_stem().and_then(|stem| stem.to_str())) else {
        return false;
    };
    [folder.join("mod.rs"), folder.with_extension("rs")].iter().filter_map(|file| fs::read_to_string(file).ok()).any(
        |text| {
            let declared = |line: &str| line == format!("mod {name};") || line.ends_with(&format!(" mod {name};"));
            text.lines().zip(text.lines().skip(1)).any(|(before, line)| before == "#[cfg(test)]" && declared(line))
        },
    )
}

/// Every file under `root` that ends so, with the room (first folder or file stem) it lives in.
pub(crate) fn files(root: &str, ending: &str) -> Vec<(String, PathBuf)> {
    let (mut found, mut folders) = (Vec::new(), vec![base(root)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("node_modules") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let first = path.strip_prefix(base(root)).unwrap().iter().next().unwrap();
                let room = Path::new(first).with_extension("");
                found.push((room.to_str().unwrap().to_owned(), path));
            }
        }
    }
    assert!(!found.is_empty(), "no .{ending} file under {root}");
    found.sort();
    found
}

#[test]
fn what_stands_behind_a_test_item_is_still_looked_at() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[path = \"x\"]\nmod more {\n    fn b() {\n    }\n}\n\
        impl X {\n    #[cfg(test)]\n    fn c(\n        y: u8,\n    ) {\n        d();\n    }\n    fn e() {}\n}";
    assert_eq!(without_test_items(text), "fn a() {}\nimpl X {\n    fn e() {}\n}");
}
