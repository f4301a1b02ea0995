//! Queries and lists: `?cursor=&limit=` in, `{"data":[…],"page":{"next":…}}` out. Members that a route does not know are refused.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::Json;
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Code, Problem};

/// Rows of a list where the caller does not say.
const USUAL: usize = 100;
/// Rows of a list at most.
const MOST: usize = 1_000;

/// The members of a query, each at most once, none unknown. `tenant` is known everywhere.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// `malformed`.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut members = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if name != "tenant" && !known.contains(&&*name) {
                // What stands there is not repeated; what may stand there is told.
                let may = format!("known are {}", [known, &["tenant"]].concat().join(", "));
                return Err(Problem::new(Code::Malformed).with_place("query", "unknown", may));
            }
            let name = name.into_owned();
            if members.contains_key(&name) {
                return Err(Problem::new(Code::Malformed).with_fault(name, "duplicate"));
            }
            members.insert(name, value.into_owned());
        }
        Ok(Self(members))
    }

    /// A member as what it should be; an empty one is absent.
    ///
    /// # Errors
    /// `validation` if it is something else.
    pub(crate) fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let text = self.0.get(name).filter(|text| !text.is_empty());
        text.map(|text| text.parse().map_err(|_| Problem::invalid(name, "syntax"))).transpose()
    }

    /// How many rows are asked for.
    ///
    /// # Errors
    /// `validation` for 0 and what is no number; more than 1,000 is 1,000.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        match self.get::<usize>("limit")? {
            Some(0) => Err(Problem::invalid("limit", "range")),
            limit => Ok(limit.unwrap_or(USUAL).min(MOST)),
        }
    }
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Listed<T> {
    pub(crate) data: Vec<T>,
    pub(crate) page: Next,
}

/// Where the next part begins.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Next {
    /// Give it as `?cursor=`; null at the end.
    pub(crate) next: Option<String>,
}

/// A part of what lies in memory, sorted by name. The cursor is the last name given out.
///
/// # Errors
/// `malformed` for a query that is none, `validation` for a member that does not read.
pub(crate) fn part<T>(all: impl IntoIterator<Item = (String, T)>, uri: &Uri) -> Result<Json<Listed<T>>, Problem> {
    let query = Query::read(uri, &["cursor", "limit"])?;
    let (limit, cursor) = (query.limit()?, query.get::<String>("cursor")?);
    let mut rest = all.into_iter().skip_while(|(name, _)| cursor.as_ref().is_some_and(|cursor| name <= cursor));
    let (mut data, mut last) = (Vec::new(), None);
    for (name, item) in rest.by_ref().take(limit) {
        data.push(item);
        last = Some(name);
    }
    let next = if rest.next().is_some() { last } else { None };
    Ok(Json(Listed { data, page: Next { next } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<(String, u32)> {
        (0..5).map(|n| (format!("name-{n}"), n)).collect()
    }

    #[test]
    fn parts_of_a_list_join_without_gap() {
        let first = part(names(), &"/?limit=2".parse().unwrap()).unwrap().0;
        assert_eq!((first.data, first.page.next.as_deref()), (vec![0, 1], Some("name-1")));
        let second = part(names(), &"/?limit=3&cursor=name-1".parse().unwrap()).unwrap().0;
        assert_eq!((second.data, second.page.next), (vec![2, 3, 4], None));
    }

    #[test]
    fn a_query_is_read_strictly() {
        let code = |query: &str| part(names(), &query.parse().unwrap()).unwrap_err().code();
        for wrong in ["/?limit=1&limit=2", "/?colour=1"] {
            assert_eq!(code(wrong), Code::Malformed, "{wrong}");
        }
        for (wrong, why) in [("/?limit=1&limit=2", "duplicate"), ("/?colour=1", "unknown")] {
            let refused = part(names(), &wrong.parse().unwrap()).unwrap_err().as_answer().unwrap();
            let told: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
            assert_eq!(told["errors"][0]["code"], why, "{wrong}");
        }
        for wrong in ["/?limit=0", "/?limit=a", "/?limit=-1"] {
            assert_eq!(code(wrong), Code::Validation, "{wrong}");
        }
    }
}
