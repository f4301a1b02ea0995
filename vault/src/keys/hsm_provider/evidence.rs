//! What the log says of a key that was made or found in a token, for an auditor.

use hsm::{KekAttributes, TokenInfo};

use super::onboarding::Tried;
use crate::keys::hsm_records::ProviderRecord;

/// What an auditor asks for. A module can lie about itself: only a vendor's attestation proves hardware.
pub(super) fn facts(record: &ProviderRecord, token: Option<&TokenInfo>, tried: &Tried) -> Vec<(&'static str, String)> {
    let KekAttributes { check_value, public, .. } = &tried.attributes;
    let mut facts = vec![
        ("module", record.module.clone()),
        ("moduleSha256", record.module_sha256.to_string()),
        ("profile", tried.kek.profile.to_string()),
        ("kekLabel", tried.kek.selector.label.clone().unwrap_or_default()),
        ("kekAttributes", described(&tried.attributes)),
    ];
    if let Some(token) = token {
        facts.push(("tokenLabel", token.label.clone()));
        facts.push(("tokenSerial", token.serial.clone()));
        facts.push(("tokenModel", format!("{} {} {}", token.manufacturer, token.model, token.firmware_version)));
    }
    if let Some(value) = check_value.clone().or_else(|| public.as_ref().map(hsm::PublicKek::check_value)) {
        facts.push(("checkValue", value));
    }
    let reservations = tried.attributes.reservations();
    if !reservations.is_empty() {
        facts.push(("reservations", reservations.join("; ")));
    }
    facts
}

fn described(attributes: &KekAttributes) -> String {
    let said = [
        ("sensitive", attributes.sensitive),
        ("alwaysSensitive", attributes.always_sensitive),
        ("extractable", attributes.extractable),
        ("neverExtractable", attributes.never_extractable),
        ("local", attributes.local),
        ("modifiable", attributes.modifiable),
    ];
    let kind = serde_json::to_value(attributes.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("key").to_owned();
    let known = said.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    std::iter::once(kind).chain(known).collect::<Vec<_>>().join(" ")
}
