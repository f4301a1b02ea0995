//! What runs in the shop's page can never reach what runs in the vault's frame.

use crate::source::{code, files};

#[test]
fn the_page_never_imports_the_frame() {
    let mut wrong = Vec::new();
    for (folder, file) in files("client-js", "js") {
        let text = code(&file);
        let imports = |place: &str| {
            text.lines().any(|line| {
                let imports =
                    line.trim_start().starts_with("import") || line.contains("} from ") || line.contains("import(");
                imports && line.contains(place)
            })
        };
        if folder == "page" && imports("frame/") {
            wrong.push(format!("{} imports the frame", file.display()));
        }
        if folder == "frame" && imports("page/") {
            wrong.push(format!("{} imports the page", file.display()));
        }
        if folder == "shared" && (imports("page/") || imports("frame/")) {
            wrong.push(format!("{} looks outward", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_client_file_posts_to_any_origin() {
    let loose: Vec<_> = files("client-js", "js")
        .into_iter()
        .filter(|(folder, file)| ["page", "frame", "shared"].contains(&folder.as_str()) && code(file).contains("\"*\""))
        .map(|(_, file)| file.display().to_string())
        .collect();
    assert!(loose.is_empty(), "postMessage names an exact origin: {loose:#?}");
}
