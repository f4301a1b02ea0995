//! The client's files, embedded byte for byte: what is served is what is hashed, listed and audited (client-js/README.md).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64ct::{Base64, Encoding};
use http::HeaderMap;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use serde::Serialize;
use sha2::{Digest, Sha384};

use super::problem::{Code, Problem};

/// The version in the files' addresses; old versions stay with the programs that served them.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One file of the client.
pub(crate) struct ClientFile {
    /// Its address below `/client/{version}/`.
    pub(crate) path: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal from $file:literal,)*) => {
        const FILES: &[ClientFile] = &[$(ClientFile {
            path: $path,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../client-js/", $file)),
        },)*];
    };
}

files! {
    "secure-input.js" from "page/secure-input.js",
    "frame/frame.js" from "frame/frame.js",
    "frame/field.js" from "frame/field.js",
    "frame/fields.js" from "frame/fields.js",
    "frame/cards.js" from "frame/cards.js",
    "frame/hpke.js" from "frame/hpke.js",
    "frame/seal.js" from "frame/seal.js",
    "frame/vault.js" from "frame/vault.js",
    "frame/style.js" from "frame/style.js",
    "frame/texts.js" from "frame/texts.js",
    "frame/frame.css" from "frame/frame.css",
    "shared/protocol.js" from "shared/protocol.js",
}

/// Every file's `sha384-…` for subresource integrity (W3C SRI section 3.1), by path.
pub(crate) static INTEGRITY: LazyLock<BTreeMap<&'static str, String>> = LazyLock::new(|| {
    let hash = |file: &ClientFile| format!("sha384-{}", Base64::encode_string(&Sha384::digest(file.bytes)));
    FILES.iter().map(|file| (file.path, hash(file))).collect()
});

#[derive(Serialize)]
struct Manifest {
    versions: [Version; 1],
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    files: &'static BTreeMap<&'static str, String>,
}

/// The client's routes.
pub(crate) fn routes() -> Router {
    Router::new().route("/client/manifest.json", get(manifest)).route("/client/{version}/{*path}", get(file))
}

async fn manifest() -> Response {
    let manifest = Manifest { versions: [Version { version: VERSION, files: &INTEGRITY }] };
    let mut response = axum::Json(manifest).into_response();
    open(response.headers_mut(), "public, max-age=60");
    response
}

async fn file(Path((version, path)): Path<(String, String)>) -> Result<Response, Problem> {
    let file = FILES.iter().find(|file| version == VERSION && file.path == path);
    let file = file.ok_or(Problem::new(Code::NotFound))?;
    let kind = if file.path.ends_with(".css") { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
    let mut response = file.bytes.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    open(response.headers_mut(), "public, max-age=31536000, immutable");
    Ok(response)
}

/// These files may be read by every page: integrity needs it, and nothing in them is secret.
fn open(headers: &mut HeaderMap, cache: &'static str) {
    let fixed = HeaderValue::from_static;
    headers.insert(CACHE_CONTROL, fixed(cache));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, fixed("*"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), fixed("cross-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get(path: &str) -> (http::StatusCode, HeaderMap, Vec<u8>) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let (parts, body) = routes().oneshot(request).await.unwrap().into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn every_file_in_the_manifest_is_served_with_the_hash_it_says() {
        let (_, headers, manifest) = get("/client/manifest.json").await;
        assert_eq!(headers["access-control-allow-origin"], "*");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let files = manifest["versions"][0]["files"].as_object().unwrap();
        assert!(files.contains_key("secure-input.js"));
        for (path, integrity) in files {
            let (status, headers, bytes) = get(&format!("/client/{VERSION}/{path}")).await;
            assert_eq!(status, 200);
            assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
            assert_eq!(headers["cross-origin-resource-policy"], "cross-origin");
            assert_eq!(
                integrity.as_str().unwrap(),
                format!("sha384-{}", Base64::encode_string(&Sha384::digest(bytes)))
            );
        }
    }

    #[tokio::test]
    async fn nothing_else_is_served() {
        for path in [
            "secure-input.js.map",
            "../Cargo.toml",
            "frame/frame.html",
            "page/secure-input.js",
            "frame/../secure-input.js",
        ] {
            assert_eq!(get(&format!("/client/{VERSION}/{path}")).await.0, 404, "{path}");
        }
        assert_eq!(get("/client/0.0.0/secure-input.js").await.0, 404);
    }
}
