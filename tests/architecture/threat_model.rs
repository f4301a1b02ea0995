//! The threat model names tests, and they exist.

use std::fs;

use super::source;

#[test]
fn every_test_the_threat_model_names_exists() {
    let model = fs::read_to_string(source::base("threat-model.md")).unwrap();
    let mut sources = String::new();
    for (root, ending) in [("vault/src", "rs"), ("tests", "rs"), ("tests", "js"), ("client-js", "js")] {
        for (_, file) in source::files(root, ending) {
            sources.push_str(&fs::read_to_string(file).unwrap());
        }
    }
    let (mut wrong, mut named) = (Vec::new(), 0);
    for line in model.lines().filter(|line| line.starts_with("| ") && !line.contains("---")) {
        let Some(cell) = line.trim_end().trim_end_matches('|').rsplit(" | ").next() else { continue };
        for name in cell.split('`').skip(1).step_by(2) {
            named += 1;
            let rust = sources.contains(&format!("fn {name}("));
            let sentence = name.replace('_', " ");
            if !rust && !sources.contains(&format!("'{sentence}'")) && !sources.contains(&format!("\"{sentence}\"")) {
                wrong.push(name.to_owned());
            }
        }
    }
    assert!(wrong.is_empty(), "no test of this name: {wrong:#?}");
    assert!(named > 20, "the threat model names its tests");
}
