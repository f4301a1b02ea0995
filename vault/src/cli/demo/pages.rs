//! The shop's pages, part of the binary. Nothing is read from the disk at run time.

/// A file: its path, its media type, its text.
type Page = (&'static str, &'static str, &'static str);

const PAGES: [Page; 5] = [
    ("/index.html", "text/html; charset=utf-8", include_str!("shop/index.html")),
    ("/login.html", "text/html; charset=utf-8", include_str!("shop/login.html")),
    ("/shop.css", "text/css; charset=utf-8", include_str!("shop/shop.css")),
    ("/shop.js", "text/javascript; charset=utf-8", include_str!("shop/shop.js")),
    ("/icon.svg", "image/svg+xml", include_str!("shop/icon.svg")),
];

/// The page at `path`; `/` is `/index.html`.
pub(super) fn find(path: &str) -> Option<(&'static str, &'static str)> {
    let path = if path == "/" { "/index.html" } else { path };
    PAGES.iter().find(|page| page.0 == path).map(|page| (page.1, page.2))
}
