//! The script tag: added once, where a slow reading of the page puts it, and no other byte changes.

use comfy_auth_rs::inject::inject_script;

const TAG: &[u8] = b"<script src=\"a.js\"></script>";
const SPACE: &[u8] = b" \t\n\x0b\x0c\r";

/// Checks any bytes as a page.
pub fn check(page: &[u8]) {
    let at = end_of_preamble(page);
    assert_eq!(inject_script(page, "a.js"), [&page[..at], TAG, &page[at..]].concat());
}

/// Where the head's content begins: after everything that may come before it.
fn end_of_preamble(page: &[u8]) -> usize {
    let mut at = if page.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    while let Some(length) = piece(&page[at..]) {
        at += length;
    }
    at + tag(&page[at..], b"<head").unwrap_or(0)
}

/// The length of what comes before the head: a space, a comment, a doctype, an instruction, an `<html>`.
fn piece(rest: &[u8]) -> Option<usize> {
    if SPACE.contains(rest.first()?) {
        return Some(1);
    }
    if let Some(comment) = rest.strip_prefix(b"<!--") {
        if comment.starts_with(b">") || comment.starts_with(b"->") {
            return find(rest, b">");
        }
        let ends = [find(comment, b"-->"), find(comment, b"--!>")];
        return ends.into_iter().flatten().min().map(|end| end + 4);
    }
    if begins(rest, b"<!doctype") || begins(rest, b"<?") {
        return find(rest, b">");
    }
    tag(rest, b"<html")
}

/// The length of a start tag with its attributes, whose values may hold `>` in quotation marks.
fn tag(rest: &[u8], name: &[u8]) -> Option<usize> {
    if !begins(rest, name) {
        return None;
    }
    let mut at = name.len();
    if rest.get(at)? != &b'>' && !SPACE.contains(rest.get(at)?) && rest.get(at)? != &b'/' {
        return None;
    }
    loop {
        match rest.get(at)? {
            b'>' => return Some(at + 1),
            quote @ (b'"' | b'\'') => at += 1 + find(&rest[at + 1..], &[*quote])?,
            _ => at += 1,
        }
    }
}

fn begins(text: &[u8], with: &[u8]) -> bool {
    text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

/// The end of the first `what`.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    (what.len()..=text.len()).find(|end| text[..*end].ends_with(what))
}
