//! A refusal of the vault as a person reads it: what, why, and what to do next.

use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::failure::Failure;

/// A problem document as what, why and what next.
pub(super) async fn refusal(answer: Response) -> Failure {
    let status = answer.status();
    let problem: Value = answer.json().await.unwrap_or(Value::Null);
    refused(status, &problem)
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
    let failure = Failure::new(what).because(lines.collect::<Vec<_>>().join("\n        "));
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
        "policy.denied" => "use a credential of the right kind and tenant; `siv credential list` shows them",
        "not_found" if says("not_counted") => {
            "nothing keeps another PIN from being tried; where one is refused, look at it at the token"
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
        "rate.limited" | "store.unavailable" | "log.unavailable" => "nothing was changed; try again in a moment",
        // Also the answer to what took too long, and goes on.
        "overloaded" => {
            "try again in a moment; what changes something may have been done all the same, or go on: look first"
        }
        "kms.unavailable" if detail.contains("new PIN") => {
            "give it: `siv keys rotate --key-provider hsm --module … --token … --pin-file …`, on the token that is in use"
        }
        // The end of a key begins in the database, and goes on by itself when its token is back.
        "kms.unavailable" => {
            "try again when the key provider answers; the end of a key that was begun goes on by itself (`siv keys list`). If its \
             token is there: the variables of its module (such as SOFTHSM2_CONF) belong in the environment of `siv serve`"
        }
        "tenant.sealed" if detail.contains("root key") => "bring it with `siv unseal`",
        "tenant.sealed" if detail.contains("destroyed") => {
            "its log can still be read; `siv keys certificate` fetches the proof of its end"
        }
        "tenant.sealed" => "one of its custodians runs `siv keys unseal`",
        _ => return None,
    })
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
    }
}
