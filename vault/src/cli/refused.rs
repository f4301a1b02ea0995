//! A refusal of the vault as a person reads it: what, why, and what to do next.

use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::failure::Failure;

/// A problem document as what, why and what next.
pub(super) async fn refusal(answer: Response) -> Failure {
    let status = answer.status();
    let path = answer.url().path().to_owned();
    let problem: Value = answer.json().await.unwrap_or(Value::Null);
    let failure = refused(status, &problem);
    match away(&path).filter(|_| problem["code"] == "kms.unavailable" && !wants_pin(&problem)) {
        Some(next) => failure.so(next),
        None => failure,
    }
}

/// What to do about a key provider that is away, where the act that was asked for begins an end: it may have begun.
fn away(path: &str) -> Option<&'static str> {
    match path {
        "/v1/keks/lost" => Some(
            "nothing was asked for: neither an answer of its token was heard nor its silence. Say this again in half a minute",
        ),
        "/v1/keks/state" | "/v1/keks/shred" => Some(
            "look at `siv keys list`: an end that was begun goes on by itself when the key provider answers; else say this again then",
        ),
        _ if path.starts_with("/v1/approvals/") => Some(
            "look at `siv keys approvals`: what was approved and begun goes on by itself when the key provider answers; else say this again",
        ),
        _ => None,
    }
}

fn wants_pin(problem: &Value) -> bool {
    problem["detail"].as_str().is_some_and(|detail| detail.contains("new PIN"))
}

/// The same of an answer that was looked at already.
pub(super) fn refused(status: StatusCode, problem: &Value) -> Failure {
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let code = text("code").unwrap_or("");
    let errors = problem.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // The detail of a problem with errors only points to them; here they stand right below.
    let detail = text("detail").filter(|_| errors.is_empty());
    let what = detail.or_else(|| text("title")).unwrap_or("the vault refused").to_owned();
    let lines = std::iter::once(format!("{} {code}", status.as_u16())).chain(errors.iter().map(fault));
    let why = lines.collect::<Vec<_>>().join("\n        ");
    let failure = Failure::new(what).because(why).of_refusal(status.as_u16(), problem.clone());
    match next(code, errors, text("detail").unwrap_or_default()) {
        Some(next) => failure.so(next),
        None => failure,
    }
}

/// One of the `errors` of a problem as a person reads it: the member, what is wrong with it, and where in a document.
fn fault(error: &Value) -> String {
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let Some(code) = text("code") else { return error.as_str().map_or_else(|| error.to_string(), str::to_owned) };
    let item = error.get("index").and_then(Value::as_u64).map(|index| format!("[{index}]")).unwrap_or_default();
    let how = (code == "time").then_some("write it as 2026-11-27T00:00:00Z");
    let place = text("detail").or(how).map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{item}: {code}{place}", text("field").unwrap_or("request"))
}

fn next(code: &str, errors: &[Value], detail: &str) -> Option<&'static str> {
    let says = |wanted: &str| errors.iter().any(|error| error.get("code").is_some_and(|code| code == wanted));
    Some(match code {
        "malformed" => "compare what is asked with docs/api.md",
        "auth.missing" | "auth.invalid" => {
            "set SIV_CREDENTIAL to a credential of this vault; revoked ones do not come back"
        }
        "auth.expired" => "make a new credential with `siv credential create`",
        "policy.denied" if says("second_person") => "let another custodian approve it",
        "policy.denied" => {
            "use a credential of the right kind and tenant; an operator's `siv credential list` shows which there are"
        }
        "not_found" if says("not_counted") => {
            "nothing keeps another PIN from being tried; where one is refused, look at it at the token"
        }
        "not_found" if says("not_destroyed") && errors.iter().any(|error| error["field"] == "valueId") => {
            "no deletion of it stands in the log: its app deletes it, and the certificate is of that; one that expires has none"
        }
        "not_found" if says("not_destroyed") => {
            "it has not ended yet: the end of a key waits for its token, and `siv keys list` shows its state"
        }
        "not_found" => "check the spelling and --tenant, and that SIV_URL names the private listener",
        "conflict" if says("taken") => "choose another name",
        "conflict" if says("transition") => {
            "`siv keys list` shows the states; the custodians' handbook says which may follow which"
        }
        "conflict" if says("in_use") => "do first what is named above, then say this again",
        "conflict" if says("digest") => {
            "compare the digest with who asked: `siv keys approvals` shows what each request is for"
        }
        "conflict" if ["expired", "used", "withdrawn", "changed"].into_iter().any(says) => {
            "ask for it anew, if it is still wanted, and let another custodian approve that"
        }
        "conflict" => "look at what is there, then decide",
        "flow.invalid" | "validation" if says("missing") && errors.iter().any(is_tenant) => {
            "name the tenant with --tenant; `siv tenant list` shows them"
        }
        "flow.invalid" | "validation" => "mend what is named above and say this again",
        "destination.denied" => denied(says),
        "log.unavailable" => {
            "nothing was changed; try again in a moment. If it stays so, the node's log says why: where a database was put back, \
             `siv recover` takes it, with the node stopped"
        }
        "rate.limited" | "store.unavailable" => "nothing was changed; try again in a moment",
        // Also the answer to what took too long, and goes on.
        "overloaded" => "try again in a moment; what changes something may have been done, or go on: look first",
        "kms.unavailable" if detail.contains("new PIN") => {
            "give it: `siv keys rotate --key-provider hsm --module … --token … --pin-file …`, on the token that is in use"
        }
        "kms.unavailable" => {
            "try again when the key provider answers: `siv keys list` shows which token does, `key.provider.unavailable` and \
             `key.provider.alarm` in the log say why not. Where it was never reached, the variables of its module (such as \
             SOFTHSM2_CONF) belong in the environment of `siv serve`"
        }
        "tenant.sealed" if detail.contains("root key") => "bring it with `siv unseal`",
        "tenant.sealed" if detail.contains("destroyed") => {
            "its log can still be read; `siv keys certificate` fetches the proof of its end"
        }
        "tenant.sealed" => "one of its custodians runs `siv keys unseal`",
        _ => return None,
    })
}

