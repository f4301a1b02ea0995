//! The URL map of both listeners. What is not here is 404.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::client_files;
use super::dress::{Desk, dress};
use super::openapi::document;
use super::problem::{Code, Problem};
use super::route::{Admits, Route};
use super::routes::{
    approvals, apps, captures, certificates, credentials, destinations, flows, frames, health, kek_states, keks, log,
    log_files, lost_versions, pin_guesses, rewraps, runs, shapes, tenants, values,
};
use super::sealed;
use super::state::State;
use crate::domain::CredentialKind::{self, Custodian, Operator};

const ANYONE: Admits = Admits::Anyone;
const APP: Admits = Admits::Only(CredentialKind::App);
const AUDITOR: Admits = Admits::Only(CredentialKind::Auditor);
const CAPTURE: Admits = Admits::Only(CredentialKind::Capture);
const CUSTODIAN: Admits = Admits::Only(Custodian);
const FLOW: Admits = Admits::Only(CredentialKind::Flow);
const OPERATOR: Admits = Admits::Only(Operator);
/// Members of the query of a list in memory.
const LIST: &[&str] = &["tenant", "cursor", "limit"];

/// What browsers reach.
pub(crate) fn public_routes() -> Vec<Route> {
    vec![
        Route::get("/healthz", ANYONE, "Says that the process answers", health::alive).answers::<health::Alive>(200),
        Route::get("/readyz", ANYONE, "Says whether some tenant can be served", health::ready)
            .answers::<health::Readiness>(200),
        Route::get("/f/{app}/", ANYONE, "The frame of an app's fields", frames::page).answers_other("text/html"),
        Route::post("/f/{app}/report", ANYONE, "Takes a browser's report", frames::report).answers_nothing(),
        Route::post("/v1/capture/sessions/open", ANYONE, "Opens a session from a frame", captures::open_from_frame)
            .reads::<captures::OpenFromFrame>()
            .answers::<shapes::OpenedSession>(201),
        Route::get("/v1/capture/session", CAPTURE, "What a token may capture", captures::describe)
            .answers::<shapes::Session>(200),
        Route::post("/v1/capture/values", CAPTURE, "Captures values, all or nothing", captures::values)
            .reads::<captures::CaptureValues>()
            .creates()
            .answers::<shapes::Captured>(201),
    ]
}

/// The client's files as the API document names them; `client_files` serves them.
pub(crate) fn client_routes() -> [Route; 2] {
    let served = || std::future::ready(Problem::new(Code::NotFound));
    [
        Route::get(
            "/client/manifest.json",
            ANYONE,
            "Lists the versions of the client's files with their hashes",
            served,
        )
        .answers_other("application/json"),
        Route::get("/client/{version}/{*path}", ANYONE, "A file of the client, immutable", served)
            .answers_other("text/javascript"),
    ]
}

/// What servers, operators, custodians and auditors reach.
pub(crate) fn private_routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/healthz", ANYONE, "Says that the process answers", health::alive).answers::<health::Alive>(200),
        Route::get("/readyz", ANYONE, "Says which tenants can be served", health::ready_by_tenant)
            .answers::<health::Readiness>(200),
        Route::get("/metrics", ANYONE, "Counts for a scraper", health::metrics).answers_other("text/plain"),
        Route::post("/v1/unseal", ANYONE, "Brings a sealed node its root key's passphrase", sealed::open_already)
            .reads::<sealed::Unseal>()
            .answers_nothing()
            .carries_plaintext(),
        Route::get("/v1/log/entries", AUDITOR, "Lists entries of the access log", log::entries)
            .query(log::FILTERS)
            .answers::<shapes::Entries>(200),
        Route::get("/v1/log/checkpoint", AUDITOR, "The newest checkpoint", log_files::checkpoint)
            .answers_other("text/plain"),
        Route::get("/v1/log/vkey", AUDITOR, "The log's public key line", log_files::vkey).answers_other("text/plain"),
        Route::get("/v1/log/tile/{*path}", AUDITOR, "A tile of the log", log_files::tile)
            .answers_other("application/octet-stream"),
        Route::post("/v1/log/proof", AUDITOR, "Proves that an entry is in the log", log_files::proof)
            .reads::<log_files::WantProof>()
            .answers_other("text/plain"),
        Route::get("/v1/log/export", AUDITOR, "A bundle that verifies offline", log_files::export)
            .query(log_files::RANGE)
            .answers_other("application/x-tar"),
    ];
    routes.extend(key_routes());
    routes.extend(value_routes());
    routes.extend(administrative_routes());
    routes
}

