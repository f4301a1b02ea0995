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
    let (mut wrong, mut calls) = (Vec::new(), 0);
    for (folder, file) in files("client-js", "js") {
        if !["page", "frame", "shared"].contains(&folder.as_str()) {
            continue;
        }
        let text = code(&file);
        calls += text.matches("postMessage").count();
        wrong.extend(loose(&text).into_iter().map(|call| format!("{}: {call}", file.display())));
    }
    assert!(wrong.is_empty(), "a message to a window names an exact origin: {wrong:#?}");
    assert!(calls >= 3, "the client posts messages");
}

/// Every use of `postMessage` that is neither a port's nor names one exact origin as its second argument.
fn loose(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, word) in text.match_indices("postMessage") {
        let receiver = text[..at].trim_end_matches(['.', '?']);
        let to_a_port = receiver.ends_with("port") || receiver.ends_with("Port");
        let rest = &text[at + word.len()..];
        let arguments = rest.strip_prefix('(').map(arguments).unwrap_or_default();
        let target = arguments.get(1).map_or("", |target| target.trim());
        let exact = !target.is_empty() && !target.starts_with(['\'', '"', '`', '{', '[']);
        if !to_a_port && !exact {
            found.push(text[at..].lines().next().unwrap_or_default().to_owned());
        }
    }
    found
}

/// The arguments of a call, from behind its opening bracket.
fn arguments(text: &str) -> Vec<String> {
    let (mut all, mut depth, mut quote) = (vec![String::new()], 0, None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (None, '\'' | '"' | '`') => quote = Some(letter),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')') if depth == 0 => return all,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = all.last_mut() {
            last.push(letter);
        }
    }
    all
}

#[test]
fn a_message_to_any_origin_would_be_seen_in_every_spelling() {
    for wrong in [
        "parent.postMessage(x, '*')",
        "parent.postMessage(x, \"*\")",
        "frame.contentWindow?.postMessage({ a: [1, 2] }, `*`, [port])",
        "window.parent.postMessage(x)",
        "parent.postMessage(x, { targetOrigin: '*' })",
        "const post = parent.postMessage;",
        "parent.postMessage(',', '/')",
    ] {
        assert_eq!(loose(wrong).len(), 1, "{wrong}");
    }
    for right in ["this.#port?.postMessage({ type, ...rest })", "frame.postMessage({ a: 1, b: [2, 3] }, VAULT, [port])"]
    {
        assert_eq!(loose(right), Vec::<String>::new(), "{right}");
    }
}
