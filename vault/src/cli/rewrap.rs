//! `siv keys rewrap`: asked for stretch by stretch until it is through, with how far it is.

use std::io::IsTerminal as _;
use std::num::NonZeroU32;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

/// Wraps the tenant's data keys anew, and says what is left. That some are is a failure: what was wanted is not done.
pub(super) async fn run(
    client: &Client,
    output: &Output,
    query: &[(&str, String)],
    (dry_run, per_second): (bool, Option<NonZeroU32>),
) -> Result<(), Failure> {
    let (mut all, mut cursor) = (Total::default(), Value::Null);
    let progress = Progress::new();
    loop {
        let wish = json!({ "dryRun": dry_run, "perSecond": per_second, "cursor": cursor });
        let mut done = client.post("/v1/keks/rewrap", query, &wish).await?;
        all.add(&done, dry_run);
        cursor = done["next"].take();
        if cursor.is_null() {
            break;
        }
        if !dry_run {
            progress.tell(&all);
        }
    }
    drop(progress);
    output.sentence(&all.document(dry_run), &all.sentence(dry_run));
    if dry_run || all.left == 0 { Ok(()) } else { Err(all.failure()) }
}

/// What all stretches did together.
#[derive(Debug, Default)]
struct Total {
    moved: u64,
    kept: u64,
    erased: u64,
    left: u64,
    unopened: Vec<Value>,
}

impl Total {
    fn add(&mut self, done: &Value, dry_run: bool) {
        let count = |name: &str| done[name].as_u64().unwrap_or_default();
        self.moved += count("moved");
        self.kept += count("kept");
        self.erased += count("erased");
        // Each stretch counts the whole tenant; a dry run, what it came by.
        self.left = if dry_run { self.left + count("left") } else { count("left") };
        for of in done["unopened"].as_array().into_iter().flatten() {
            let same = |known: &&mut Value| ["kekId", "version", "why"].iter().all(|name| known[*name] == of[*name]);
            match self.unopened.iter_mut().find(same) {
                Some(known) => {
                    known["dataKeys"] = Value::from(data_keys(known) + data_keys(of));
                }
                None => self.unopened.push(of.clone()),
            }
        }
    }

    fn document(&self, dry_run: bool) -> Value {
        let Self { moved, kept, erased, left, unopened } = self;
        json!({ "moved": moved, "kept": kept, "erased": erased, "left": left, "unopened": unopened, "dryRun": dry_run })
    }

    fn sentence(&self, dry_run: bool) -> String {
        let (verb, still) = if dry_run { ("would be", "would still name") } else { ("are", "still name") };
        let Self { moved, kept, erased, left, .. } = self;
        format!(
            "{moved} data keys {verb} wrapped anew, {kept} were under the active version, {erased} are erased, {left} {still} another version"
        )
    }

    fn failure(&self) -> Failure {
        let line = |of: &Value| {
            format!("{} of version {}: {}", data_keys(of), of["version"], of["why"].as_str().unwrap_or_default())
        };
        let lines: Vec<_> = self.unopened.iter().map(line).collect();
        let failure = Failure::new(format!("{} data keys still name another version", self.left));
        if lines.is_empty() {
            return failure.because("they came while this ran").so("say this again");
        }
        failure.because(lines.join("\n        ")).so(
            "mend that and say this again. Where a key or its token is gone for good, `siv keys lost VERSION` ends the version with what only \
             it opens",
        )
    }
}

fn data_keys(of: &Value) -> u64 {
    of["dataKeys"].as_u64().unwrap_or_default()
}

/// How far a rewrap is: a bar on a terminal, else lines; both beside the result, on standard error.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} data keys") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn tell(&self, so_far: &Total) {
        if std::io::stderr().is_terminal() {
            self.0.set_length(so_far.moved + so_far.left);
            self.0.set_position(so_far.moved);
        } else {
            let Total { moved, left, .. } = so_far;
            Output::progress(&format!("{moved} data keys are wrapped anew, {left} still name another version"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_told_as_one_and_what_does_not_open_by_version_and_reason() {
        let of = |version: u32, why: &str, data_keys: u64| json!({"kekId": "k", "version": version, "why": why, "dataKeys": data_keys});
        let mut all = Total::default();
        for (left, unopened) in [(9, vec![of(1, "gone", 2)]), (3, vec![of(1, "gone", 1), of(2, "away", 1)])] {
            all.add(&json!({"moved": 2, "kept": 1, "erased": 0, "left": left, "unopened": unopened}), false);
        }
        assert_eq!((all.moved, all.kept, all.left), (4, 2, 3), "what is left is counted anew by each");
        assert_eq!(all.unopened, [of(1, "gone", 3), of(2, "away", 1)]);
        let told = all.failure().to_string();
        assert!(told.contains("3 of version 1: gone") && told.contains("siv keys lost"), "{told}");
    }
}