fn key_routes() -> [Route; 11] {
    [
        Route::get("/v1/keks", CUSTODIAN, "Lists key-encryption keys", keks::list)
            .query(LIST)
            .answers_list::<keks::KekSummary>(),
        Route::post("/v1/keks/rotate", CUSTODIAN, "Makes a new version of the key-encryption key", keks::rotate)
            .may_read::<keks::RotateKek>()
            .creates()
            .answers::<keks::KekSummary>(201)
            .or_asks::<approvals::Asked>()
            .or_plans::<keks::PlannedKek>()
            .carries_plaintext(),
        Route::post("/v1/keks/rewrap", CUSTODIAN, "Wraps data keys under the active version", rewraps::rewrap)
            .may_read::<rewraps::Rewrap>()
            .answers::<rewraps::RewrapSummary>(200),
        Route::post("/v1/keks/state", CUSTODIAN, "Changes the state of a key's version", kek_states::state)
            .reads::<kek_states::ChangeState>()
            .answers::<keks::KekSummary>(200),
        Route::post("/v1/keks/shred", CUSTODIAN, "Asks for the end of the tenant's keys", kek_states::shred)
            .may_read::<kek_states::Shred>()
            .creates()
            .answers::<kek_states::Shredding>(202),
        Route::post(
            "/v1/keks/lost",
            CUSTODIAN,
            "Asks for the end of a version whose token is lost",
            lost_versions::lose,
        )
        .reads::<lost_versions::LoseVersion>()
        .creates()
        .answers::<lost_versions::Losses>(202)
        .or_plans::<lost_versions::Losses>(),
        Route::get("/v1/keks/certificate", CUSTODIAN, "Certifies a destruction or a loss", certificates::certificate)
            .query(certificates::WHICH)
            .answers::<certificates::Certificate>(200),
        Route::post("/v1/tenants/{tenant}/cache", CUSTODIAN, "Sets how long keys stay in memory", approvals::set_cache)
            .reads::<approvals::SetCache>()
            .creates()
            .answers::<approvals::CacheTime>(200)
            .or_asks::<approvals::CacheTime>(),
        Route::get("/v1/approvals", CUSTODIAN, "Lists what needs a second custodian", approvals::list)
            .query(LIST)
            .answers_list::<approvals::ApprovalSummary>(),
        Route::post("/v1/approvals/{id}", CUSTODIAN, "Approves as a second custodian", approvals::approve)
            .may_read::<approvals::Approve>()
            .answers::<approvals::Given>(200),
        Route::post("/v1/approvals/{id}/withdraw", CUSTODIAN, "Takes back what was asked for", approvals::withdraw)
            .answers::<approvals::ApprovalSummary>(200),
    ]
}

fn value_routes() -> [Route; 7] {
    [
        Route::post("/v1/capture/sessions", APP, "Opens a capture session", captures::open)
            .reads::<shapes::OpenSession>()
            .creates()
            .answers::<shapes::OpenedSession>(201),
        Route::post("/v1/values", APP, "Puts values in (brings its caller into PCI DSS scope)", values::put)
            .reads::<values::PutValues>()
            .creates()
            .answers::<shapes::PutResults>(200)
            .carries_plaintext(),
        Route::post("/v1/values/lookup", APP, "What is known of a value", values::lookup)
            .reads::<values::NameValue>()
            .answers::<shapes::SecureValue>(200),
        Route::post("/v1/values/delete", APP, "Deletes a value", values::delete)
            .reads::<values::NameValue>()
            .answers_nothing(),
        Route::post("/v1/values/extend", APP, "Moves a value's end", values::extend)
            .reads::<values::ExtendValue>()
            .answers::<shapes::SecureValue>(200),
        Route::post("/v1/flows/{name}/invoke", FLOW, "Runs a flow", runs::invoke)
            .reads::<shapes::Invoke>()
            .creates()
            .answers::<shapes::Invoked>(200),
        Route::get("/v1/runs/{runId}", FLOW, "What is known of a run", runs::describe).answers::<shapes::Run>(200),
    ]
}

