//! `siv import`: many values at once, from standard input into the vault, in batches that are never captured twice.

mod batches;
mod csv;
mod input;
mod item;
mod jsonl;
mod position;
mod results;
mod sending;
mod telling;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::domain::{AppName, Clock};

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, plural};
use super::signals;

use batches::{Batches, Plan};
use position::{Arguments, Beginning};
use results::Results;
use sending::Sender;
use telling::Progress;

/// How the lines of the input are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// A header and comma-separated cells (RFC 4180).
    Csv,
    /// One JSON object for each value, as an item of `POST /v1/values`.
    Jsonl,
}

const EXAMPLES: &str = "\
Examples:
  siv import --app shop --out keys.csv < values.csv                 header: field,value
  siv import --app shop --field-columns card-number,iban=bank-account \\
      --out keys.csv < customers.csv
  siv import --app shop --format jsonl --out keys.jsonl --resume import.state < values.jsonl

It speaks to the private listener at SIV_URL with SIV_CREDENTIAL, an app's credential. The output holds secureValueKeys: they
are shown this once. Run again with the same --resume after a break, within a day and on the same input, it goes on where it
was: no line is captured twice.

It ends with 0 where every line was captured, with 3 where all was sent and some lines were refused, with 1 where it broke off.";

/// All was sent, and some of it was refused.
const SOME_REFUSED: u8 = 3;

/// Put many values in, from standard input.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Command {
    /// The app the values are for. The vault refuses if the credential is another app's.
    #[arg(long)]
    app: Option<AppName>,
    /// How the input is written.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// CSV with one column for each field: which columns hold values, as FIELD or COLUMN=FIELD. Other columns are not sent.
    /// Without it the header names `field` and `value`, and may name `ttlSeconds`, `uses`, `flows` and `purposes`.
    #[arg(long, value_delimiter = ',')]
    field_columns: Vec<String>,
    /// The file for line, field, valueId, secureValueKey and expiresAt, readable by its owner alone: JSON lines if its name
    /// ends so (.jsonl), else CSV.
    #[arg(long)]
    out: PathBuf,
    /// The file for what was refused: line, field and code, never the value. Without it they go to standard error, with --json
    /// as a JSON object each.
    #[arg(long)]
    rejects: Option<PathBuf>,
    /// A file that keeps how far it is, so that the same command goes on after a break.
    #[arg(long)]
    resume: Option<PathBuf>,
    /// Values in one request.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    batch: u16,
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        let plan = Plan::new(self.format, &self.field_columns, usize::from(self.batch))?;
        let arguments = Arguments {
            app: self.app.clone(),
            format: self.format,
            field_columns: self.field_columns,
            batch: self.batch,
            out: self.out.clone(),
            rejects: self.rejects.clone(),
        };
        let beginning = Beginning::open(self.resume.as_deref(), arguments, Clock::System.now())?;
        let (position, resumed) = (beginning.position, beginning.resumed);
        let known = resumed.then_some((position.out, position.rejects));
        let before = Counts { captured: position.captured, rejected: position.rejected };
        let mut results = Results::open(&self.out, self.rejects.as_deref(), known, output.is_json())?;
        let progress = Arc::new(Progress::new(input::length(), output.is_json()));
        let ended = signals::ended();
        let batches = Batches::read(plan, (position.done, position.bytes));
        let sender = Sender::new(client.clone(), self.app, position.import_id.clone(), Arc::clone(&progress));
        let run = tokio::select! {
            run = sender.run(batches, &mut results, (position, self.resume.as_deref())) => run,
            () = ended => Err(ended_early(self.resume.as_deref(), &self.out)),
        };
        progress.end();
        if run.is_err() && self.resume.is_none() {
            results.discard_if_empty();
        }
        let done = run?;
        let summary = json!({
            "importId": done.import_id, "resumed": resumed, "captured": done.captured, "rejected": done.rejected,
            "out": self.out.display().to_string(),
        });
        let after = Counts { captured: done.captured, rejected: done.rejected };
        output.sentence(&summary, &after.captured(&before, &self.out));
        after.refusal(&before, self.rejects.as_deref()).map_or(Ok(()), Err)
    }
}

