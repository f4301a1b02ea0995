//! What one listener counts of its requests: by route as the table spells it, never by path.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use http::Method;

use super::text::{Family, MICROSECONDS};
use crate::domain::meter::{Counter, Histogram};
use crate::http::problem::Code;
use crate::http::route::Route;

/// Statuses that are told apart; any other is counted under the last one.
const STATUSES: [u16; 19] =
    [200, 201, 204, 302, 303, 304, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 502, 503, 500];
/// The console's pages, which stand in no table of routes.
const CONSOLE: usize = 0;
/// What no route takes.
const NONE: usize = 1;

/// Counts of one listener.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    table: OnceLock<Table>,
    /// By code, in the order of [`Code::ALL`].
    problems: [Counter; Code::ALL.len()],
    /// Refused because too much was under way.
    pub(crate) shed: Counter,
    /// Handlers that panicked.
    pub(crate) panics: Counter,
}

/// The routes of a listener with their counts.
#[derive(Debug)]
struct Table {
    rows: Vec<Row>,
    places: HashMap<(Verb, &'static str), usize>,
}

#[derive(Debug)]
struct Row {
    method: &'static str,
    route: &'static str,
    answers: [Counter; STATUSES.len()],
    times: Histogram,
}

/// A method as a key that is copied, not compared letter by letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

/// Where a request is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted(usize);

impl Metrics {
    /// Names the routes to count by. Before that, and for all others, requests are counted together.
    pub(crate) fn name<'a>(&self, routes: impl Iterator<Item = &'a Route>) {
        let mut table = Table { rows: vec![Row::new("", "console"), Row::new("", "none")], places: HashMap::new() };
        for route in routes {
            let Some((verb, method)) = verb(&route.method) else { continue };
            table.places.insert((verb, route.path), table.rows.len());
            table.rows.push(Row::new(method, route.path));
        }
        let _ = self.table.set(table);
    }

    /// Where a request of this method to this route is counted.
    pub(crate) fn place(&self, method: &Method, route: Option<&str>) -> Counted {
        let found = || {
            let (route, (verb, _)) = (route?, verb(method)?);
            let places: &HashMap<(Verb, &str), usize> = &self.table.get()?.places;
            let known = places.get(&(verb, route)).copied();
            known.or_else(|| route.starts_with("/console").then_some(CONSOLE))
        };
        Counted(found().unwrap_or(NONE))
    }

    /// The route as the table spells it.
    pub(crate) fn route(&self, place: Counted) -> &'static str {
        self.table.get().and_then(|table| table.rows.get(place.0)).map_or("none", |row| row.route)
    }

    /// Counts one answer.
    pub(crate) fn answered(&self, place: Counted, status: u16, took: Duration) {
        let Some(row) = self.table.get().and_then(|table| table.rows.get(place.0)) else { return };
        let status = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        row.answers[status].inc();
        row.times.took(took);
    }

    /// Counts one refusal.
    pub(crate) fn refused(&self, code: Code) {
        if let Some(count) = self.problems.get(code as usize) {
            count.inc();
        }
    }

    /// Writes the answers of every route that had one, by status.
    pub(super) fn write_answers(&self, listener: &str, family: &mut Family<'_>) {
        for row in self.rows() {
            for (status, count) in STATUSES.iter().zip(&row.answers) {
                if count.get() > 0 {
                    let status = status.to_string();
                    let labels =
                        [("listener", listener), ("method", row.method), ("route", row.route), ("status", &status)];
                    family.sample(&labels, count.get());
                }
            }
        }
    }

    /// Writes how long they took.
    pub(super) fn write_times(&self, listener: &str, family: &mut Family<'_>) {
        for row in self.rows().filter(|row| row.times.count() > 0) {
            let labels = [("listener", listener), ("method", row.method), ("route", row.route)];
            family.histogram(&labels, &row.times, MICROSECONDS);
        }
    }

    /// Writes every refusal there can be, by code: a rate needs the zero before the first.
    pub(super) fn write_problems(&self, listener: &str, family: &mut Family<'_>) {
        for (code, count) in Code::ALL.iter().zip(&self.problems) {
            family.sample(&[("listener", listener), ("code", code.as_str())], count.get());
        }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.table.get().into_iter().flat_map(|table| &table.rows)
    }
}

impl Row {
    fn new(method: &'static str, route: &'static str) -> Self {
        Self { method, route, answers: Default::default(), times: Histogram::of_times() }
    }
}

/// The methods of our tables; HEAD is answered by the route of GET.
fn verb(method: &Method) -> Option<(Verb, &'static str)> {
    Some(match *method {
        Method::GET | Method::HEAD => (Verb::Get, "GET"),
        Method::POST => (Verb::Post, "POST"),
        Method::PUT => (Verb::Put, "PUT"),
        Method::DELETE => (Verb::Delete, "DELETE"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::metrics::text::{Kind, Text};
    use crate::http::router::private_routes;

    #[test]
    fn a_request_is_counted_under_its_route_and_never_under_its_path() {
        let metrics = Metrics::default();
        metrics.name(private_routes().iter());
        for (method, matched, status) in [
            (Method::POST, Some("/v1/flows/{name}/invoke"), 200),
            (Method::HEAD, Some("/healthz"), 200),
            (Method::GET, Some("/console/values/{id}"), 200),
            (Method::PATCH, Some("/healthz"), 405),
            (Method::GET, None, 404),
            (Method::GET, Some("/healthz"), 418),
        ] {
            metrics.answered(metrics.place(&method, matched), status, Duration::from_millis(1));
        }
        let mut text = Text::default();
        metrics.write_answers("private", &mut text.family("x", Kind::Counter, "X."));
        let text = text.finish();
        for labels in [
            "method=\"POST\",route=\"/v1/flows/{name}/invoke\",status=\"200\"",
            "method=\"GET\",route=\"/healthz\",status=\"200\"",
            "method=\"GET\",route=\"/healthz\",status=\"500\"",
            "method=\"\",route=\"console\",status=\"200\"",
            "method=\"\",route=\"none\",status=\"405\"",
            "method=\"\",route=\"none\",status=\"404\"",
        ] {
            assert!(text.contains(&format!("{{listener=\"private\",{labels}}} 1\n")), "{labels}\n{text}");
        }
    }

    #[test]
    fn every_code_has_its_own_count() {
        let metrics = Metrics::default();
        for code in Code::ALL {
            metrics.refused(*code);
        }
        assert!(metrics.problems.iter().all(|count| count.get() == 1));
    }
}
