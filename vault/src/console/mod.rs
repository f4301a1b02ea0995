//! The auditors' pages: small, rendered by the server, without inline script or style. They show what the log's interface
//! gives an auditor's credential, and record each reading the same way.

mod entries;
mod export;
mod page;
mod person;
mod self_check;
mod session;
mod sign_in;
mod view;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};

use crate::http::State;
use crate::sequencer::LogReader;
use session::Sessions;

/// What the pages share.
#[derive(Clone)]
struct Desk {
    state: State,
    reader: LogReader,
    sessions: Arc<Sessions>,
}

/// Everything below `/console/`, for the private listener.
pub fn routes(state: State, reader: LogReader) -> Router {
    let desk = Desk { state, reader, sessions: Arc::default() };
    Router::new()
        .route("/console", get(entries::door))
        .route("/console/", get(entries::home))
        .route("/console/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/log", get(entries::list))
        .route("/console/values/{value}", get(entries::history))
        .route("/console/entries/{index}", get(entries::one))
        .route("/console/export", get(export::page).post(export::download))
        .route("/console/assets/console.css", get(page::style))
        .route("/console/assets/console.js", get(page::script))
        .route("/console/{*rest}", any(words::unknown))
        .layer(from_fn_with_state(desk.clone(), words::in_words))
        .with_state(desk)
}
