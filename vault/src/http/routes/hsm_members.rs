//! How a request names a customer's token: for a tenant that is made there, and for one that moves there.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::json::SensitiveText;
use crate::http::problem::Problem;
use crate::keys::{HsmPin, HsmWish};

/// Longest label, serial number or path, in bytes.
const LONGEST: usize = 1024;

/// A customer's token, and the PIN it is logged into with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HsmMembers {
    /// The vendor's PKCS#11 module: an absolute path on the vault's machine.
    module: String,
    /// The token's label.
    #[serde(default)]
    token: Option<String>,
    /// The token's serial number, where a label is not enough.
    #[serde(default)]
    serial: Option<String>,
    /// The user PIN. It is kept sealed in the key store, and never shown.
    #[schema(value_type = String)]
    pin: SensitiveText,
    /// Label of a key that is in the token already; without it one is made there.
    #[serde(default)]
    kek: Option<String>,
    /// Take that key on though the token does not vouch that it was made there and never left: written into the log.
    #[serde(default)]
    waive: bool,
}

impl HsmMembers {
    /// What it asks for.
    ///
    /// # Errors
    /// `validation`.
    pub(crate) fn wish(&self) -> Result<HsmWish, Problem> {
        for (member, text) in [
            ("hsm.module", Some(&self.module)),
            ("hsm.token", self.token.as_ref()),
            ("hsm.serial", self.serial.as_ref()),
            ("hsm.kek", self.kek.as_ref()),
        ] {
            if text.is_some_and(|text| text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control)) {
                return Err(Problem::invalid(member, "characters"));
            }
        }
        if self.waive && self.kek.is_none() {
            return Err(Problem::invalid("hsm.waive", "not_allowed"));
        }
        let pin = HsmPin::new(self.pin.0.as_bytes()).ok_or_else(|| Problem::invalid("hsm.pin", "characters"))?;
        let (token, serial, kek) = (self.token.clone(), self.serial.clone(), self.kek.clone());
        Ok(HsmWish { module: self.module.clone().into(), token, serial, pin, kek, waive: self.waive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_that_is_named_can_be_taken_on_by_a_waiver() {
        let wish = |more: &str| {
            let text = format!(r#"{{"module":"/m.so","token":"acme","pin":"1234"{more}}}"#);
            serde_json::from_str::<HsmMembers>(&text).unwrap().wish()
        };
        assert!(wish("").is_ok_and(|wish| !wish.waive));
        assert!(wish(r#","kek":"own","waive":true"#).is_ok_and(|wish| wish.waive));
        assert!(wish(r#","waive":true"#).is_err(), "what siv makes itself has nothing to waive");
    }
}
