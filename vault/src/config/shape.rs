//! What is wrong with the shape of a file of settings: which setting, on which line, and what it may be. Never what stands there.

use std::io::ErrorKind;

/// What each setting may be. A test holds it to docs/siv.toml.
const ALLOWED: &[(&str, &str)] = &[
    ("database", "\"sqlite:/path/to/siv.db\" or \"postgres://user@host/database?sslmode=verify-full\""),
    ("migration_lock", "true or false"),
    ("read_replica", "\"postgres://user@host/database?sslmode=verify-full\""),
    ("key_store", "\"dir:/path/to/key-store\" or \"postgres://user@host/database?sslmode=verify-full\""),
    ("root_key", "\"systemd:NAME\", \"file:/path\", \"passphrase-file:/path\" or \"sealed\""),
    ("kek_rotation_days", "a whole number from 1 to 65535"),
    ("realm", "1 to 63 small letters, digits and hyphens in quotes, beginning with a letter or digit, like \"eu\""),
    ("node", "a name in quotes of letters, digits, hyphens and dots, like \"node-1\""),
    ("public_url", "the exact origin browsers see, like \"https://vault.example\""),
    ("plain_capture", "true or false"),
    ("trusted_proxies", "a list of nets, each an address with the length of its prefix, like [\"10.0.0.5/32\"]"),
    ("hsm_modules", "a list of absolute paths, like [\"/opt/vendor/lib/pkcs11.so\"]"),
    ("hsm_workers", "a whole number from 1 to 65535"),
    ("hsm_lost_after_seconds", "a whole number from 5 to 45"),
    ("drain_seconds", "a whole number from 0 to 300"),
    ("log_level", "\"error\", \"warn\", \"info\", \"debug\" or \"trace\""),
    ("public", "a table with address, and tls_certificate and tls_key or behind_proxy"),
    ("public.address", ADDRESS),
    ("public.tls_certificate", "the path of a file in quotes"),
    ("public.tls_key", "the path of a file in quotes"),
    ("public.behind_proxy", "true or false"),
    ("private", "a table with address, and tls_certificate and tls_key or behind_proxy"),
    ("private.address", ADDRESS),
    ("private.tls_certificate", "the path of a file in quotes"),
    ("private.tls_key", "the path of a file in quotes"),
    ("private.behind_proxy", "true or false"),
    ("limits", "a table of whole numbers"),
    ("limits.connections", "a whole number, 0 or more"),
    ("limits.requests", "a whole number, 1 or more"),
    ("limits.request_seconds", "a whole number from 1 to 300"),
    ("limits.requests_per_second", COUNT),
    ("limits.captures_per_minute", COUNT),
    ("limits.open_sessions_per_minute", COUNT),
    ("limits.credential_per_second", COUNT),
];
const ADDRESS: &str =
    "an IP address with a port, like \"127.0.0.1:8081\" or \"[::1]:8081\"; names of hosts are not looked up";
const COUNT: &str = "a whole number from 1 to 4294967295";

/// What a setting may be.
pub(super) fn allowed(name: &str) -> &'static str {
    ALLOWED.iter().find(|(known, _)| *known == name).map_or("what docs/siv.toml says", |(_, allowed)| allowed)
}

/// What is wrong with a text, in one line.
pub(super) fn fault(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..start).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let lines: Vec<&str> = text.lines().take(number).collect();
    if let Some(name) = quoted(message, "missing field ") {
        let full = full_name(&lines, name);
        return format!("{full} is missing: set it to {}", allowed(&full));
    }
    if let Some(name) = quoted(message, "unknown field ") {
        return format!("line {number}: there is no setting `{name}`: mend its spelling or take it away");
    }
    if toml::from_str::<toml::Table>(text).is_err() {
        let what = if message.contains("duplicate key") { "a setting comes twice" } else { "this is not TOML" };
        return format!("line {number}: {what}; texts stand in \"quotes\", tables begin with a line like [public]");
    }
    // A value may go over several lines: its setting is the nearest one above.
    let named = lines.iter().rev().find_map(|line| {
        let name = line.split_once('=')?.0.trim().trim_matches('"');
        let full = full_name(&lines, name);
        ALLOWED.iter().any(|(known, _)| *known == full).then_some(full)
    });
    match named.or_else(|| table(&lines).map(str::to_owned)) {
        Some(name) => format!("line {number}: {name}: set it to {}", allowed(&name)),
        None => format!("line {number}: wrong type"),
    }
}

/// Why a file cannot be read, in words of ours.
pub(super) fn unreadable(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        other => other.to_string(),
    }
}

/// What stands between backticks behind `begin`.
fn quoted<'a>(message: &'a str, begin: &str) -> Option<&'a str> {
    message.strip_prefix(begin)?.strip_prefix('`')?.split('`').next()
}

/// The table the last of the lines stands in.
fn table<'a>(lines: &[&'a str]) -> Option<&'a str> {
    lines.iter().rev().find_map(|line| line.trim().strip_prefix('[')?.split(']').next())
}

/// A setting with the table it stands in.
fn full_name(lines: &[&str], name: &str) -> String {
    let inside = table(lines).map(|table| format!("{table}.{name}"));
    let known = |full: &String| ALLOWED.iter().any(|(known, _)| known == full);
    inside.filter(known).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_sample_says_what_it_may_be_and_no_other_does() {
        let sample = include_str!("../../../docs/siv.toml");
        let (mut there, mut inside) = (Vec::new(), String::new());
        for line in sample.lines() {
            let line = line.trim_start_matches(['#', ' ']);
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                there.push(name.to_owned());
                inside = format!("{name}.");
            } else if let Some((name, _)) = line.split_once(" = ").or_else(|| line.split_once("  = ")) {
                let name = name.trim();
                if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                    there.push(format!("{inside}{name}"));
                }
            }
        }
        // Said once in the sample, for both listeners.
        there.push("private.behind_proxy".to_owned());
        let mut known: Vec<_> = ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
        there.sort_unstable();
        known.sort_unstable();
        assert_eq!(there, known);
    }
}
