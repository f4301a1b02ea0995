//! Runs a verifier that is not ours, and reads why it refuses.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a verifier; what it says, as an error if that is no.
pub fn run<A: AsRef<OsStr>>(verifier: &str, arguments: impl IntoIterator<Item = A>) -> Result<String, String> {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("foreign").join(verifier);
    let build = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("foreign");
    let mut command = Command::new(program);
    let output = command.args(arguments).env("SIV_FOREIGN_BUILD", build).output().expect("the verifier runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// Says yes to a bundle, continuing an older checkpoint if one is given.
#[track_caller]
pub fn accepts(verifier: &str, bundle: &Path, vkey: &Path, since: Option<&Path>) {
    let said = run(verifier, [bundle, vkey].into_iter().chain(since));
    said.unwrap_or_else(|why| panic!("{verifier} refuses: {why}"));
}

/// Says no, for one of these reasons and not because it could not do its work.
#[track_caller]
pub fn refuses(verifier: &str, bundle: &Path, vkey: &Path, since: Option<&Path>, reasons: &[&str]) {
    match run(verifier, [bundle, vkey].into_iter().chain(since)) {
        Ok(said) => panic!("{verifier} accepts: {said}"),
        Err(why) => assert!(reasons.iter().any(|reason| why.contains(reason)), "{verifier}, not {reasons:?}: {why}"),
    }
}
