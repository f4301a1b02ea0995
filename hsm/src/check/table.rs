//! The report as a person reads it in a terminal. Every foreign text in it came from the module: control characters are shown, not sent.

use std::fmt;

use super::{CheckReport, Verdict, Weight};
use crate::kek::KekAttributes;

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (library, token) = (&self.library, &self.token);
        writeln!(f, "module    {}", self.module.path.display())?;
        writeln!(f, "          SHA-256 {}", self.module.sha256)?;
        writeln!(
            f,
            "library   {} {}, {}, PKCS#11 {}",
            shown(&library.description),
            library.version,
            shown(&library.manufacturer),
            library.cryptoki
        )?;
        writeln!(
            f,
            "token     {}, serial {}, {} {}, firmware {}",
            shown(&token.label),
            shown(&token.serial),
            shown(&token.manufacturer),
            shown(&token.model),
            token.firmware_version
        )?;
        if let Some(kek) = &self.kek {
            let check = kek.check_value.as_deref().unwrap_or("none given");
            writeln!(f, "key       {:?}, check value {check}", kek.kind)?;
            writeln!(f, "          {}", attributes(kek))?;
        }
        writeln!(f, "offers    {} mechanisms", self.mechanisms.len())?;
        writeln!(f, "\nprofiles, executed")?;
        for trial in &self.trials {
            let seen = trial.refusal.as_deref().unwrap_or("works");
            // Tried on a throw-away key of the other kind: it says something of the module, and nothing of the key that was named.
            let is_of_another = self.kek.as_ref().is_some_and(|kek| !trial.profile.fits(kek.kind));
            let of = if is_of_another { ", with a throw-away key of another kind: not for this key" } else { "" };
            writeln!(f, "  {:<24}{seen}{of}", trial.profile.to_string())?;
        }
        writeln!(f, "\nbehaviour; a note is not weighed, a reservation is yours to weigh")?;
        for line in &self.lines {
            writeln!(f, "  {:<24}{:<13}{}", line.name, line.weight.word(), line.seen)?;
        }
        if !self.latency.is_empty() {
            writeln!(f, "\nunwrapping   sessions   median µs   99th µs   per second")?;
        }
        for row in &self.latency {
            writeln!(f, "{:>21}{:>12}{:>10}{:>13}", row.sessions, row.p50_micros, row.p99_micros, row.per_second)?;
        }
        let profile = self.profile.map_or_else(|| "none".to_owned(), |profile| profile.to_string());
        writeln!(f, "\nverdict: {}; profile to pin: {profile}", self.verdict.words())?;
        self.reasons.iter().try_for_each(|reason| writeln!(f, "  - {reason}"))
    }
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::FitWithReservations => "fit with reservations",
            Self::Unfit => "unfit",
        }
    }
}

impl Weight {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Reservation => "reservation",
            Self::Bad => "bad",
        }
    }
}

/// What the token says of the key, in the words of PKCS#11.
fn attributes(kek: &KekAttributes) -> String {
    let said = [
        ("sensitive", kek.sensitive),
        ("always sensitive", kek.always_sensitive),
        ("extractable", kek.extractable),
        ("never extractable", kek.never_extractable),
        ("local", kek.local),
        ("modifiable", kek.modifiable),
    ];
    let word = |is: Option<bool>| is.map_or("not said", |is| if is { "yes" } else { "no" });
    let mut words: Vec<String> = said.iter().map(|(name, is)| format!("{name} {}", word(*is))).collect();
    words.extend(kek.generated_by.as_ref().map(|mechanism| format!("made by {}", shown(mechanism))));
    words.join(", ")
}

fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_control_characters_do_not_reach_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
