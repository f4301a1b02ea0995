//! Where a command takes the root key from: what the settings name, or the person who runs it.

use crate::config::{Environment, RootKey, Settings};
use crate::keys::RootKeySource;

use super::failure::Failure;
use super::installation::Making;
use super::passphrase::{PassphraseFrom, from_file, long_enough};

/// The root key that the settings name. One that a person brings (`root_key = "sealed"`) is asked for here, or read from the
/// file that `passphrase` names; where the key store has yet to be made, it must be fit to become one.
pub(super) fn source(
    settings: &Settings,
    environment: &Environment,
    passphrase: &PassphraseFrom,
    making: Making,
) -> Result<RootKeySource, Failure> {
    if passphrase.passphrase_file.is_some() && settings.root_key != RootKey::Sealed {
        let failure = Failure::new("--passphrase-file is given, and root_key in the settings is not \"sealed\"");
        return Err(failure.so("leave it away, or set root_key = \"sealed\""));
    }
    match &settings.root_key {
        RootKey::Sealed if making == Making::Yes => {
            passphrase.choose("--passphrase-file").map(RootKeySource::Passphrase)
        }
        RootKey::Sealed => passphrase.read().map(RootKeySource::Passphrase),
        _ => configured(settings, environment),
    }
}

/// The root key that the settings name, where nobody has to be asked.
pub(super) fn configured(settings: &Settings, environment: &Environment) -> Result<RootKeySource, Failure> {
    Ok(match &settings.root_key {
        RootKey::File(path) if settings.development => RootKeySource::FileBeside(path.clone()),
        RootKey::File(path) => RootKeySource::File(path.clone()),
        RootKey::Systemd(name) => {
            let folder = environment.credentials_directory.as_ref().ok_or_else(|| {
                Failure::new("root_key names a systemd credential, and systemd handed none over")
                    .so(format!("add LoadCredentialEncrypted={name}:… to the unit"))
            })?;
            RootKeySource::Systemd(folder.join(name))
        }
        RootKey::PassphraseFile(path) => RootKeySource::Passphrase(long_enough(from_file(path)?)?),
        RootKey::Sealed => {
            return Err(Failure::new("root_key is \"sealed\": a person brings the passphrase").so("run siv unseal"));
        }
    })
}
