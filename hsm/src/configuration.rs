//! What a worker is told before it touches a module: module, token, PIN source, limits, canaries. Read from no file here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::canary::Canary;
use crate::error::HsmError;
use crate::module::ModuleHash;
use crate::pin::{Pin, PinSource};
use crate::uri::{Pkcs11Uri, TokenSelector};

/// One tenant's HSM.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Absolute path of the vendor's module.
    pub module: PathBuf,
    /// SHA-256 the module had when it was onboarded; another file is refused. Absent before onboarding.
    pub module_sha256: Option<ModuleHash>,
    /// The token.
    pub token: TokenSelector,
    /// Its PIN.
    pub pin: PinSource,
    /// Sessions that work at once, 1 to 16. One more stays open for the login; a token that allows fewer gets fewer.
    pub sessions: usize,
    /// Address space the worker may use, in bytes.
    pub memory_bytes: u64,
    /// Canaries of all KEK versions in use.
    pub canaries: Vec<Canary>,
    /// Lets [`crate::Profile::TestRsaOaepSha1`] be used, on SoftHSM tokens only. For tests.
    pub sha1_for_tests: bool,
}

impl Configuration {
    /// The configuration of a URI with its defaults: 4 sessions, 1 GiB, no pinned hash, no canaries.
    ///
    /// # Errors
    /// [`HsmError::Configuration`] if the URI has no `pin-source` and `pin` is absent.
    pub fn from_uri(uri: &Pkcs11Uri, pin: Option<PinSource>) -> Result<Self, HsmError> {
        let pin = pin
            .or_else(|| uri.pin_source.clone().map(PinSource::File))
            .ok_or_else(|| HsmError::Configuration("pin-source is missing".to_owned()))?;
        Ok(Self {
            module: uri.module_path.clone(),
            module_sha256: None,
            token: uri.token.clone(),
            pin,
            sessions: 4,
            memory_bytes: 1 << 30,
            canaries: Vec::new(),
            sha1_for_tests: false,
        })
    }

    /// The form that crosses to the worker: JSON without the PIN, and a PIN handed over by the caller beside it.
    pub(crate) fn to_wire(&self) -> Result<(Vec<u8>, &[u8]), HsmError> {
        let (pin_file, pin) = match &self.pin {
            PinSource::File(path) => (Some(path.clone()), &[][..]),
            PinSource::Given(pin) => (None, pin.wire()),
        };
        let open = Open {
            module: self.module.clone(),
            module_sha256: self.module_sha256,
            token: self.token.clone(),
            pin_file,
            sessions: self.sessions.clamp(1, 16),
            memory_bytes: self.memory_bytes,
            canaries: self.canaries.clone(),
            sha1_for_tests: self.sha1_for_tests,
        };
        let json = serde_json::to_vec(&open).map_err(|_| HsmError::Configuration("it is not text".to_owned()))?;
        Ok((json, pin))
    }

    /// The inverse, in the worker.
    pub(crate) fn from_wire(json: &[u8], pin: &[u8]) -> Result<Self, HsmError> {
        let open: Open = serde_json::from_slice(json).map_err(|_| HsmError::Protocol("no configuration".to_owned()))?;
        let pin = match open.pin_file {
            Some(path) => PinSource::File(path),
            None => PinSource::Given(Pin::new(pin)?),
        };
        Ok(Self {
            module: open.module,
            module_sha256: open.module_sha256,
            token: open.token,
            pin,
            sessions: open.sessions,
            memory_bytes: open.memory_bytes,
            canaries: open.canaries,
            sha1_for_tests: open.sha1_for_tests,
        })
    }
}

/// A configuration without its PIN.
#[derive(Serialize, Deserialize)]
struct Open {
    module: PathBuf,
    module_sha256: Option<ModuleHash>,
    token: TokenSelector,
    pin_file: Option<PathBuf>,
    sessions: usize,
    memory_bytes: u64,
    canaries: Vec<Canary>,
    sha1_for_tests: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_crosses_beside_the_configuration_and_never_in_it() {
        let uri: Pkcs11Uri = "pkcs11:token=t?module-path=/m.so".parse().unwrap();
        let given = Configuration::from_uri(&uri, Some(PinSource::Given(Pin::new(b"4711").unwrap()))).unwrap();
        let (json, pin) = given.to_wire().unwrap();
        assert!(!String::from_utf8_lossy(&json).contains("4711") && pin == b"4711");
        let back = Configuration::from_wire(&json, pin).unwrap();
        assert!(matches!(back.pin, PinSource::Given(pin) if pin.wire() == b"4711"));
        assert!(Configuration::from_uri(&uri, None).is_err());
    }
}
