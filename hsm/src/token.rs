//! A token as the module describes it, and the one that a selector names. Raw, because modules disagree about the form of the clock.

use cryptoki::slot::Slot;
use cryptoki_sys as ck;
use serde::{Deserialize, Serialize};

use crate::error::HsmError;
use crate::failure::Fault;
use crate::module::Module;
use crate::uri::TokenSelector;

/// A token's own description of itself. A module can lie: only a vendor's attestation proves hardware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// The slot it is in now.
    pub slot_id: u64,
    /// Label, without padding.
    pub label: String,
    /// Manufacturer, without padding.
    pub manufacturer: String,
    /// Model, without padding.
    pub model: String,
    /// Serial number, without padding.
    pub serial: String,
    /// `major.minor`.
    pub hardware_version: String,
    /// `major.minor`.
    pub firmware_version: String,
    /// Sessions the token allows; absent where it gives no number or no limit.
    pub most_sessions: Option<u64>,
    /// Somebody entered a wrong PIN since the last login.
    pub pin_count_low: bool,
    /// One more wrong PIN locks it.
    pub pin_final_try: bool,
    /// No PIN is accepted any more.
    pub pin_locked: bool,
}

impl TokenInfo {
    pub(crate) fn read(module: &Module, slot: Slot) -> Result<Self, Fault> {
        let raw = module.raw.token_info(slot.id())?;
        let flag = |bit| raw.flags & bit != 0;
        // 0 is CK_EFFECTIVELY_INFINITE, all ones CK_UNAVAILABLE_INFORMATION.
        let most = Some(raw.ulMaxSessionCount).filter(|&n| n != 0 && n != ck::CK_UNAVAILABLE_INFORMATION);
        Ok(Self {
            slot_id: slot.id(),
            label: text(&raw.label),
            manufacturer: text(&raw.manufacturerID),
            model: text(&raw.model),
            serial: text(&raw.serialNumber),
            hardware_version: format!("{}.{}", raw.hardwareVersion.major, raw.hardwareVersion.minor),
            firmware_version: format!("{}.{}", raw.firmwareVersion.major, raw.firmwareVersion.minor),
            most_sessions: most,
            pin_count_low: flag(ck::CKF_USER_PIN_COUNT_LOW),
            pin_final_try: flag(ck::CKF_USER_PIN_FINAL_TRY),
            pin_locked: flag(ck::CKF_USER_PIN_LOCKED),
        })
    }

    /// True if every part that the selector gives is this token's.
    #[must_use]
    pub fn answers_to(&self, selector: &TokenSelector) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        same(&selector.label, &self.label)
            && same(&selector.serial, &self.serial)
            && same(&selector.manufacturer, &self.manufacturer)
            && same(&selector.model, &self.model)
            && selector.slot_id.is_none_or(|id| id == self.slot_id)
    }
}

/// Finds the one token that answers to `selector`.
pub(crate) fn find(module: &Module, selector: &TokenSelector) -> Result<(Slot, TokenInfo), Fault> {
    let mut found = Vec::new();
    for slot in module.safe.get_slots_with_token()? {
        // A slot that cannot describe its token cannot be the one: others may be healthy.
        let Ok(info) = TokenInfo::read(module, slot) else { continue };
        if info.answers_to(selector) {
            found.push((slot, info));
        }
    }
    match found.len() {
        1 => found.pop().ok_or_else(|| Fault::Told(HsmError::TokenNotFound(selector.to_string()))),
        0 => Err(HsmError::TokenNotFound(selector.to_string()).into()),
        n => Err(HsmError::TokenAmbiguous(n).into()),
    }
}

/// A padded text field: UTF-8 without the blanks at its end, and without the zero bytes some modules put there.
pub(crate) fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim_end_matches([' ', '\0']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_given_part_of_a_selector_must_match() {
        let token = TokenInfo {
            slot_id: 7,
            label: "siv".to_owned(),
            manufacturer: "M".to_owned(),
            model: "X".to_owned(),
            serial: "01".to_owned(),
            hardware_version: "1.0".to_owned(),
            firmware_version: "1.0".to_owned(),
            most_sessions: None,
            pin_count_low: false,
            pin_final_try: false,
            pin_locked: false,
        };
        let label = TokenSelector { label: Some("siv".to_owned()), ..TokenSelector::default() };
        assert!(token.answers_to(&label));
        for other in [
            TokenSelector { serial: Some("02".to_owned()), ..label.clone() },
            TokenSelector { slot_id: Some(8), ..label.clone() },
            TokenSelector { label: Some("SIV".to_owned()), ..TokenSelector::default() },
            TokenSelector { model: Some("Y".to_owned()), ..label },
        ] {
            assert!(!token.answers_to(&other));
        }
    }
}
