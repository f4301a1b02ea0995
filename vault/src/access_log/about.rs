//! What an entry is about, in a few words for a list: the version of a key, its token and what became of it, the row that was
//! changed, the tenant.
//!
//! It reads the JSON that readers are given; what is not there is not said.

use serde_json::Value;

/// The words; nothing where the other columns say it all.
#[must_use]
pub fn about(entry: &Value) -> String {
    let fact = |name: &str| entry["facts"][name].as_str();
    let mut parts = Vec::new();
    // An act that takes two: what was asked for.
    parts.extend(fact("act").map(str::to_owned));
    parts.extend(version(entry));
    parts.extend(row(entry));
    parts.extend(left(entry));
    parts.extend(fact("ofTokens").map(|tokens| format!("in token {tokens}")));
    let token = fact("tokenLabel").or_else(|| fact("tokenSerial")).filter(|token| !token.is_empty());
    parts.extend(match (fact("act"), token) {
        // Where the next version is made: another place than where the present one lies.
        (Some("leave-token"), Some(token)) => Some(format!("to token {token}")),
        (Some("leave-token"), None) if fact("keyProvider") == Some("local") => Some("to the built-in KMS".to_owned()),
        // Said already.
        (Some(_), _) if fact("ofTokens").is_some() => None,
        (_, token) => token.map(|token| format!("token {token}")),
    });
    parts.extend(fact("seconds").map(|seconds| format!("{seconds} s")));
    // What was refused.
    parts.extend(fact("asked").map(str::to_owned));
    // A copy in the installation's log.
    parts.extend(fact("tenant").map(|tenant| format!("tenant {tenant}")));
    parts.extend(fact("how").map(str::to_owned));
    let of_provider = entry["action"].as_str().is_some_and(|action| action.starts_with("key.provider."));
    parts.extend(fact("why").filter(|_| of_provider).map(str::to_owned));
    parts.join(", ")
}

/// The version of a key, and the key.
fn version(entry: &Value) -> Option<String> {
    let fact = |name: &str| entry["facts"][name].as_str();
    let row = entry["object"]["key"].as_str().filter(|_| entry["object"]["table"] == "keks");
    let named = row.or_else(|| fact("kek")).and_then(|kek| kek.rsplit_once('.'));
    let key = named.map(|(key, _)| key).or_else(|| entry["kekId"].as_str());
    match (named.map(|(_, version)| version).or_else(|| fact("version")), key) {
        (Some(version), Some(key)) => Some(format!("version {version} of {}", short(key))),
        (Some(version), None) => Some(format!("version {version}")),
        // Of what was sealed with a key its entry need not remind.
        (None, Some(key)) if is_of_keys(entry) => Some(format!("key {}", short(key))),
        _ => fact("keks").map(|keks| match keks.split(' ').count() {
            1 => "1 version".to_owned(),
            count => format!("{count} versions"),
        }),
    }
}

fn is_of_keys(entry: &Value) -> bool {
    entry["action"].as_str().is_some_and(|action| action.starts_with("key."))
}

/// What a rewrap left, which is the proof that it is done, and how many data keys each version has now.
fn left(entry: &Value) -> Option<String> {
    let left = entry["count"].as_u64().filter(|_| entry["action"] == "key.rewrap.ended")?;
    let mut text = format!("{left} left elsewhere");
    for reference in entry["facts"]["references"].as_str().unwrap_or_default().split(' ') {
        let Some((key, version, count)) = parted(reference) else { continue };
        text.extend([", ", count, " under version ", version]);
        if entry["kekId"] != key {
            text.extend([" of ", &short(key)]);
        }
    }
    Some(text)
}

/// `id.version=count`.
fn parted(reference: &str) -> Option<(&str, &str, &str)> {
    let (kek, count) = reference.split_once('=')?;
    let (key, version) = kek.rsplit_once('.')?;
    Some((key, version, count))
}

/// The row that was changed, where it is no key's; of a credential, which the installation's log names too, of which kind.
fn row(entry: &Value) -> Option<String> {
    let fact = |name: &str| entry["facts"][name].as_str();
    if let (Some(kind), Some(id)) = (fact("credentialKind"), fact("credentialId")) {
        return Some(format!("{kind} credential {}", short(id)));
    }
    let noun = match entry["object"]["table"].as_str()? {
        "tenants" => "tenant",
        "apps" => "app",
        "flows" => "flow",
        "destinations" => "destination",
        "credentials" => "credential",
        _ => return None,
    };
    Some(format!("{noun} {}", short(entry["object"]["key"].as_str()?)))
}

