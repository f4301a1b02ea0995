//! Throw-away tokens of SoftHSM and Kryoptic, with or without the module that injects faults in front. The tests of the
//! crate `hsm` read this file too (hsm/tests/tokens/token.rs).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The user PIN of a token that is given no other.
pub const PIN: &str = "1234567890";
/// The label of a token that is given no other.
pub const LABEL: &str = "siv-test";
/// The user PIN of openCryptoki's token, which takes eight digits at most.
pub const OPEN_CRYPTOKI_PIN: &str = "22334455";
/// Puts the machine's token aside (or what an earlier test left in its place away), starts the daemon, and sets up a new one:
/// both PINs that it is delivered with have to be changed.
const OPEN_CRYPTOKI_BEGINS: &str = r#"set -e; exec 1>&2
    grep -qs "^State:.[^Z]" "/proc/$(cat /run/pkcsslotd.pid 2>/dev/null)/status" && { echo "pkcsslotd runs: stop it"; exit 1; }
    cd /var/lib/opencryptoki; [ -e swtok.kept ] && rm -rf swtok || mv swtok swtok.kept
    mkdir -m 770 swtok swtok/TOK_OBJ; chgrp pkcs11 swtok swtok/TOK_OBJ; rm -f /dev/shm/var.lib.opencryptoki.swtok
    pkcsslotd; for try in $(seq 100); do pkcsconf -t >/dev/null 2>&1 && break; sleep 0.1; done
    printf '%s\n' "$1" | pkcsconf -I -c 3 -S 87654321; pkcsconf -P -c 3 -S 87654321 -n 76543210
    pkcsconf -u -c 3 -S 76543210 -n 11223344; pkcsconf -p -c 3 -U 11223344 -n "$2""#;
/// Ends the daemon that was started, and puts back what was there.
const OPEN_CRYPTOKI_ENDS: &str = r#"kill "$(cat /run/pkcsslotd.pid)"; cd /var/lib/opencryptoki && [ -e swtok.kept ] &&
    rm -rf swtok && mv swtok.kept swtok; rm -f /dev/shm/var.lib.opencryptoki.swtok"#;
const SO_PIN: &str = "12345678";
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Whose module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// SoftHSM 2.
    SoftHsm,
    /// Kryoptic.
    Kryoptic,
    /// NSS's softokn, which wants a string at its initialisation that siv does not pass: the module in front of it does.
    Nss,
    /// The software token of openCryptoki: one for the whole machine, behind a daemon of its own. Label and PIN are fixed.
    OpenCryptoki,
}

/// A token in a folder of its own, but for the one that is the machine's.
pub struct Token {
    folder: tempfile::TempDir,
    real: PathBuf,
    label: String,
    pin: String,
    /// The module to load: the real one, or the one in front of it.
    pub module: PathBuf,
    /// What a process that loads it needs in its environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Whether it stands in the place of the machine's own.
    is_machines: bool,
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.is_machines {
            let _ = Command::new("sh").args(["-c", OPEN_CRYPTOKI_ENDS]).status();
        }
    }
}

impl Token {
    /// A token with the usual label and PIN.
    pub fn new(provider: Provider) -> Self {
        Self::labelled(provider, LABEL, PIN)
    }

    /// A token with this label and PIN.
    pub fn labelled(provider: Provider, label: &str, pin: &str) -> Self {
        match provider {
            Provider::SoftHsm | Provider::Kryoptic => {}
            Provider::Nss => return Self::of_nss(label, pin),
            Provider::OpenCryptoki => return Self::of_open_cryptoki(),
        }
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
            _ => {
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
        let token = Self { folder, module: real.clone(), real, label, pin, variables, is_machines: false };
        token.initialise(provider);
        token
    }

    /// A database of NSS.
    fn of_nss(label: &str, pin: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (database, file) = (folder.path().join("nss"), folder.path().join("pin"));
        std::fs::create_dir(&database).unwrap();
        std::fs::write(&file, format!("{pin}\n")).unwrap();
        let database = format!("sql:{}", database.display());
        let string = format!("configdir='{database}' dbTokenDescription='{label}' dbSlotDescription='{label}'");
        let real = library("libsoftokn3.so");
        let (label, pin) = (label.to_owned(), pin.to_owned());
        let variables = vec![("HSM_SHIM_INITIALISE".into(), string.into())];
        let token = Self { folder, module: real.clone(), real, label, pin, variables, is_machines: false };
        token.run("certutil", &["-N", "-d", &database, "-f", file.to_str().unwrap()]);
        token.behind_faults()
    }

    /// The machine's software token, which is put aside meanwhile, and its daemon, which must not run.
    fn of_open_cryptoki() -> Self {
        let real = library("pkcs11/libopencryptoki.so");
        let (label, pin) = (LABEL.to_owned(), OPEN_CRYPTOKI_PIN.to_owned());
        let folder = tempfile::tempdir().unwrap();
        let token = Self { folder, module: real.clone(), real, label, pin, variables: Vec::new(), is_machines: true };
        token.run("sh", &["-c", OPEN_CRYPTOKI_BEGINS, "sh", LABEL, OPEN_CRYPTOKI_PIN]);
        token
    }

    fn initialise(&self, provider: Provider) {
        let (label, pin) = (&self.label[..], &self.pin[..]);
        match provider {
            Provider::SoftHsm => self
                .run("softhsm2-util", &["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", pin]),
            _ => {
                let so = ["--module", self.real.to_str().unwrap(), "--slot", "42", "--so-pin", SO_PIN];
                self.run("pkcs11-tool", &[&so[..], &["--init-token", "--label", label]].concat());
                let login = ["--login", "--login-type", "so", "--init-pin", "--pin", pin];
                self.run("pkcs11-tool", &[&so[..], &login].concat());
            }
        }
    }

    /// One more token of SoftHSM in the same folder, with the same PIN.
    pub fn another(&self, label: &str) {
        let pins = ["--so-pin", SO_PIN, "--pin", &self.pin];
        self.run("softhsm2-util", &[&["--init-token", "--free", "--label", label][..], &pins].concat());
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

/// A library of Debian's, whatever the machine's architecture.
fn library(name: &str) -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let found = folders.map(|folder| folder.path().join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: run tests/install-dependencies long"))
}

/// Kryoptic's module, beside the folder of this test's profile.
fn kryoptic() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    target.join("kryoptic/release/libtest_kryoptic.so")
}
