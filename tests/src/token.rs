//! Throw-away tokens of SoftHSM and Kryoptic, with or without the module that injects faults in front. The tests of the
//! crate `hsm` read this file too (hsm/tests/tokens/token.rs).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The user PIN of a token that is given no other.
pub const PIN: &str = "1234567890";
/// The label of a token that is given no other.
pub const LABEL: &str = "siv-test";
const SO_PIN: &str = "12345678";
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Whose module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// SoftHSM 2.
    SoftHsm,
    /// Kryoptic.
    Kryoptic,
}

/// A token in a folder of its own.
pub struct Token {
    folder: tempfile::TempDir,
    real: PathBuf,
    label: String,
    pin: String,
    /// The module to load: the real one, or the one in front of it.
    pub module: PathBuf,
    /// What a process that loads it needs in its environment.
    pub variables: Vec<(OsString, OsString)>,
}

impl Token {
    /// A token with the usual label and PIN.
    pub fn new(provider: Provider) -> Self {
        Self::labelled(provider, LABEL, PIN)
    }

    /// A token with this label and PIN.
    pub fn labelled(provider: Provider, label: &str, pin: &str) -> Self {
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
        let variables = vec![(variable.into(), config.into_os_string())];
        let (label, pin) = (label.to_owned(), pin.to_owned());
        let token = Self { folder, module: real.clone(), real, label, pin, variables };
        token.initialise(provider);
        token
    }

    fn initialise(&self, provider: Provider) {
        let (label, pin) = (&self.label[..], &self.pin[..]);
        match provider {
            Provider::SoftHsm => self
                .run("softhsm2-util", &["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", pin]),
            Provider::Kryoptic => {
                let so = ["--module", self.real.to_str().unwrap(), "--slot", "42", "--so-pin", SO_PIN];
                self.run("pkcs11-tool", &[&so[..], &["--init-token", "--label", label]].concat());
                let login = ["--login", "--login-type", "so", "--init-pin", "--pin", pin];
                self.run("pkcs11-tool", &[&so[..], &login].concat());
            }
        }
    }

    /// The same token behind the module that injects faults.
    pub fn shimmed(provider: Provider) -> Self {
        Self::new(provider).behind_faults()
    }

    /// Puts the module that injects faults in front.
    pub fn behind_faults(mut self) -> Self {
        self.module = std::env::current_exe().unwrap().with_file_name("libhsm_shim.so");
        assert!(self.module.exists(), "{} is missing: it is built with this test", self.module.display());
        let path = |name: &str| self.folder.path().join(name).into_os_string();
        // Where the variables do not reach it, it looks beside the real module's settings.
        std::os::unix::fs::symlink(&self.real, path("real-module")).unwrap();
        let more = [
            ("HSM_SHIM_MODULE", self.real.clone().into_os_string()),
            ("HSM_SHIM_CONTROL", path("control")),
            ("HSM_SHIM_CALLS", path("calls")),
        ];
        self.variables.extend(more.map(|(name, value)| (name.into(), value)));
        self
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a tool of the provider on the token; what it printed.
    pub fn output(&self, tool: &str, arguments: &[&str]) -> String {
        let done = Command::new(tool)
            .args(arguments)
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("{tool} cannot be run ({e}): run tests/install-dependencies"));
        assert!(done.status.success(), "{tool}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// The same, where only that it worked matters.
    pub fn run(&self, tool: &str, arguments: &[&str]) {
        self.output(tool, arguments);
    }

    /// Runs pkcs11-tool on the real module, logged in.
    pub fn logged_in(&self, arguments: &[&str]) -> String {
        let module = self.real.to_str().unwrap();
        let login = ["--module", module, "--token-label", &self.label, "--login", "--pin", &self.pin];
        self.output("pkcs11-tool", &[&login[..], arguments].concat())
    }

    /// A second key of any label, as a careless person makes it.
    pub fn keygen(&self, label: &str, more: &[&str]) {
        let key = ["--keygen", "--key-type", "AES:32", "--label", label, "--id", "aa"];
        self.logged_in(&[&key[..], more].concat());
    }

    /// What the faulty module does from now on.
    pub fn inject(&self, lines: &str) {
        let control = self.folder.path().join("control");
        std::fs::write(control.with_extension("new"), lines).unwrap();
        std::fs::rename(control.with_extension("new"), control).unwrap();
    }

    /// How often a function was called, in all workers.
    pub fn calls(&self, function: &str) -> usize {
        let text = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().filter(|line| line.split(' ').nth(1) == Some(function)).count()
    }
}

/// Kryoptic's module, beside the folder of this test's profile.
fn kryoptic() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    target.join("kryoptic/release/libtest_kryoptic.so")
}
