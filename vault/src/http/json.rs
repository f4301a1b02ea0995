//! Reads a JSON body into a buffer that is wiped, and repeats nothing of it when it is wrong.
//!
//! axum's own extractor repeats serde's message, and that message repeats the input; and its buffers are not wiped.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::problem::{Code, Problem};
use crate::domain::Growing;

/// Limit of a body where the route names no other.
pub(crate) const BODY: usize = 64 * 1024;
/// Limit of captures (up to 100 sealed texts) and of documents.
pub(crate) const LONG_BODY: usize = 256 * 1024;
/// Limit of `/v1/values`: 1,000 items.
pub(crate) const BATCH_BODY: usize = 4 * 1024 * 1024;

/// The body of a request, wiped when it is dropped.
pub(crate) struct RawBody(pub(crate) Zeroizing<Vec<u8>>);

impl RawBody {
    /// Reads a body of the given content type, up to a limit.
    ///
    /// # Errors
    /// `media_type`, `body.too_large`, or `malformed` when the client breaks off.
    pub(crate) async fn read(
        headers: &HeaderMap,
        mut body: Body,
        limit: usize,
        types: &[&str],
    ) -> Result<Self, Problem> {
        if !is_one_of(headers, types) {
            return Err(Problem::new(Code::MediaType));
        }
        let announced = announced(headers)?;
        if announced.is_some_and(|length| length > limit) {
            return Err(Problem::new(Code::BodyTooLarge));
        }
        let mut bytes = Growing::with_capacity(announced.unwrap_or(4096).min(limit));
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(Problem::new(Code::Malformed)) };
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > limit {
                return Err(Problem::new(Code::BodyTooLarge));
            }
            bytes.extend(data);
        }
        Ok(Self(bytes.into_bytes()))
    }

    /// Parses it as one JSON text with nothing behind it.
    ///
    /// # Errors
    /// `malformed`, whatever is wrong. It names a member of ours that is missing or stands twice, and says of the body whether it is
    /// no JSON, or has a member that is not known.
    pub(crate) fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.0).map_err(|error| malformed(&self.0, &error))
    }

    /// The body as text.
    ///
    /// # Errors
    /// `malformed` if it is not UTF-8.
    pub(crate) fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.0).map_err(|_| Problem::new(Code::Malformed))
    }
}

/// How serde begins to say what is wrong with a body, and how we do: after these two it names a member of ours. All else that it
/// says may repeat the input.
const MISTAKES: [(&str, &str); 2] = [("missing field `", "missing"), ("duplicate field `", "duplicate")];

