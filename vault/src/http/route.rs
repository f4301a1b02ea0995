//! One route as the table of a listener names it: method, path, whom it admits, what it reads and answers, its handler.
//!
//! The router, the API document and the test of who may do what are all made from this table.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, on};
use http::Method;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::dress::carrying_plaintext;
use super::listing::Listed;
use super::state::State;
use crate::domain::CredentialKind;

/// Whom a route admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Everybody who reaches the listener.
    Anyone,
    /// One kind of credential; the capture token on the public listener.
    Only(CredentialKind),
}

/// A type as the API document names it.
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) schema: RefOr<Schema>,
    /// Types it is made of.
    pub(crate) parts: Vec<(String, RefOr<Schema>)>,
}

impl Described {
    fn of<T: ToSchema>() -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        Self { name: T::name().into_owned(), schema: <T as PartialSchema>::schema(), parts }
    }
}

/// What a request's body is.
pub(crate) enum Reads {
    Nothing,
    Json(Box<Described>),
    Toml,
}

/// What an answer's body is.
pub(crate) enum Answers {
    Nothing,
    Json(Box<Described>),
    /// Text, HTML or bytes of that content type.
    Other(&'static str),
}

/// A route.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) admits: Admits,
    pub(crate) about: &'static str,
    pub(crate) reads: Reads,
    pub(crate) answers: (u16, Answers),
    /// What it answers instead where a second custodian has to approve.
    pub(crate) asks: Option<Box<Described>>,
    /// What it answers with 200 where it is only tried.
    pub(crate) plans: Option<Box<Described>>,
    pub(crate) query: &'static [&'static str],
    /// Its body may be left out.
    pub(crate) optional: bool,
    /// Takes an `Idempotency-Key`.
    pub(crate) creates: bool,
    handler: MethodRouter<State>,
    plaintext: bool,
}

impl Route {
    fn new<H: Handler<T, State>, T: 'static>(
        method: Method,
        path: &'static str,
        admits: Admits,
        about: &'static str,
        handler: H,
    ) -> Self {
        // Methods of our tables are all ones that a filter exists for.
        let filter = axum::routing::MethodFilter::try_from(method.clone()).unwrap_or(axum::routing::MethodFilter::GET);
        let answers = (200, Answers::Nothing);
        let handler = on(filter, handler);
        let (reads, query) = (Reads::Nothing, &[][..]);
        Self {
            method,
            path,
            admits,
            about,
            reads,
            answers,
            asks: None,
            plans: None,
            query,
            optional: false,
            creates: false,
            handler,
            plaintext: false,
        }
    }

    pub(crate) fn get<H: Handler<T, State>, T: 'static>(
        path: &'static str,
        admits: Admits,
        about: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::GET, path, admits, about, handler)
    }

    pub(crate) fn post<H: Handler<T, State>, T: 'static>(
        path: &'static str,
        admits: Admits,
        about: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::POST, path, admits, about, handler)
    }

    pub(crate) fn put<H: Handler<T, State>, T: 'static>(
        path: &'static str,
        admits: Admits,
        about: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::PUT, path, admits, about, handler)
    }

    pub(crate) fn delete<H: Handler<T, State>, T: 'static>(
        path: &'static str,
        admits: Admits,
        about: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::DELETE, path, admits, about, handler)
    }

    /// Reads a JSON body.
    pub(crate) fn reads<T: ToSchema>(self) -> Self {
        Self { reads: Reads::Json(Box::new(Described::of::<T>())), ..self }
    }

    /// Reads a JSON body that may be left out.
    pub(crate) fn may_read<T: ToSchema>(self) -> Self {
        Self { optional: true, ..self.reads::<T>() }
    }

    /// Reads a TOML document.
    pub(crate) fn reads_toml(self) -> Self {
        Self { reads: Reads::Toml, ..self }
    }

    /// Answers JSON.
    pub(crate) fn answers<T: ToSchema>(self, status: u16) -> Self {
        Self { answers: (status, Answers::Json(Box::new(Described::of::<T>()))), ..self }
    }

    /// Answers 202 and this instead, where a second custodian has to approve.
    pub(crate) fn or_asks<T: ToSchema>(self) -> Self {
        Self { asks: Some(Box::new(Described::of::<T>())), ..self }
    }

    /// Answers 200 and this instead, in a dry run.
    pub(crate) fn or_plans<T: ToSchema>(self) -> Self {
        Self { plans: Some(Box::new(Described::of::<T>())), ..self }
    }

    /// Answers a part of a list.
    pub(crate) fn answers_list<T: ToSchema>(self) -> Self {
        let mut listed = Described::of::<Listed<T>>();
        // The list names what it holds; a generic type does not bring it along.
        listed.parts.push((T::name().into_owned(), <T as PartialSchema>::schema()));
        Self { answers: (200, Answers::Json(Box::new(listed))), ..self }
    }

    /// Answers something else.
    pub(crate) fn answers_other(self, content_type: &'static str) -> Self {
        Self { answers: (200, Answers::Other(content_type)), ..self }
    }

    /// Answers without a body.
    pub(crate) fn answers_nothing(self) -> Self {
        Self { answers: (204, Answers::Nothing), ..self }
    }

    /// Members of its query.
    pub(crate) fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    /// Creates, and does it once for each `Idempotency-Key`.
    pub(crate) fn creates(self) -> Self {
        Self { creates: true, ..self }
    }

    /// Carries a plaintext in or out: its buffers are wiped, or its connection ends.
    pub(crate) fn carries_plaintext(self) -> Self {
        Self { plaintext: true, ..self }
    }

    /// Adds it to a router.
    pub(crate) fn mount(self, router: Router<State>) -> Router<State> {
        let handler = if self.plaintext { carrying_plaintext(self.handler) } else { self.handler };
        router.route(self.path, handler)
    }
}
