//! Arguments that are none, as clap tells them, without what stood where nothing belongs: that may be a secret.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::Failure;
use super::output::Output;

/// No option's name is longer, with its dashes; what is and is nearly none may be a passphrase that begins with them.
const OPTION: usize = 24;
/// In the place of what is not repeated.
const LEFT_OUT: &str = "(not shown)";

/// Prints what clap says: help, the version, or that the arguments are none. A program that asked for JSON gets the last as
/// JSON.
pub(super) fn refused(mut refusal: clap::Error) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|one| one.to_string_lossy().into_owned()).collect();
    let hint = if leave_out(&mut refusal) { no_argument(&arguments) } else { None };
    if refusal.use_stderr() && arguments.iter().any(|argument| argument == "--json") {
        let text = refusal.to_string();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let failure = Failure::new(what).because(lines.map(str::trim).collect::<Vec<_>>().join(" "));
        Output::usage(&failure.so(hint.unwrap_or("see --help")));
    } else {
        let _ = refusal.print();
        if let Some(hint) = hint {
            Output::progress(&format!("  next  {hint}"));
        }
    }
    ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(2))
}

/// Takes out what is no option's name and stood where nothing, or something else, belongs; whether there was any.
fn leave_out(refusal: &mut clap::Error) -> bool {
    let place = match refusal.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(place)) => place.as_str(),
        _ => "",
    };
    let what = match refusal.kind() {
        ErrorKind::UnknownArgument
            if !place.starts_with('-') || refusal.get(ContextKind::SuggestedArg).is_none() && place.len() > OPTION =>
        {
            ContextKind::InvalidArg
        }
        // What is nearly a command's name is no secret, and worth seeing.
        ErrorKind::InvalidSubcommand if refusal.get(ContextKind::SuggestedSubcommand).is_none() => {
            ContextKind::InvalidSubcommand
        }
        // An option says what its value is; what stands alone may be anything.
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if place.starts_with(['<', '[']) => {
            ContextKind::InvalidValue
        }
        _ => return false,
    };
    refusal.insert(what, ContextValue::String(LEFT_OUT.to_owned()));
    // Tips may repeat it.
    refusal.remove(ContextKind::Suggested);
    true
}

/// Where a secret comes from instead, for the commands that one is typed behind.
fn no_argument(arguments: &[String]) -> Option<&'static str> {
    Some(match arguments.iter().find(|argument| !argument.starts_with('-'))?.as_str() {
        "unseal" => {
            "a passphrase is no argument: others on this machine can read it, and the shell keeps it. Type it when it is asked \
             for, or name its file with --passphrase-file"
        }
        "credential" => {
            "a credential is no argument: others on this machine can read it, and the shell keeps it. Set SIV_CREDENTIAL to it"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Arguments;

    fn told(arguments: &[&str]) -> (String, bool) {
        let mut refusal = Arguments::try_parse_from([&["siv"], arguments].concat()).err().unwrap();
        let left_out = leave_out(&mut refusal);
        (refusal.to_string(), left_out)
    }

    #[test]
    fn what_may_be_a_secret_is_not_repeated() {
        let secret = "siv_op_correct-horse";
        for place in [&["unseal"][..], &["credential"], &["credential", "list"], &["credential", "revoke"], &[]] {
            let (text, left_out) = told(&[place, &[secret]].concat());
            assert!(left_out && text.contains(LEFT_OUT) && !text.contains("horse"), "{place:?}: {text}");
        }
        let (text, left_out) = told(&["unseal", "--correct-horse-battery-staple"]);
        assert!(left_out && !text.contains("horse"), "{text}");
    }

    #[test]
    fn what_is_no_secret_is_named() {
        for (arguments, named) in [
            (&["tenat"][..], "tenant"),
            (&["unseal", "--passphrase", "x"], "--passphrase"),
            (&["tenant", "create"], "<NAME>"),
            (&["import", "--out", "a", "--batch", "5000"], "5000"),
        ] {
            let (text, left_out) = told(arguments);
            assert!(!left_out && text.contains(named), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn who_typed_a_secret_is_told_where_it_belongs() {
        let hint = |text: &str| no_argument(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(hint("--json unseal correct-horse").is_some_and(|hint| hint.contains("--passphrase-file")));
        assert!(hint("credential siv_op_x").is_some_and(|hint| hint.contains("SIV_CREDENTIAL")));
        assert!(hint("tenant create acme more").is_none() && hint("--json").is_none());
    }
}
