//! The PKCS#11 URI (RFC 7512) that names a module, a token, a key and where its PIN lies. It never holds a PIN and reads no file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::HsmError;

/// Which token: every part that is given must match, and exactly one token may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSelector {
    /// `token`: the token's label.
    pub label: Option<String>,
    /// `serial`: the token's serial number.
    pub serial: Option<String>,
    /// `manufacturer` of the token.
    pub manufacturer: Option<String>,
    /// `model` of the token.
    pub model: Option<String>,
    /// `slot-id`: decimal. Slots move on many modules: prefer label or serial.
    pub slot_id: Option<u64>,
}

impl fmt::Display for TokenSelector {
    /// What a person named, without anything that could drive a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{name} \"{}\"", value.escape_default()))
        };
        let slot = self.slot_id.map(|id| format!("slot {id}"));
        let named = [
            text("label", &self.label),
            text("serial number", &self.serial),
            text("manufacturer", &self.manufacturer),
            text("model", &self.model),
            slot,
        ];
        let named: Vec<_> = named.into_iter().flatten().collect();
        f.write_str(if named.is_empty() { "any name" } else { "" })?;
        f.write_str(&named.join(", "))
    }
}

/// Which key: label, id, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KekSelector {
    /// `object`: `CKA_LABEL`.
    pub label: Option<String>,
    /// `id`: `CKA_ID`.
    pub id: Option<Vec<u8>>,
}

/// A parsed URI. Its `Display` is the one canonical spelling, which parses to the same URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Uri {
    /// `module-path`: absolute.
    pub module_path: PathBuf,
    /// The token; at least one of label, serial and slot id is given.
    pub token: TokenSelector,
    /// The key, where the URI names one.
    pub kek: Option<KekSelector>,
    /// `pin-source`: an absolute path, written as such or as `file:/…`.
    pub pin_source: Option<PathBuf>,
}

/// Longest URI accepted, in bytes.
const LONGEST: usize = 4096;

impl FromStr for Pkcs11Uri {
    type Err = HsmError;

    /// Parses strictly: one spelling of the scheme, no unknown or repeated attribute, no empty value.
    ///
    /// # Errors
    /// [`HsmError::Configuration`] with what is wrong; never the text itself, which may hold a PIN put there by mistake.
    fn from_str(text: &str) -> Result<Self, HsmError> {
        if text.len() > LONGEST {
            return Err(refuse("the URI is longer than 4096 bytes"));
        }
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| refuse("a PKCS#11 URI begins with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parts = Parts::default();
        for attribute in path.split(';').filter(|_| !path.is_empty()) {
            parts.take(attribute, Place::Path)?;
        }
        for attribute in query.split('&').filter(|_| !query.is_empty()) {
            parts.take(attribute, Place::Query)?;
        }
        parts.finish()
    }
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.as_ref().map(|v| v.as_bytes().to_vec());
        let kek = self.kek.clone().unwrap_or_default();
        let path = [
            ("token", text(&self.token.label)),
            ("serial", text(&self.token.serial)),
            ("manufacturer", text(&self.token.manufacturer)),
            ("model", text(&self.token.model)),
            ("slot-id", self.token.slot_id.map(|id| id.to_string().into_bytes())),
            ("object", text(&kek.label)),
            ("id", kek.id),
        ];
        f.write_str("pkcs11:")?;
        let mut separator = "";
        for (name, value) in path {
            let Some(value) = value else { continue };
            write!(f, "{separator}{name}={}", encode(&value))?;
            separator = ";";
        }
        write!(f, "?module-path={}", encode(self.module_path.as_os_str().as_encoded_bytes()))?;
        match &self.pin_source {
            Some(pin) => write!(f, "&pin-source={}", encode(pin.as_os_str().as_encoded_bytes())),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
}

#[derive(Default)]
struct Parts {
    token: TokenSelector,
    kek: KekSelector,
    module_path: Option<PathBuf>,
    pin_source: Option<PathBuf>,
}

impl Parts {
    fn take(&mut self, attribute: &str, place: Place) -> Result<(), HsmError> {
        let (name, value) = attribute.split_once('=').ok_or_else(|| refuse("an attribute is written name=value"))?;
        let value = decode(value)?;
        if value.is_empty() {
            return Err(refuse("an attribute has no value"));
        }
        match (place, name) {
            (Place::Path, "token") => once(&mut self.token.label, utf8(value)?),
            (Place::Path, "serial") => once(&mut self.token.serial, utf8(value)?),
            (Place::Path, "manufacturer") => once(&mut self.token.manufacturer, utf8(value)?),
            (Place::Path, "model") => once(&mut self.token.model, utf8(value)?),
            (Place::Path, "slot-id") => once(&mut self.token.slot_id, decimal(&utf8(value)?)?),
            (Place::Path, "object") => once(&mut self.kek.label, utf8(value)?),
            (Place::Path, "id") => once(&mut self.kek.id, value),
            (Place::Query, "module-path") => once(&mut self.module_path, absolute(&utf8(value)?)?),
            (Place::Query, "pin-source") => {
                let text = utf8(value)?;
                once(&mut self.pin_source, absolute(text.strip_prefix("file:").unwrap_or(&text))?)
            }
            (_, "pin-value") => Err(refuse("a PIN never stands in a URI: use pin-source")),
            _ => Err(refuse("an attribute is unknown, or stands on the wrong side of the question mark")),
        }
    }

    fn finish(self) -> Result<Pkcs11Uri, HsmError> {
        let token = &self.token;
        if token.label.is_none() && token.serial.is_none() && token.slot_id.is_none() {
            return Err(refuse("token, serial or slot-id must name the token"));
        }
        let module_path = self.module_path.ok_or_else(|| refuse("module-path is missing"))?;
        let kek = (self.kek != KekSelector::default()).then_some(self.kek);
        Ok(Pkcs11Uri { module_path, token: self.token, kek, pin_source: self.pin_source })
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), HsmError> {
    if slot.replace(value).is_some() {
        return Err(refuse("an attribute is given twice"));
    }
    Ok(())
}

fn utf8(bytes: Vec<u8>) -> Result<String, HsmError> {
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| refuse("an attribute is not UTF-8 text"))
}

fn decimal(text: &str) -> Result<u64, HsmError> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical).ok_or_else(|| refuse("slot-id is not a decimal number"))
}

