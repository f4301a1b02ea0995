//! The frame's page for one app: the only page of the vault that others may embed, and only those the app names.

use std::sync::LazyLock;

use http::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

use super::client_files::{INTEGRITY, VERSION};
use crate::domain::{AppDocument, AppName};

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../client-js/frame/frame.html"));

/// The page with everything filled in that is the same for all apps.
static FILLED: LazyLock<String> = LazyLock::new(|| {
    let mut page = PAGE.replace("{version}", VERSION);
    for (path, integrity) in &*INTEGRITY {
        let name = path.rsplit('/').next().unwrap_or(path);
        page = page.replace(&format!("{{integrity:{name}}}"), integrity);
    }
    page
});

/// The page of an app. Names and origins have no character that means something in HTML (their own rules).
pub(crate) fn page(app: &AppDocument) -> String {
    FILLED.replace("{app}", app.name.as_str()).replace("{origins}", &app.origins.join(" "))
}

/// The page's headers, as client-js/README.md lists them.
pub(crate) fn headers(app: &AppDocument) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let fixed = HeaderValue::from_static;
    headers.insert(CONTENT_TYPE, fixed("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, fixed("no-store"));
    headers.insert(REFERRER_POLICY, fixed("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    for (name, value) in [
        // Opened in a window of its own, the page has no opener to speak to; embedded, this says nothing.
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    ] {
        headers.insert(HeaderName::from_static(name), fixed(value));
    }
    // An origin that cannot stand in a header cannot be in a document either; if it were, nobody may embed.
    let policy = HeaderValue::from_str(&policy(&app.name, &app.origins));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        policy.unwrap_or_else(|_| fixed("default-src 'none'; frame-ancestors 'none'")),
    );
    headers
}

/// The content security policy of an app's frame (W3C CSP 3).
fn policy(app: &AppName, origins: &[String]) -> String {
    let ancestors = if origins.is_empty() { "'none'".to_owned() } else { origins.join(" ") };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; \
         base-uri 'none'; frame-ancestors {ancestors}; sandbox allow-scripts allow-same-origin allow-forms; \
         require-trusted-types-for 'script'; trusted-types 'none'; report-uri /f/{app}/report"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(origins: &str) -> AppDocument {
        let text = format!("name = \"demo-shop\"\norigins = {origins}\n[fields.note]\ntype = \"text\"\n");
        AppDocument::from_toml(&text).unwrap()
    }

    #[test]
    fn the_policy_is_exactly_this() {
        let headers = headers(&shop("[\"https://shop.example\", \"http://localhost:8090\"]"));
        assert_eq!(
            headers["content-security-policy"],
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; \
             base-uri 'none'; frame-ancestors https://shop.example http://localhost:8090; \
             sandbox allow-scripts allow-same-origin allow-forms; require-trusted-types-for 'script'; \
             trusted-types 'none'; report-uri /f/demo-shop/report"
        );
        assert_eq!(headers["cross-origin-embedder-policy"], "require-corp");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert!(!headers.contains_key("set-cookie") && !headers.contains_key("access-control-allow-origin"));
    }

    #[test]
    fn an_app_without_origins_is_embedded_by_nobody() {
        assert!(policy(&"demo-shop".parse().unwrap(), &[]).contains("frame-ancestors 'none';"));
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        let page = page(&shop("[\"https://shop.example\"]"));
        assert!(page.contains("data-app=\"demo-shop\"") && page.contains("data-origins=\"https://shop.example\""));
        assert!(page.contains("integrity=\"sha384-"));
        assert!(!page.contains('{') && !page.contains("<script>") && !page.contains("<style"));
    }
}
