//! Sending batches: a few at once, each under a key of its own, so that one that is sent again is not captured again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use hyper::body::Bytes;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::batches::Batch;
use super::item::Reject;
use super::position::Position;
use super::results::{Captured, Results};
use super::telling::Progress;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::refused::refused;
use crate::domain::{AppName, Clock};

/// Requests under way at once.
const AT_ONCE: usize = 4;
/// How long one request is sent again and again while the vault is away or full.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest wait between two attempts, in seconds.
const LONGEST_WAIT: u64 = 10;

/// Sends the batches of one import.
#[derive(Clone)]
pub(super) struct Sender {
    client: Client,
    app: Option<AppName>,
    import_id: String,
    progress: Arc<Progress>,
    /// Whether the vault ever answered: one that never did is not waited for.
    answered: Arc<AtomicBool>,
}

/// A body that is wiped when the last reader lets go of it.
struct Body(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A batch with the vault's word on each of its items, and when it was first sent.
type Answered = (Batch, Vec<Value>, u64);

impl Sender {
    pub(super) fn new(client: Client, app: Option<AppName>, import_id: String, progress: Arc<Progress>) -> Self {
        Self { client, app, import_id, progress, answered: Arc::default() }
    }

    /// Sends all there is. Results are written in the input's order, then the position, so that whatever ends this in
    /// between leaves only batches that can be asked for again.
    pub(super) async fn run(
        self,
        batches: impl Stream<Item = Result<Batch, Failure>>,
        results: &mut Results,
        (mut position, file): (Position, Option<&Path>),
    ) -> Result<Position, Failure> {
        let progress = Arc::clone(&self.progress);
        position.under_way_since.get_or_insert_with(now);
        (position.out, position.rejects) = results.lengths();
        file.map_or(Ok(()), |file| position.keep(file))?;
        let sent = batches.map(|batch| {
            let sender = self.clone();
            async move {
                // A task of its own: it goes on while results are written.
                let sent = tokio::spawn(sender.send(batch?)).await;
                sent.unwrap_or_else(|_| Err(Failure::new("a request ended badly")))
            }
        });
        let mut sent = std::pin::pin!(sent.buffered(AT_ONCE));
        while let Some(answered) = sent.next().await {
            let (batch, answers, since) = answered?;
            let (captured, rejected) = parted(&batch, &answers);
            progress.aside(|| results.write(&captured, &rejected))?;
            (position.out, position.rejects) = results.lengths();
            position.captured += captured.len() as u64;
            position.rejected += rejected.len() as u64;
            (position.done, position.bytes, position.line) = (batch.number + 1, batch.bytes, batch.line);
            // Those that are under way behind it were not sent before it.
            position.under_way_since = Some(since);
            file.map_or(Ok(()), |file| position.keep(file))?;
            progress.tell(&position);
        }
        position.under_way_since = None;
        file.map_or(Ok(()), |file| position.keep(file))?;
        Ok(position)
    }

    async fn send(self, batch: Batch) -> Result<Answered, Failure> {
        let since = now();
        if batch.places.is_empty() {
            return Ok((batch, Vec::new(), since));
        }
        let key = format!("siv-import-{}-{}", self.import_id, batch.number);
        let body = Bytes::from_owner(Body(batch.body(self.app.as_ref())));
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.client.post_once("/v1/values", &key, body.clone()).await?;
            let (wait, why) = match answer {
                Ok((StatusCode::OK, _, document)) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return answers_of(&batch, &document).map(|answers| (batch, answers, since));
                }
                Ok((status, wait, problem)) => {
                    self.answered.store(true, Ordering::Relaxed);
                    if !is_passing(status, &problem) || Instant::now() >= end {
                        return Err(broken_off(status, &problem, self.app.as_ref()));
                    }
                    (wait.unwrap_or(1), format!("answers {}", status.as_u16()))
                }
                Err(none) if !none.was_sent && !self.answered.load(Ordering::Relaxed) => return Err(none.failure),
                Err(_) if Instant::now() < end => (1, "does not answer".to_owned()),
                Err(_) => {
                    let failure = Failure::new(format!("the vault at {} does not answer", self.client.base()));
                    return Err(failure
                        .so("when it is back, run the same command again; with --resume it goes on where it was"));
                }
            };
            self.progress.tell_wait(&format!(
                "the vault at {} {why}: each request is sent again for up to two minutes",
                self.client.base()
            ));
            sleep(Duration::from_secs(wait.clamp(1, LONGEST_WAIT))).await;
        }
    }
}

/// The vault's word on each item.
fn answers_of(batch: &Batch, document: &Value) -> Result<Vec<Value>, Failure> {
    let answers = document.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
    if answers.len() == batch.places.len() {
        return Ok(answers);
    }
    Err(Failure::new("the vault's answer has another number of results"))
}

/// Whether the same request may do better in a moment.
fn is_passing(status: StatusCode, problem: &Value) -> bool {
    let code = problem.get("code").and_then(Value::as_str).unwrap_or_default();
    let away = matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504) && code != "tenant.sealed";
    away || code == "idempotency.in_progress"
}

fn broken_off(status: StatusCode, problem: &Value, app: Option<&AppName>) -> Failure {
    match problem.get("code").and_then(Value::as_str) {
        Some("idempotency.mismatch") => Failure::new("the input is not the one this import began with")
            .so("give it the same bytes again from their beginning; it skips by itself what is done"),
        Some("idempotency.completed") => Failure::new("these values were captured with another credential")
            .so("go on with the credential the import began with: their keys are given to nobody else"),
        Some("policy.denied") => refused(status, problem).so(match app {
            Some(app) => format!("set SIV_CREDENTIAL to an app credential of {app}, the app that --app names"),
            None => "set SIV_CREDENTIAL to an app's credential: values are its alone to put in".to_owned(),
        }),
        _ => refused(status, problem),
    }
}

/// What the vault captured, and what it refused beside what was never sent, by line.
fn parted<'a>(batch: &'a Batch, answers: &'a [Value]) -> (Vec<Captured<'a>>, Vec<Reject>) {
    let (mut captured, mut rejected) = (Vec::with_capacity(answers.len()), batch.rejects.clone());
    for ((line, field, named), answer) in batch.places.iter().zip(answers) {
        if answer.get("secureValueKey").is_some() {
            captured.push(Captured { line: *line, field, answer });
        } else {
            // What the vault itself calls a field is one, and no cell that holds something else.
            let known = *named || errors(answer).any(|error| error.get("field").is_some_and(|name| name == field));
            let field = known.then(|| field.clone());
            let code = why(answer, field.as_deref().unwrap_or_default());
            rejected.push(Reject { line: *line, field, code });
        }
    }
    rejected.sort_by_key(|reject| reject.line);
    (captured, rejected)
}

fn errors(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.get("errors").and_then(Value::as_array).into_iter().flatten()
}

/// The vault's codes, which repeat nothing of the input: `validation checksum`, `validation uses range`. The item's own field
/// has a column of its own.
fn why(answer: &Value, own: &str) -> String {
    let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut words = vec![text(answer, "code")];
    for error in errors(answer) {
        words.extend([text(error, "field"), text(error, "code")]);
    }
    words.retain(|word| !word.is_empty() && word != own);
    words.join(" ")
}

fn now() -> u64 {
    Clock::System.now().as_millis()
}