fn absolute(text: &str) -> Result<PathBuf, HsmError> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(refuse("module-path and pin-source are absolute paths"));
    }
    Ok(path.to_owned())
}

/// Bytes that stand for themselves in every attribute: RFC 3986's unreserved ones and the slash of paths.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/')
}

/// Further bytes RFC 7512 lets stand unescaped on both sides of the question mark.
fn tolerated(byte: u8) -> bool {
    plain(byte)
        || matches!(byte, b':' | b'[' | b']' | b'@' | b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=')
}

fn decode(text: &str) -> Result<Vec<u8>, HsmError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err(refuse("a percent sign is followed by two hexadecimal digits"));
            };
            decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
        } else if tolerated(byte) {
            decoded.push(byte);
        } else {
            return Err(refuse("a character must be percent-encoded"));
        }
    }
    Ok(decoded)
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn refuse(why: &str) -> HsmError {
    HsmError::Configuration(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_whole_uri_is_understood() {
        let uri: Pkcs11Uri = "pkcs11:token=My%20Token;serial=00ab;slot-id=7;object=kek-1;id=%01%02?module-path=/usr/lib/x.so&pin-source=file:/run/pin"
            .parse()
            .unwrap();
        assert_eq!(uri.token.label.as_deref(), Some("My Token"));
        assert_eq!(uri.token.slot_id, Some(7));
        assert_eq!(uri.kek.unwrap().id.as_deref(), Some(&[1, 2][..]));
        assert_eq!(uri.pin_source.unwrap(), Path::new("/run/pin"));
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        for wrong in [
            "",
            "pkcs11",
            "PKCS11:token=a?module-path=/m",
            "pkcs11:?module-path=/m",
            "pkcs11:token=a",
            "pkcs11:token=a?module-path=m.so",
            "pkcs11:token=a?module-path=/m&module-path=/m",
            "pkcs11:token=a;token=b?module-path=/m",
            "pkcs11:token=?module-path=/m",
            "pkcs11:token?module-path=/m",
            "pkcs11:token=a;?module-path=/m",
            "pkcs11:token=a b?module-path=/m",
            "pkcs11:token=%4?module-path=/m",
            "pkcs11:token=%zz?module-path=/m",
            "pkcs11:token=%ff?module-path=/m",
            "pkcs11:token=a%00?module-path=/m",
            "pkcs11:slot-id=07?module-path=/m",
            "pkcs11:slot-id=+7?module-path=/m",
            "pkcs11:slot-id=99999999999999999999?module-path=/m",
            "pkcs11:token=a;colour=red?module-path=/m",
            "pkcs11:token=a;module-path=/m",
            "pkcs11:token=a?module-path=/m&pin-source=pin",
            "pkcs11:token=a?module-path=/m&pin-source=%7Cprogram",
        ] {
            assert!(matches!(wrong.parse::<Pkcs11Uri>(), Err(HsmError::Configuration(_))), "{wrong}");
        }
    }

    #[test]
    fn a_pin_in_a_uri_is_refused_and_not_repeated() {
        let refusal = "pkcs11:token=a?module-path=/m&pin-value=4711".parse::<Pkcs11Uri>().unwrap_err();
        assert!(refusal.to_string().contains("pin-source") && !refusal.to_string().contains("4711"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            label in "\\PC{1,20}", serial in proptest::option::of("[ -~]{1,16}"), slot in proptest::option::of(any::<u64>()),
            object in proptest::option::of("\\PC{1,20}"), id in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..20)),
            module in "/[a-z/. %&;=?]{1,20}", pin in proptest::option::of("/[a-z/. |]{1,20}"),
        ) {
            let token = TokenSelector { label: Some(label), serial, slot_id: slot, ..TokenSelector::default() };
            let kek = (object.is_some() || id.is_some()).then_some(KekSelector { label: object, id });
            let uri = Pkcs11Uri { module_path: module.into(), token, kek, pin_source: pin.map(Into::into) };
            prop_assert_eq!(uri.to_string().parse::<Pkcs11Uri>().unwrap(), uri);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<Pkcs11Uri>();
            let _ = format!("pkcs11:{text}").parse::<Pkcs11Uri>();
        }
    }
}
