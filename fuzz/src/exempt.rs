//! Exemption patterns: each matches what it says, and no file outside its mount is ever exempt.

use comfy_auth_rs::exempt::{Application, Exemption, Exemptions, Route};
use regex::Regex;

/// Checks a pattern and, after a line feed, a path that it may match.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (pattern, path) = text.split_once('\n').unwrap_or((&text, "/prompt"));
    let exemptions = match Exemptions::new(Application::ComfyUi { require_ws: true }, &[pattern]) {
        Ok(exemptions) => exemptions,
        Err(faults) => {
            assert_eq!(faults.len(), 1);
            assert!(!faults[0].to_string().contains('\n'));
            assert!(!pattern.starts_with('/') || pattern.len() > 1000, "{pattern:?} is a path");
            return;
        }
    };
    let expected = match pattern.strip_prefix('^') {
        Some(expression) => Regex::new(expression)
            .is_ok_and(|_| Regex::new(&format!(r"\A(?:{expression})\z")).expect("a part of a whole").is_match(path)),
        None => matches(&pattern.chars().collect::<Vec<_>>(), &path.chars().collect::<Vec<_>>()),
    };
    assert_eq!(exemptions.of(Route::Unmatched, "GET"), Exemption::None);
    let none = Exemptions::new::<&str>(Application::ComfyUi { require_ws: true }, &[]).expect("no pattern");
    let before = none.of(Route::Path(path), "POST");
    let expected = if before == Exemption::None && expected { Exemption::Open } else { before };
    assert_eq!(exemptions.of(Route::Path(path), "POST"), expected, "{pattern:?} {path:?}");
    for outside in
        [format!("../{path}"), format!("a/../{path}"), format!("{path}\\"), format!("./{path}"), format!("{path}\0")]
    {
        assert_eq!(exemptions.of(Route::Static { prefix: "", file: &outside }, "GET"), Exemption::None);
    }
}

/// Whether a path matches, with stars for any characters but line ends.
fn matches(pattern: &[char], path: &[char]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in pattern {
        let before = reached.clone();
        for end in 0..reached.len() {
            reached[end] = match part {
                '*' => before[end] || end > 0 && reached[end - 1] && path[end - 1] != '\n',
                _ => end > 0 && before[end - 1] && path[end - 1] == *part,
            };
        }
    }
    reached[path.len()]
}