/// What a destination, or a secret of one, needs.
fn denied(says: impl Fn(&str) -> bool) -> &'static str {
    if says("other_host") {
        "a secret goes only to the host and port of its own destination: `siv destination list` shows which; name that in the \
         step's url, or give the step's host a destination of its own"
    } else if says("not_set") {
        "set it with `siv destination set`, or mend its name in the flow; `siv destination list` shows what is there"
    } else {
        "flows speak https to public addresses; under `siv dev` also to loopback, and there by plain http"
    }
}

fn is_tenant(error: &Value) -> bool {
    error.get("field").is_some_and(|field| field == "tenant")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_to_do_next_depends_on_what_is_wrong() {
        let said = |status: u16, problem: &Value| refused(StatusCode::from_u16(status).unwrap(), problem).to_string();
        let problem = |code: &str, field: &str, why: &str| json!({"title": "t", "code": code, "errors": [{"field": field, "code": why}]});
        let own = said(403, &problem("policy.denied", "approval", "second_person"));
        assert!(own.contains("approval: second_person") && own.contains("another custodian"), "{own}");
        assert!(said(409, &problem("conflict", "approval", "changed")).contains("ask for it anew"));
        assert!(said(409, &problem("conflict", "name", "taken")).contains("choose another name"));
        assert!(said(422, &problem("validation", "tenant", "missing")).contains("--tenant"));
        assert!(!said(422, &problem("validation", "from", "time")).contains("apply"));
        let sealed = |detail: &str| said(503, &json!({"code": "tenant.sealed", "detail": detail}));
        assert!(sealed("The node waits for its root key.").contains("`siv unseal`"));
        assert!(!sealed("The tenant's keys were destroyed by its custodians.").contains("unseal"));
        let late = said(503, &json!({"code": "overloaded"}));
        assert!(late.contains("may have been done") && !late.contains("nothing was changed"), "{late}");
        assert!(sealed("The tenant's custodian has sealed it.").contains("`siv keys unseal`"));
        let secret = |why: &str| said(422, &problem("destination.denied", "destination.acquirer.apiKey", why));
        assert!(secret("other_host").contains("host and port") && secret("not_set").contains("`siv destination set`"));
        assert!(said(404, &problem("not_found", "valueId", "not_destroyed")).contains("deletes it"));
        assert!(said(404, &problem("not_found", "kek", "not_destroyed")).contains("waits for its token"));
        assert!(said(503, &json!({"code": "log.unavailable"})).contains("`siv recover`"));
    }

    #[test]
    fn a_program_finds_status_code_request_and_faults_as_members() {
        let faults = json!([{"field": "name", "code": "taken"}]);
        let problem = json!({"title": "t", "code": "conflict", "requestId": "r-1", "errors": faults});
        let error = refused(StatusCode::CONFLICT, &problem).to_json()["error"].clone();
        assert_eq!(
            (&error["status"], &error["code"], &error["requestId"]),
            (&json!(409), &json!("conflict"), &json!("r-1"))
        );
        assert_eq!(error["errors"], faults);
        let other = Failure::new("SIV_URL is not an address").to_json();
        assert_eq!(other["error"].as_object().unwrap().len(), 3, "the vault was not asked: {other}");
    }

    #[test]
    fn of_a_key_provider_that_is_away_each_act_says_whether_it_goes_on_by_itself() {
        let goes_on = |path| away(path).map(|next| next.contains("by itself"));
        assert_eq!(goes_on("/v1/keks/state"), Some(true));
        assert_eq!(goes_on("/v1/approvals/01a2"), Some(true));
        assert_eq!(goes_on("/v1/keks/lost"), Some(false), "it has to be said again");
        assert_eq!(goes_on("/v1/log/export"), None);
    }
}