fn administrative_routes() -> [Route; 16] {
    [
        Route::put("/v1/apps/{name}", OPERATOR, "Applies an app's document", apps::apply)
            .reads_toml()
            .answers::<apps::AppliedDocument>(200),
        Route::get("/v1/apps", OPERATOR, "Lists apps", apps::list).query(LIST).answers_list::<apps::AppSummary>(),
        Route::put("/v1/flows/{name}", OPERATOR, "Applies a flow's document", flows::apply)
            .reads_toml()
            .answers::<apps::AppliedDocument>(200),
        Route::get("/v1/flows", OPERATOR, "Lists flows", flows::list).query(LIST).answers_list::<flows::FlowLine>(),
        Route::put("/v1/destinations/{name}", OPERATOR, "Sets a destination's secrets", destinations::put)
            .reads::<destinations::PutDestination>()
            .answers::<destinations::DestinationSummary>(200),
        Route::get("/v1/destinations", OPERATOR, "Lists destinations, never their secrets", destinations::list)
            .query(LIST)
            .answers_list::<destinations::DestinationSummary>(),
        Route::post("/v1/tenants", OPERATOR, "Makes a tenant", tenants::create)
            .reads::<tenants::CreateTenant>()
            .creates()
            .answers::<tenants::TenantSummary>(201)
            .carries_plaintext(),
        Route::get("/v1/tenants", OPERATOR, "Lists tenants", tenants::list)
            .query(LIST)
            .answers_list::<tenants::TenantSummary>(),
        Route::post("/v1/pin-guesses/forget", OPERATOR, "Takes back that PINs were refused", pin_guesses::forget)
            .reads::<pin_guesses::ForgetPins>()
            .answers::<pin_guesses::ForgottenPins>(200),
        Route::post("/v1/tenants/{tenant}/seal", CUSTODIAN, "Closes a tenant", tenants::seal)
            .may_read::<tenants::SwitchTenant>()
            .answers::<tenants::SwitchedTenant>(200),
        Route::post("/v1/tenants/{tenant}/unseal", CUSTODIAN, "Opens it again", tenants::unseal)
            .may_read::<tenants::SwitchTenant>()
            .answers::<tenants::SwitchedTenant>(200),
        Route::post("/v1/credentials", OPERATOR, "Makes a credential, shown once", credentials::create)
            .reads::<credentials::CreateCredential>()
            .creates()
            .answers::<credentials::CreatedCredential>(201),
        Route::get("/v1/credentials", OPERATOR, "Lists credentials", credentials::list)
            .query(LIST)
            .answers_list::<credentials::CredentialSummary>(),
        Route::post("/v1/credentials/{id}/revoke", OPERATOR, "Ends a credential", credentials::revoke)
            .answers_nothing(),
        Route::post(
            "/v1/credentials/{id}/confirm",
            OPERATOR,
            "Confirms one that a recovery suspended",
            credentials::confirm,
        )
        .answers_nothing(),
        Route::delete("/v1/credentials/{id}", OPERATOR, "Ends a credential", credentials::revoke).answers_nothing(),
    ]
}

/// The public listener's router.
pub(crate) fn public(state: &State) -> Router {
    let desk = desk(state, 1, Arc::clone(state.public_metrics()));
    let (routes, files) = (public_routes(), client_routes());
    desk.metrics.name(routes.iter().chain(&files));
    let routes = assemble("siv public", routes, &files, state).merge(client_files::routes());
    dress(routes, Arc::new(desk))
}

/// The private listener's router, with the console's pages.
pub(crate) fn private(state: &State, console: Router) -> Router {
    let desk = desk(state, 2, Arc::clone(state.private_metrics()));
    let routes = private_routes();
    desk.metrics.name(routes.iter());
    let routes = assemble("siv private", routes, &[], state).merge(console);
    dress(routes, Arc::new(desk))
}

fn desk(state: &State, times: u32, metrics: Arc<super::metrics::Metrics>) -> Desk {
    let settings = Arc::clone(state.settings());
    let time = settings.request_time * times;
    Desk::new(settings, metrics, state.rooms().clock.clone(), time)
}

fn assemble(title: &str, routes: Vec<Route>, beside: &[Route], state: &State) -> Router {
    let document: Arc<str> = document(title, routes.iter().chain(beside)).to_json().unwrap_or_default().into();
    let openapi = get(move || {
        let json = HeaderValue::from_static("application/json");
        std::future::ready(([(CONTENT_TYPE, json)], document.to_string()))
    });
    let router = routes.into_iter().fold(Router::new(), |router, route| route.mount(router));
    router
        .route("/v1/openapi.json", openapi)
        .fallback(|| std::future::ready(Problem::new(Code::NotFound)))
        .with_state(state.clone())
}