/// An id cut in the middle: beginning and end are what people compare. A name stays as it is.
#[must_use]
pub fn short(id: &str) -> String {
    let is_id = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    match (id.get(..8), id.get(32..)) {
        (Some(start), Some(end)) if is_id => format!("{start}…{end}"),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "01a2146f-03b7-7be0-9a4f-1c5d0c9f2b11";

    #[test]
    fn an_act_on_a_key_says_which_version_in_which_token() {
        let object = json!({ "table": "keks", "key": format!("{KEY}.2"), "version": 1 });
        let facts = json!({ "tokenLabel": "acme", "tokenSerial": "17" });
        let made = json!({ "action": "key.kek.rotated", "kekId": KEY, "object": object, "facts": facts });
        assert_eq!(about(&made), "version 2 of 01a2146f…2b11, token acme");
        // The installation's copy names the tenant and no row.
        let facts = json!({ "version": "2", "tokenSerial": "17", "tenant": "acme" });
        let copy = json!({ "action": "key.kek.destroyed", "kekId": KEY, "facts": facts });
        assert_eq!(about(&copy), "version 2 of 01a2146f…2b11, token 17, tenant acme");
        let asked = json!({ "action": "key.approval.requested", "facts": { "act": "lose-version", "kek": format!("{KEY}.1") },
            "object": { "table": "approvals", "key": KEY } });
        assert_eq!(about(&asked), "lose-version, version 1 of 01a2146f…2b11");
        let leaves = |more: Value| {
            let mut facts = json!({ "act": "leave-token", "kek": format!("{KEY}.1"), "ofTokens": "acme" });
            facts.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            about(&json!({ "action": "key.approval.requested", "facts": facts }))
        };
        let from = "leave-token, version 1 of 01a2146f…2b11, in token acme";
        assert_eq!(leaves(json!({ "keyProvider": "hsm", "tokenLabel": "next" })), format!("{from}, to token next"));
        assert_eq!(leaves(json!({ "keyProvider": "local" })), format!("{from}, to the built-in KMS"));
        let shred = json!({ "action": "key.approval.given", "facts": { "act": "shred-tenant", "keks": "a.1 a.2" } });
        assert_eq!(about(&shred), "shred-tenant, 2 versions");
    }

    #[test]
    fn the_end_of_a_rewrap_says_what_is_left_and_where_all_are() {
        let references = format!("{KEY}.1=5 {KEY}.2=3 01a2146f-03b7-7be0-9a4f-1c5d0c9f2b12.1=1");
        let ended =
            json!({ "action": "key.rewrap.ended", "kekId": KEY, "count": 5, "facts": { "references": references } });
        let text = "key 01a2146f…2b11, 5 left elsewhere, 5 under version 1, 3 under version 2, 1 under version 1 of 01a2146f…2b12";
        assert_eq!(about(&ended), text);
        let done = json!({ "action": "key.rewrap.ended", "kekId": KEY, "count": 0, "facts": { "references": "", "tenant": "acme" } });
        assert_eq!(about(&done), "key 01a2146f…2b11, 0 left elsewhere, tenant acme");
    }

    #[test]
    fn what_happened_at_a_token_says_which_token_which_version_and_why() {
        let facts = json!({ "kek": format!("{KEY}.2"), "tokenLabel": "acme", "why": "the key is missing" });
        let alarm = json!({ "action": "key.provider.alarm", "facts": facts });
        assert_eq!(about(&alarm), "version 2 of 01a2146f…2b11, token acme, the key is missing");
        let facts = json!({ "tokenSerial": "17", "why": "C_Initialize: GeneralError", "tenant": "acme" });
        let away = json!({ "action": "key.provider.unavailable", "facts": facts });
        assert_eq!(about(&away), "token 17, tenant acme, C_Initialize: GeneralError");
    }

    #[test]
    fn an_administrative_act_names_its_row_and_a_value_nothing_twice() {
        let applied = json!({ "action": "admin.flow.applied", "object": { "table": "flows", "key": "charge-card" } });
        assert_eq!(about(&applied), "flow charge-card");
        // The installation's copy has no row, and names it all the same.
        let facts = json!({ "credentialKind": "flow", "credentialId": KEY, "tenant": "acme" });
        let copy = json!({ "action": "admin.credential.created", "facts": facts });
        assert_eq!(about(&copy), "flow credential 01a2146f…2b11, tenant acme");
        let long = "a-name-that-has-just-six-and-thirty-c";
        assert_eq!(short(long), long);
        assert_eq!(about(&json!({ "action": "value.captured", "kekId": KEY, "valueId": KEY })), "");
        assert_eq!(about(&json!({ "altered": "leaf" })), "");
    }
}
