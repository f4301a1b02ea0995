//! Ends the real process at its n-th durable step, takes its random numbers away or moves its clock: what `fault/crash.c` is
//! told in a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// More steps than any test takes.
const FAR: i64 = 1 << 40;

/// A counter in a folder, and what a process needs in its environment to obey it.
pub struct Crash {
    file: PathBuf,
}

impl Crash {
    /// A counter that counts nothing yet.
    pub fn new(folder: &Path) -> Self {
        let crash = Self { file: folder.join("steps-left") };
        crash.write(0, 0, 0);
        crash
    }

    /// The same for a process of another user.
    pub fn for_everybody(folder: &Path) -> Self {
        let crash = Self::new(folder);
        for (path, mode) in [(folder, 0o755), (&crash.file, 0o666)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        crash
    }

    /// What to start the process with.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec![("LD_PRELOAD".to_owned(), text(library())), ("SIV_CRASH_AT".to_owned(), text(&self.file))]
    }

    /// From now on, ends the process on entry to its n-th step.
    pub fn at_step(&self, n: usize) {
        self.write(i64::try_from(n).unwrap(), 0, 0);
    }

    /// From now on, only counts.
    pub fn count(&self) {
        self.write(FAR, 0, 0);
    }

    /// From now on the system's random numbers fail with this error; with 0 they are there again.
    pub fn random_fails(&self, error: i32) {
        self.write(0, i64::from(error), 0);
    }

    /// From now on the clock is so many seconds ahead; fewer than none is behind.
    pub fn clock_is_ahead(&self, seconds: i64) {
        self.write(0, 0, seconds);
    }

    /// How many steps were taken since [`Crash::count`].
    pub fn counted(&self) -> usize {
        let bytes = fs::read(&self.file).unwrap();
        usize::try_from(FAR - i64::from_ne_bytes(bytes[..8].try_into().unwrap())).unwrap()
    }

    fn write(&self, left: i64, error: i64, ahead: i64) {
        use std::io::Write as _;
        // In place: the running process has mapped this very file.
        let mut file = fs::File::options().create(true).write(true).truncate(false).open(&self.file).unwrap();
        file.write_all(&[left.to_ne_bytes(), error.to_ne_bytes(), ahead.to_ne_bytes()].concat()).unwrap();
    }
}

/// The library that counts, compiled once per test process.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fault/crash.c");
        let target = std::env::temp_dir().join(format!("siv-crash-{}.so", std::process::id()));
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&target).arg(&source).status();
        assert!(compiled.expect("a C compiler is installed").success(), "{}", source.display());
        target
    })
}