fn malformed(body: &[u8], error: &serde_json::Error) -> Problem {
    let problem = Problem::new(Code::Malformed);
    // Of a member that is of another type serde may say that it is no JSON, too.
    if serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return problem.with_fault("body", "json");
    }
    // Freed memory is wiped, this text too.
    let said = error.to_string();
    if said.starts_with("unknown field `") {
        return problem.with_fault("body", "unknown");
    }
    let named =
        |(begin, code): (&str, &'static str)| said.strip_prefix(begin)?.split_once('`').map(|(name, _)| (name, code));
    match MISTAKES.into_iter().find_map(named) {
        Some((name, code)) => problem.with_fault(name, code),
        None => problem,
    }
}

fn announced(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let Some(value) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or(Problem::new(Code::BodyTooLarge))
}

/// True if the content type is one of `types`, with or without `charset=utf-8`.
fn is_one_of(headers: &HeaderMap, types: &[&str]) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let (essence, parameters) = value.split_once(';').unwrap_or((value, "charset=utf-8"));
    let utf8 = parameters.trim().eq_ignore_ascii_case("charset=utf-8")
        || parameters.trim().eq_ignore_ascii_case("charset=\"utf-8\"");
    utf8 && types.iter().any(|kind| essence.trim().eq_ignore_ascii_case(kind))
}

/// A JSON body of at most `LIMIT` bytes, and the bytes it was read from (an idempotency record compares them).
pub(crate) struct Json<T, const LIMIT: usize = BODY> {
    pub(crate) body: T,
    pub(crate) raw: RawBody,
}

impl<S: Send + Sync, T: for<'de> Deserialize<'de>, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let raw = RawBody::read(&parts.headers, body, LIMIT, &["application/json"]).await?;
        Ok(Self { body: raw.parse()?, raw })
    }
}

/// The same where a body may be left out: not a byte of one means `{}`, whatever type it is said to have.
pub(crate) struct OptionalJson<T, const LIMIT: usize = BODY> {
    pub(crate) body: T,
    pub(crate) raw: RawBody,
}

impl<S: Send + Sync, T: for<'de> Deserialize<'de>, const LIMIT: usize> FromRequest<S> for OptionalJson<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !request.body().is_end_stream() {
            let Json { body, raw } = Json::<T, LIMIT>::from_request(request, state).await?;
            return Ok(Self { body, raw });
        }
        let raw = RawBody(Zeroizing::new(b"{}".to_vec()));
        Ok(Self { body: raw.parse()?, raw })
    }
}

/// A TOML document's text.
pub(crate) struct Document(pub(crate) RawBody);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let types = ["application/toml", "text/toml", "text/x-toml"];
        RawBody::read(&parts.headers, body, LONG_BODY, &types).await.map(Self)
    }
}

/// A text that may be sensitive: wiped, never printed.
#[derive(Clone)]
pub(crate) struct SensitiveText(pub(crate) Zeroizing<String>);

impl fmt::Debug for SensitiveText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SensitiveText(…)")
    }
}

impl<'de> Deserialize<'de> for SensitiveText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SensitiveText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SensitiveText, E> {
                Ok(SensitiveText(Zeroizing::new(text.to_owned())))
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<SensitiveText, E> {
                Ok(SensitiveText(Zeroizing::new(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A JSON object each of whose names comes once: the second of two equal names would silently win otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Members<T>(pub(crate) BTreeMap<String, T>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, member)) = map.next_entry::<String, T>()? {
                    if members.insert(name, member).is_some() {
                        return Err(A::Error::custom("a name came twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[expect(dead_code, reason = "only its reading is tested")]
        text: SensitiveText,
        #[serde(default)]
        #[expect(dead_code, reason = "only its reading is tested")]
        inputs: Members<serde_json::Value>,
        #[expect(dead_code, reason = "only its reading is tested")]
        kind: Option<Kind>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Local,
    }

    async fn read(kind: &'static str, body: &str) -> Result<Json<Wanted>, Problem> {
        let request = Request::builder().header(CONTENT_TYPE, kind).body(Body::from(body.to_owned())).unwrap();
        Json::from_request(request, &()).await
    }

    #[tokio::test]
    async fn only_one_strict_object_is_read() {
        assert!(read("application/json", r#"{"text":"a","inputs":{"b":1}}"#).await.is_ok());
        for wrong in [
            "",
            "{",
            r#"{"text":"a"} {}"#,
            r#"{"text":"a","text":"b"}"#,
            r#"{"text":"a","colour":1}"#,
            r#"{"text":"a","inputs":{"b":1,"b":2}}"#,
            r#"{"text":1}"#,
            "[]",
            &format!(r#"{{"text":"a","inputs":{{"b":{}{}}}}}"#, "[".repeat(200), "]".repeat(200)),
        ] {
            let refused = read("application/json", wrong).await.map(|_| ()).unwrap_err();
            assert_eq!(refused.code(), Code::Malformed, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_member_that_is_missing_or_stands_twice_is_named_and_none_of_the_callers_own() {
        for (body, fault) in [
            ("{}", Some(("text", "missing"))),
            (r#"{"text":"a","text":"b"}"#, Some(("text", "duplicate"))),
            (r#"{"text":"a","missing field `4242`":1}"#, Some(("body", "unknown"))),
            (r#"{"text":"4242""#, Some(("body", "json"))),
            (r#"{"text":["missing field `4242`"]}"#, None),
            (r#"{"text":"a","kind":"4242"}"#, None),
            (r#"{"text":"a","kind":4242}"#, None),
            (r#"{"text":"a","kind":["local"]}"#, None),
            (r#"["a",{},"local","4242"]"#, None),
            (r#"{"text":"a","inputs":{"b":4242e999}}"#, None),
            (&format!(r#"{{"text":"a","inputs":{{"b":{}4242{}}}}}"#, "[".repeat(200), "]".repeat(200)), None),
            (r#"{"text":"a","inputs":"missing field `4242`"}"#, None),
            (r#"{"text":"a","inputs":{"4242":1,"4242":2}}"#, None),
        ] {
            let refused = read("application/json", body).await.map(|_| ()).unwrap_err();
            let answer: serde_json::Value = serde_json::from_slice(&refused.as_answer().unwrap().body).unwrap();
            let told = answer["errors"]
                .get(0)
                .map(|fault| (fault["field"].as_str().unwrap(), fault["code"].as_str().unwrap()));
            assert_eq!(told, fault, "{body}");
            assert!(!answer.to_string().contains("4242"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_body_may_be_left_out_only_where_a_route_says_so() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Choice {
            #[serde(default)]
            dry_run: bool,
        }
        let bare = |body: &'static str| Request::builder().body(Body::from(body)).unwrap();
        let read =
            async |request| OptionalJson::<Choice>::from_request(request, &()).await.map(|read| read.body.dry_run);
        assert!(!read(bare("")).await.unwrap());
        assert_eq!(read(bare(r#"{"dryRun":true}"#)).await.unwrap_err().code(), Code::MediaType);
        let named = Request::builder().header(CONTENT_TYPE, "application/json").body(Body::empty()).unwrap();
        assert!(!read(named).await.unwrap());
        let typed = Request::builder().header(CONTENT_TYPE, "application/json").body(Body::from(r#"{"dryRun":true}"#));
        assert!(read(typed.unwrap()).await.unwrap());
        assert_eq!(Json::<Choice>::from_request(bare(""), &()).await.map(drop).unwrap_err().code(), Code::MediaType);
    }

    #[tokio::test]
    async fn type_and_length_are_held() {
        let plain = read("text/plain", r#"{"text":"a"}"#).await.map(|_| ()).unwrap_err();
        assert_eq!(plain.code(), Code::MediaType);
        assert!(read("application/json; charset=utf-8", r#"{"text":"a"}"#).await.is_ok());
        let long = format!(r#"{{"text":"{}"}}"#, "a".repeat(BODY));
        assert_eq!(read("application/json", &long).await.map(|_| ()).unwrap_err().code(), Code::BodyTooLarge);
    }
}
