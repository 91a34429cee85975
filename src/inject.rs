//! Puts a script tag into an HTML page, before all scripts of the page itself.
//!
//! The tag goes where the HTML parser (WHATWG, section 13.2.6.4) enters "in head": after the `<head>` tag or, in a page
//! without one, before the first thing that is not a comment, doctype, white space or `<html>`, where the parser would
//! open the head by itself. So a `<head>` inside a comment or a script is never mistaken for it.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// What may come before a page's content. Comments end as the HTML parser ends them (`-->`, `--!>`, `<!-->`, `<!--->`).
static PREAMBLE: LazyLock<Regex> = LazyLock::new(|| {
    const ATTRIBUTES: &str = r#"(?:[\s/](?:[^>"']|"[^"]*"|'[^']*')*)?>"#;
    let pattern = format!(
        r"(?is-u)\A(?:\xEF\xBB\xBF)?(?:\s+|<!--(?:-?>|.*?--!?>)|<!doctype[^>]*>|<\?[^>]*>|<html{ATTRIBUTES})*(?:<head{ATTRIBUTES})?"
    );
    Regex::new(&pattern).expect("a constant pattern")
});

/// The page with `<script src="…">` at the start of its head, and otherwise unchanged.
///
/// `source` must be a URL that needs no escaping inside a quoted attribute; ours is a constant.
#[must_use]
pub fn inject_script(page: &[u8], source: &str) -> Vec<u8> {
    let at = PREAMBLE.find(page).map_or(0, |preamble| preamble.end());
    let tag = format!("<script src=\"{source}\"></script>");
    [&page[..at], tag.as_bytes(), &page[at..]].concat()
}

#[cfg(test)]
#[path = "../tests/units/inject.rs"]
mod tests;
