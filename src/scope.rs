//! Which scopes a route needs.

use crate::error::{ConfigError, quoted};
use crate::exempt::{Route, is_hidden};
use crate::keys::{Scope, Scopes};
use crate::patterns::Patterns;
use crate::request::Request;

/// Who says what a route needs. A route of which nobody says anything needs `all`.
#[derive(Debug)]
pub enum Table {
    /// The table of ComfyUI's routes.
    ComfyUi,
    /// The author of an application of their own, by patterns: the first that matches counts.
    Patterns(Patterns, Vec<Scopes>),
    /// The same, by a function.
    Function,
}

impl Table {
    /// Of patterns, each with the words of its scopes: all of them are needed, and none where any valid key will do.
    ///
    /// # Errors
    /// One line a bad pattern or word.
    pub fn of_patterns(patterns: &[(String, Vec<String>)]) -> Result<Self, Vec<ConfigError>> {
        let scopes =
            patterns.iter().map(|(_, words)| needed(words)).collect::<Result<_, _>>().map_err(|fault| vec![fault])?;
        let patterns: Vec<_> = patterns.iter().map(|(pattern, _)| pattern).collect();
        Ok(Self::Patterns(Patterns::new("scopes", &patterns)?, scopes))
    }

    /// What a request needs.
    #[must_use]
    pub fn needed<R: Request>(&self, request: &R) -> Scopes {
        match self {
            _ if request.is_our_own() => Scopes::NONE,
            Self::ComfyUi => in_comfyui(request),
            Self::Patterns(patterns, scopes) => {
                patterns.first(request.route()).map_or(Scopes::ALL, |first| scopes[first])
            }
            Self::Function => request.needed_scopes(),
        }
    }
}

/// What a request needs that needs each of these words.
///
/// # Errors
/// A word is no scope.
pub fn needed<S: AsRef<str>>(words: &[S]) -> Result<Scopes, ConfigError> {
    words.iter().map(AsRef::as_ref).try_fold(Scopes::NONE, |all, word| {
        let is_none = || {
            let words = Scope::EACH.map(Scope::name).join(", ");
            ConfigError::new("scopes", format!("{} is no scope; write one of: {words}", quoted(word)))
        };
        Scope::parse(word).map(|scope| all.and(Scopes::needed(scope))).ok_or_else(is_none)
    })
}

fn in_comfyui<R: Request>(request: &R) -> Scopes {
    let route = request.route();
    let by_node = || if request.is_served_by_node() { Scopes::needed(Scope::Nodes) } else { Scopes::NONE };
    let by_table = match route {
        Route::Unmatched => None,
        Route::Static { prefix, file } => is_a_mount(prefix, file).then(|| Scopes::needed(Scope::View)),
        Route::Path(path) => {
            let path = path.strip_prefix("/api").unwrap_or(path);
            of_comfyui(path, &request.method()).map(Scopes::needed)
        }
    };
    match by_table {
        Some(needed) => needed.and(by_node()),
        None if request.is_served_by_node() => by_node(),
        None => Scopes::ALL,
    }
}

/// Whether a file is of a static mount of ComfyUI's, and not one that nobody means to serve.
fn is_a_mount(prefix: &str, file: &str) -> bool {
    let of_comfyui = matches!(prefix, "" | "/templates" | "/docs") || prefix.starts_with("/extensions/");
    of_comfyui && !is_hidden(prefix) && !is_hidden(file)
}

/// What a route of ComfyUI's needs, by its canonical path without `/api` and its method; `None` where nobody has said.
#[must_use]
pub fn of_comfyui(path: &str, method: &str) -> Option<Scope> {
    match (path, method) {
        ("/prompt" | "/view" | "/ws", "GET" | "HEAD") => Some(Scope::View),
        ("/prompt", "POST") => Some(Scope::Run),
        _ => None,
    }
}