/// A signal came: how to go on. What was under way may be captured, and only the position knows how to ask for its keys.
fn ended_early(resume: Option<&Path>, out: &Path) -> Failure {
    let failure = Failure::new("the import was ended by a signal");
    match resume {
        Some(file) => failure.so(format!(
            "run the same command again within a day, on the same input: --resume {} goes on where it was",
            file.display()
        )),
        None => failure
            .because("without --resume nothing notes how far it was: values that were under way may be stored, and nobody has their keys")
            .so(format!("import anew what is not in {}, with --resume FILE and another --out", out.display())),
    }
}

/// How many values an import dealt with, all its runs together.
struct Counts {
    captured: u64,
    rejected: u64,
}

impl Counts {
    fn captured(&self, before: &Self, out: &Path) -> String {
        let values =
            if self.captured == 1 { "value is captured; its key is" } else { "values are captured; their keys are" };
        let text = format!("{} {values} in {}", self.captured, out.display());
        match (before.captured, self.captured - before.captured) {
            (0, _) => text,
            (_, 0) => format!("{text}; all of that was done before, and nothing was captured this time"),
            (_, now) => format!("{text}; {now} of them this time"),
        }
    }

    fn refusal(&self, before: &Self, file: Option<&Path>) -> Option<Failure> {
        let values = |count: u64| format!("{} {}", plural(count, "value"), if count == 1 { "was" } else { "were" });
        let place = match (file, before.rejected, self.rejected - before.rejected) {
            (Some(file), ..) => format!("each stands in {} with its line", file.display()),
            (None, 0, _) => "each stands above with its line".to_owned(),
            (None, _, 0) => {
                "each was told with its line when this import ran before; --rejects keeps them in a file".to_owned()
            }
            (None, told, _) => format!(
                "those of this time stand above with their lines; {} told when this import ran before",
                values(told)
            ),
        };
        let failure = Failure::new(format!("{} refused", values(self.rejected))).because(place);
        (self.rejected > 0).then(|| failure.so("mend those lines and import them alone").ending_with(SOME_REFUSED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ended_it_is_told_how_it_goes_on() {
        let told = |resume| ended_early(resume, Path::new("keys.csv")).to_string();
        let with = told(Some(Path::new("import.state")));
        assert!(with.contains("--resume import.state goes on") && with.lines().count() == 2, "{with}");
        assert!(told(None).contains("import anew what is not in keys.csv"));
    }

    #[test]
    fn what_was_done_before_is_not_told_as_if_it_were_new() {
        let counts = |captured, rejected| Counts { captured, rejected };
        let (none, some) = (counts(0, 0), counts(2, 1));
        let out = Path::new("keys.csv");
        assert_eq!(some.captured(&none, out), "2 values are captured; their keys are in keys.csv");
        assert!(some.captured(&some, out).ends_with("nothing was captured this time"));
        assert!(counts(5, 1).captured(&some, out).ends_with("; 3 of them this time"));
        let told = |after: &Counts, before: &Counts| after.refusal(before, None).unwrap().to_string();
        assert!(told(&some, &none).starts_with("1 value was refused\n  why   each stands above"));
        assert!(!told(&some, &some).contains("above"), "nothing stands there");
        assert!(told(&counts(2, 3), &some).contains("above with their lines; 1 value was told"));
        assert!(some.refusal(&none, Some(Path::new("refused.csv"))).unwrap().to_string().contains("in refused.csv"));
        assert!(none.refusal(&none, None).is_none());
        assert_eq!(some.refusal(&none, None).unwrap().code(), SOME_REFUSED);
    }
}
