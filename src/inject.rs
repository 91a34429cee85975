//! A script tag into an HTML page, before every script that the page brings itself.
//!
//! The tag goes where the HTML parser (WHATWG, section 13.2.6.4) is about to be "in head": behind the `<head>` tag, or, in
//! a page without one, in front of the first thing that is neither comment, doctype, white space nor `<html>`, which is
//! where the parser would open the head by itself. So a `<head>` inside a comment or a script is never mistaken for it.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// What may stand before a page's content. Comments end as the HTML parser ends them (`-->`, `--!>`, `<!-->`, `<!--->`).
static PREAMBLE: LazyLock<Regex> = LazyLock::new(|| {
    const ATTRIBUTES: &str = r#"(?:[\s/](?:[^>"']|"[^"]*"|'[^']*')*)?>"#;
    let pattern = format!(
        r"(?is-u)\A(?:\xEF\xBB\xBF)?(?:\s+|<!--(?:-?>|.*?--!?>)|<!doctype[^>]*>|<\?[^>]*>|<html{ATTRIBUTES})*(?:<head{ATTRIBUTES})?"
    );
    Regex::new(&pattern).expect("a constant pattern")
});

/// The page with `<script src="…">` as the first thing in its head. The page's bytes are otherwise unchanged.
///
/// `source` must be a URL that needs no escaping inside a quoted attribute; ours is a constant.
#[must_use]
pub fn inject_script(page: &[u8], source: &str) -> Vec<u8> {
    let at = PREAMBLE.find(page).map_or(0, |preamble| preamble.end());
    let tag = format!("<script src=\"{source}\"></script>");
    [&page[..at], tag.as_bytes(), &page[at..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_first_into_the_head() {
        // `^` marks where the tag belongs.
        for page in [
            "<!DOCTYPE html><html lang=en><head>^<title>x</title></head>",
            "<HTML><HEAD>^<TITLE>",
            "<head data-x=\"a>b\" data-y='>'>^<script>1</script>",
            "<!-- <head> --><html><head>^",
            "<!--><head>^",
            "<!---><head>^",
            "<!-- a --!><head>^",
            "<!-- x > y -- z --><head>^",
            "^<script>'<head>'</script><head>",
            "<html>^<script>\"<head>\"</script>",
            "<html>\n  ^<body><p>no head",
            "^just text <head>",
            "<html>^<header>x</header>",
            "<head/>^x",
            "<head\n>^x",
            "<?xml version='1.0'?><!doctype html>\r\n<head>^",
            "\u{feff}<head>^",
            "^<!-- never closed <head>",
            "^<html never closed",
            "^",
        ] {
            let expected = page.replace('^', "<script src=\"a.js\"></script>");
            let found = inject_script(page.replace('^', "").as_bytes(), "a.js");
            assert_eq!(String::from_utf8(found).unwrap(), expected);
        }
    }

    #[test]
    fn leaves_bytes_that_are_not_utf_8_alone() {
        let page = b"<head>\xff\xfe\x00";
        assert_eq!(inject_script(page, "a"), b"<head><script src=\"a\"></script>\xff\xfe\x00");
    }

    #[test]
    fn takes_20_mb_of_hostile_page() {
        for unit in ["<!-- ", "<html ", "<head \"", "'\"", "<!doctype ", " "] {
            let page = unit.repeat(20 * 1024 * 1024 / unit.len());
            assert!(inject_script(page.as_bytes(), "a").len() > page.len());
        }
    }
}
