//! Throw-away tokens, as the tests of the whole vault make them too, with hosts of this crate on them.

use std::time::Duration;

use hsm::{
    Configuration, Crew, Host, KekKind, KekRef, KekSelector, KeyBytes, Launch, Limits, Phase, Pin, PinSource, Profile,
    TokenSelector,
};

#[path = "../../../tests/src/token.rs"]
#[allow(unreachable_pub, dead_code, reason = "a file of the tests' own library, which has more callers")]
mod made;

pub(crate) use made::{OPEN_CRYPTOKI_PIN, PIN, Provider, Token};

/// So generous that only what never comes meets it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Both required providers.
pub(crate) const BOTH: [Provider; 2] = [Provider::SoftHsm, Provider::Kryoptic];

impl Token {
    /// The environment of the workers so far, as the module saw it.
    pub(crate) fn environment(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder().join("calls")).unwrap();
        text.lines().filter_map(|line| Some(line.split_once(" environment ")?.1.to_owned())).collect()
    }

    pub(crate) fn launch(&self) -> Launch {
        Launch {
            program: env!("CARGO_BIN_EXE_hsm-test-worker").into(),
            arguments: Vec::new(),
            environment: self.variables.clone(),
            crew: Crew::new(64),
        }
    }

    pub(crate) fn configuration(&self) -> Configuration {
        Configuration {
            module: self.module.clone(),
            module_sha256: None,
            token: TokenSelector { label: Some(made::LABEL.to_owned()), ..TokenSelector::default() },
            pin: PinSource::Given(Pin::new(PIN.as_bytes()).unwrap()),
            sessions: 4,
            memory_bytes: 1 << 30,
            canaries: Vec::new(),
            sha1_for_tests: false,
        }
    }

    /// A host that does not wake up by itself, so that calls can be counted, and that takes no machine under load for a hung module.
    pub(crate) fn limits() -> Limits {
        Limits { canary: Duration::from_secs(3600), call: LONG / 2, connect: LONG / 2, ..Limits::default() }
    }

    /// A host that is ready.
    pub(crate) fn host(&self) -> Host {
        self.host_with(self.configuration(), Self::limits())
    }

    pub(crate) fn host_with(&self, configuration: Configuration, limits: Limits) -> Host {
        let host = Host::start(self.launch(), configuration, limits).unwrap();
        assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "not ready: {:?}", host.status());
        host
    }
}

pub(crate) fn named(label: &str) -> KekSelector {
    KekSelector { label: Some(label.to_owned()), id: Some(label.as_bytes().to_vec()) }
}

/// A KEK made in the token, with the profile that was found by probing.
pub(crate) fn kek(host: &Host, label: &str, kind: KekKind) -> KekRef {
    let selector = named(label);
    host.create_kek(&selector, kind, LONG).unwrap();
    let found = host.probe(&selector, LONG).unwrap();
    KekRef { selector, profile: found.chosen.unwrap_or_else(|| panic!("{found:?}")) }
}

/// A KEK that is watched by its canary.
pub(crate) fn watched(host: &Host, label: &str) -> KekRef {
    let kek = kek(host, label, KekKind::Aes256);
    let canary = host.make_canary(&kek, LONG).unwrap();
    host.watch(vec![canary], LONG).unwrap();
    kek
}

pub(crate) fn with(kek: &KekRef, profile: Profile) -> KekRef {
    KekRef { selector: kek.selector.clone(), profile }
}

pub(crate) fn data_key() -> KeyBytes {
    KeyBytes::new(std::array::from_fn(|i| u8::try_from(i).unwrap() ^ 0x5a))
}
