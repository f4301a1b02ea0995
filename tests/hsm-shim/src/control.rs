//! The control file: which fault applies to this call.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Code(u64),
    After(u64),
    Delay(Duration),
    Hang,
    Crash,
    Flip,
    /// Claims to have written more than there was room for.
    Longer,
    /// Sets these flags in a token's description.
    Flags(u64),
    /// Gives a token so many sessions at most.
    Sessions(u64),
    /// Says that an object is of this class, or says nothing of it.
    Class(Option<u64>),
    IvInPlace,
    IvAppended,
    IvZero,
}

static CALLS: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

/// How often each line of a control file applied.
static USED: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

/// Counts and records the call; the fault that applies to it.
pub fn fault(name: &str) -> Option<Fault> {
    let count = {
        let mut calls = CALLS.lock().unwrap_or_else(|e| e.into_inner());
        let count = calls.entry(name.to_owned()).or_insert(0);
        *count += 1;
        *count
    };
    record(name);
    let text = std::fs::read_to_string(named("HSM_SHIM_CONTROL", "control")?).ok()?;
    text.lines().find_map(|line| of_line(line, name, count))
}

/// The file of a variable. A program that passes on the variables of known modules alone has it beside the real module's
/// settings, under its usual name.
pub fn named(variable: &str, file: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let settings = ["SOFTHSM2_CONF", "KRYOPTIC_CONF"].iter().find_map(std::env::var_os)?;
    Some(Path::new(&settings).with_file_name(file))
}

/// The string that the real module wants at its initialisation, if it wants one.
pub fn initialisation() -> Option<&'static CStr> {
    static STRING: LazyLock<Option<CString>> =
        LazyLock::new(|| CString::new(std::env::var_os("HSM_SHIM_INITIALISE")?.into_encoded_bytes()).ok());
    STRING.as_deref()
}

/// Appends a line with this process's id.
fn record(text: &str) {
    if let Some(path) = named("HSM_SHIM_CALLS", "calls")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = file.write_all(format!("{} {text}\n", std::process::id()).as_bytes());
    }
}

/// Records the environment, which nobody can read from outside.
pub fn record_environment() {
    for (name, value) in std::env::vars() {
        record(&format!("environment {name}={value}"));
    }
}

fn of_line(line: &str, name: &str, count: u64) -> Option<Fault> {
    let mut words = line.split_whitespace();
    let wanted = words.next()?;
    if wanted != name && wanted != "*" {
        return None;
    }
    let (mut fault, mut from, mut to, mut times) = (None, 1, u64::MAX, u64::MAX);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "rv" => fault = Some(Fault::Code(number(value))),
            "after" => fault = Some(Fault::After(number(value))),
            "delay" => fault = Some(Fault::Delay(Duration::from_millis(number(value)))),
            "hang" => fault = Some(Fault::Hang),
            "crash" => fault = Some(Fault::Crash),
            "flip" => fault = Some(Fault::Flip),
            "longer" => fault = Some(Fault::Longer),
            "flags" => fault = Some(Fault::Flags(number(value))),
            "sessions" => fault = Some(Fault::Sessions(number(value))),
            "iv" => {
                fault = Some(match value {
                    "inplace" => Fault::IvInPlace,
                    "appended" => Fault::IvAppended,
                    _ => Fault::IvZero,
                });
            }
            "class" => fault = Some(Fault::Class((value != "none").then(|| number(value)))),
            "from" => from = number(value),
            "times" => times = number(value),
            "tag" => {}
            "to" => to = number(value),
            _ => panic!("a control file says {word}"),
        }
    }
    let fault = fault.filter(|_| (from..=to).contains(&count))?;
    let mut used = USED.lock().unwrap_or_else(|e| e.into_inner());
    let used = used.entry(line.to_owned()).or_insert(0);
    *used += 1;
    (*used <= times).then_some(fault)
}

fn number(text: &str) -> u64 {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    parsed.expect("a control file gives a number")
}
