//! Throw-away tokens of SoftHSM and Kryoptic, with or without the module that injects faults in front.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hsm::{
    Configuration, Host, KekKind, KekRef, KekSelector, KeyBytes, Launch, Limits, Phase, Pin, PinSource, Profile,
    TokenSelector,
};

pub(crate) const PIN: &str = "1234567890";
/// So generous that only what never comes meets it.
pub(crate) const LONG: Duration = Duration::from_secs(60);
const SO_PIN: &str = "12345678";
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    SoftHsm,
    Kryoptic,
}

/// Both required providers.
pub(crate) const BOTH: [Provider; 2] = [Provider::SoftHsm, Provider::Kryoptic];

/// A token in a folder of its own.
pub(crate) struct Token {
    folder: tempfile::TempDir,
    real: PathBuf,
    pub(crate) module: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

impl Token {
    pub(crate) fn new(provider: Provider) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("module.conf");
        let (real, variable) = match provider {
            Provider::SoftHsm => {
                std::fs::create_dir(folder.path().join("tokens")).unwrap();
                let text = format!(
                    "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = true\n",
                    folder.path().display()
                );
                std::fs::write(&config, text).unwrap();
                (PathBuf::from(SOFTHSM), "SOFTHSM2_CONF")
            }
            Provider::Kryoptic => {
                let text = format!(
                    "[[slots]]\nslot = 42\ndbtype = \"sqlite\"\ndbargs = \"{}/token.sql\"\n",
                    folder.path().display()
                );
                std::fs::write(&config, text).unwrap();
                (kryoptic(), "KRYOPTIC_CONF")
            }
        };
        assert!(real.exists(), "{} is missing: run tests/install-dependencies and make build-tests", real.display());
        let environment = vec![(variable.into(), config.into_os_string())];
        let token = Self { folder, module: real.clone(), real, environment };
        match provider {
            Provider::SoftHsm => token.run(
                "softhsm2-util",
                &["--init-token", "--free", "--label", "siv-test", "--so-pin", SO_PIN, "--pin", PIN],
            ),
            Provider::Kryoptic => {
                let module = token.real.to_str().unwrap().to_owned();
                let so = ["--module", &module, "--slot", "42", "--so-pin", SO_PIN];
                token.run("pkcs11-tool", &[&so[..], &["--init-token", "--label", "siv-test"]].concat());
                let login = ["--login", "--login-type", "so", "--init-pin", "--pin", PIN];
                token.run("pkcs11-tool", &[&so[..], &login].concat());
            }
        }
        token
    }

    /// The same token behind the module that injects faults.
    pub(crate) fn shimmed(provider: Provider) -> Self {
        let mut token = Self::new(provider);
        token.module = std::env::current_exe().unwrap().with_file_name("libhsm_shim.so");
        assert!(token.module.exists(), "{} is missing: it is built with this test", token.module.display());
        let path = |name: &str| token.folder.path().join(name).into_os_string();
        let more = [
            ("HSM_SHIM_MODULE", token.real.clone().into_os_string()),
            ("HSM_SHIM_CONTROL", path("control")),
            ("HSM_SHIM_CALLS", path("calls")),
        ];
        token.environment.extend(more.map(|(name, value)| (name.into(), value)));
        token
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a tool of the provider on the token.
    pub(crate) fn run(&self, tool: &str, arguments: &[&str]) {
        let done = Command::new(tool)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("{tool} cannot be run ({e}): run tests/install-dependencies"));
        assert!(done.status.success(), "{tool}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A second key of any label, as a careless person makes it.
    pub(crate) fn keygen(&self, label: &str, more: &[&str]) {
        let module = self.real.to_str().unwrap();
        let arguments = ["--module", module, "--token-label", "siv-test", "--login", "--pin", PIN];
        let key = ["--keygen", "--key-type", "AES:32", "--label", label, "--id", "aa"];
        self.run("pkcs11-tool", &[&arguments[..], &key, more].concat());
    }

    /// What the faulty module does from now on.
    pub(crate) fn inject(&self, lines: &str) {
        let control = self.folder.path().join("control");
        std::fs::write(control.with_extension("new"), lines).unwrap();
        std::fs::rename(control.with_extension("new"), control).unwrap();
    }

    /// How often a function was called, in all workers.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let text = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().filter(|line| line.split(' ').nth(1) == Some(function)).count()
    }

    /// The environment of the workers so far, as the module saw it.
    pub(crate) fn environment(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("calls")).unwrap();
        text.lines().filter_map(|line| Some(line.split_once(" environment ")?.1.to_owned())).collect()
    }

    pub(crate) fn launch(&self) -> Launch {
        Launch {
            program: env!("CARGO_BIN_EXE_hsm-test-worker").into(),
            arguments: Vec::new(),
            environment: self.environment.clone(),
        }
    }

    pub(crate) fn configuration(&self) -> Configuration {
        Configuration {
            module: self.module.clone(),
            module_sha256: None,
            token: TokenSelector { label: Some("siv-test".to_owned()), ..TokenSelector::default() },
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

/// Kryoptic's module, beside the folder of this test's profile.
fn kryoptic() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    target.join("kryoptic/release/libtest_kryoptic.so")
}
