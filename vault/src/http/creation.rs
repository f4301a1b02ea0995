//! `Idempotency-Key` on routes that create: read here, judged by the inner rooms.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::answer::respond;
use super::json::RawBody;
use super::problem::{Code, Problem};
use super::state::State;
use crate::domain::TenantName;
use crate::store::idempotency::{Answer, IdempotencyKey, IdempotencyRequest, Judgement, Scope};
use crate::store::once::{Begin, Finish};
use crate::store::{Caller, Error};

const HEADER: &str = "idempotency-key";

/// The key of a request that creates, if it has one.
pub(crate) struct Creation(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Creation {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut keys = parts.headers.get_all(HEADER).iter();
        let Some(key) = keys.next() else { return Ok(Self(None)) };
        let text = key.to_str().ok().filter(|_| keys.next().is_none());
        text.map(|text| Self(Some(text.to_owned()))).ok_or(Problem::new(Code::Malformed))
    }
}

impl Creation {
    /// As if it had none: carried out each time it comes.
    pub(crate) const fn each_time() -> Self {
        Self(None)
    }

    /// The key with the body it came with, for an inner room to judge.
    ///
    /// # Errors
    /// `malformed` for a key of the wrong length or characters.
    pub(crate) fn with(self, raw: RawBody) -> Result<Option<IdempotencyKey>, Problem> {
        let Some(key) = self.0 else { return Ok(None) };
        IdempotencyKey::new(&key, raw.0).map(Some).ok_or(Problem::new(Code::Malformed))
    }

    /// Does `work` once for this key and gives its answer to every repeat. The answer is kept after the work's own commit:
    /// if the node dies between the two, repeats learn that nobody knows.
    pub(crate) async fn once(
        self,
        state: &State,
        caller: &Caller,
        route: &'static str,
        raw: RawBody,
        work: impl Future<Output = Result<Answer, Problem>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let Some(given) = self.with(raw)? else { return state.to_the_end(work).await.map(respond) };
        let rooms = state.rooms();
        // The credentials of these routes have neither app nor flow; with an empty subject a repeat under another of
        // them finds the record, which does not open to it, and is not done again.
        let tenant = caller.tenant_name();
        let scope = Scope { tenant, route, subject: "", session: None, sensitive: false };
        let secret = Arc::clone(&caller.secret);
        let request =
            IdempotencyRequest::prepare(given, scope, secret, (&rooms.keys, &rooms.store), state.now()).await?;
        let request = Arc::new(request);
        let begin = Begin::new(tenant.clone(), request.clone(), &rooms.keys, state.deadline())?;
        // From here on to its end, whoever waits: what is noted as running is either done or taken back.
        let carried_out = carry_out(state.clone(), tenant.clone(), request, begin, work);
        state.to_the_end(carried_out).await.map(|answer| respond(answer).into_response())
    }
}

/// Begins, does the work and keeps its answer.
async fn carry_out(
    state: State,
    tenant: TenantName,
    request: Arc<IdempotencyRequest>,
    begin: Begin,
    work: impl Future<Output = Result<Answer, Problem>> + Send + 'static,
) -> Result<Answer, Problem> {
    let rooms = state.rooms();
    let undone = begin.undone();
    let begun = rooms.committer.submit(begin).await;
    if matches!(begun, Err(Error::Late | Error::Unavailable)) {
        let rooms = rooms.clone();
        state.works().spawn(async move { undone.carry_out(&rooms.committer, &rooms.clock).await });
    }
    match begun?.output {
        Judgement::Replay(answer) => Ok(answer),
        Judgement::Refused(repeated) => Err(repeated.into()),
        Judgement::Fresh => {
            let answer = work.await;
            let kept = match &answer {
                Ok(answer) => Some(answer.clone()),
                Err(problem) => problem.as_answer(),
            };
            if let Some(kept) = kept {
                let finish = Finish::new(tenant, &request, &kept, state.deadline())?;
                rooms.committer.submit(finish).await?;
            }
            answer
        }
    }
}
