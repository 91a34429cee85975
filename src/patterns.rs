//! Patterns of routes, as operators write them.

use regex::RegexSet;

use crate::error::{ConfigError, may_hold_a_key};
use crate::exempt::Route;

const HIDDEN: &str = "\"[redacted]\" is not a pattern (not shown, because it may contain a key)";

/// Patterns in order.
#[derive(Debug)]
pub struct Patterns(RegexSet);

impl Patterns {
    /// A pattern is compared with the route's whole canonical path (for a static mount: its prefix and the file's path).
    /// It begins with `/`, and `*` stands for any characters; or it begins with `^` and is a regular expression.
    ///
    /// # Errors
    /// One line per bad pattern of this setting.
    pub fn new<S: AsRef<str>>(setting: &'static str, patterns: &[S]) -> Result<Self, Vec<ConfigError>> {
        let mut faults = Vec::new();
        let mut regexes = Vec::new();
        for pattern in patterns.iter().map(AsRef::as_ref) {
            match to_regex(pattern) {
                Ok(regex) => regexes.push(regex),
                // The error of a regular expression quotes the expression.
                Err(_) if may_hold_a_key(pattern) => faults.push(ConfigError::new(setting, HIDDEN)),
                Err(message) => faults.push(ConfigError::new(setting, format!("{pattern:?} {message}"))),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let set = RegexSet::new(regexes);
        set.map(Self).map_err(|error| vec![ConfigError::new(setting, format!("too large in total: {error}"))])
    }

    /// The index of the first pattern that matches a route.
    #[must_use]
    pub fn first(&self, route: Route<'_>) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        match route {
            Route::Unmatched => None,
            Route::Path(path) => self.0.matches(path).iter().next(),
            Route::Static { prefix, file } => self.0.matches(&format!("{prefix}/{file}")).iter().next(),
        }
    }
}

fn to_regex(pattern: &str) -> Result<String, String> {
    let no_expression =
        |error: regex::Error| format!("is not a regular expression: {}", error.to_string().replace('\n', " "));
    let regex = if let Some(expression) = pattern.strip_prefix('^') {
        // On its own first: the parentheses below would turn the invalid `a)|(b` into one that isn't anchored.
        regex::Regex::new(expression).map_err(no_expression)?;
        format!("^(?:{expression})$")
    } else if pattern.starts_with('/') {
        format!("^{}$", regex::escape(pattern).replace(r"\*", ".*"))
    } else {
        return Err("must begin with / (a path, * for any characters) or with ^ (a regular expression)".to_owned());
    };
    regex::Regex::new(&regex).map_err(no_expression)?;
    Ok(regex)
}
