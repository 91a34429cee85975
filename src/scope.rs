//! Which scopes a route needs.
//!
//! One table for ComfyUI's own routes, one rule for ComfyUI-Manager's, one for static mounts. All other routes need `all`,
//! or `nodes` if a custom node answers them.

use crate::error::{ConfigError, quoted};
use crate::exempt::{Route, is_hidden, is_spelled_plainly, without_api};
use crate::keys::Scope::{self, All, Run, View};
use crate::keys::{Entry, Scopes};
use crate::patterns::Patterns;
use crate::request::{Handler, Request};
use crate::user_file;

/// What says which scopes a route needs. A route that it doesn't name needs `all`.
#[derive(Debug)]
pub enum Table {
    /// The table of ComfyUI's routes.
    ComfyUi,
    /// An application's patterns: the first match counts.
    Patterns(Patterns, Vec<Scopes>),
    /// An application's function.
    Function,
}

impl Table {
    /// A table of patterns, each with the words of all the scopes that it needs; no words if any valid key will do.
    ///
    /// # Errors
    /// One line per bad pattern or word.
    pub fn of_patterns(patterns: &[(String, Vec<String>)]) -> Result<Self, Vec<ConfigError>> {
        let scopes =
            patterns.iter().map(|(_, words)| needed(words)).collect::<Result<_, _>>().map_err(|fault| vec![fault])?;
        let patterns: Vec<_> = patterns.iter().map(|(pattern, _)| pattern).collect();
        Ok(Self::Patterns(Patterns::new("scopes", &patterns)?, scopes))
    }

    /// Whether no scopes are defined for any route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Patterns(_, scopes) if scopes.is_empty())
    }

    /// What a request with `key` needs. Patterns and functions see the requested path, so a file below a static mount needs
    /// `all` in any spelling but the plain one.
    #[must_use]
    pub fn needed<R: Request>(&self, request: &R, key: &Entry) -> Scopes {
        if request.is_our_own() {
            return of_our_own(request.route());
        }
        if let Some(known) = request.known_scopes() {
            return known;
        }
        match (request.route(), self) {
            (Route::Static { file, .. }, _) if !is_spelled_plainly(file) => Scopes::ALL,
            (_, Self::Function) => request.needed_scopes(),
            (Route::Path(path), Self::ComfyUi) if names_user_files(path) => {
                in_comfyui(request).and(of_user_files(request, key))
            }
            (Route::Path(_), _) => {
                let needed = self.of_route(request);
                request.remember_scopes(needed);
                needed
            }
            _ => self.of_route(request),
        }
    }

    /// Whether ComfyUI-Manager answers this route.
    #[must_use]
    pub fn is_of_the_manager(&self, route: Route<'_>) -> bool {
        matches!(self, Self::ComfyUi) && leads_to_the_manager(route)
    }

    fn of_route<R: Request>(&self, request: &R) -> Scopes {
        match self {
            Self::Patterns(patterns, scopes) => {
                patterns.first(request.route()).map_or(Scopes::ALL, |first| scopes[first])
            }
            _ => in_comfyui(request),
        }
    }
}

/// What the routes that this package adds need: any valid key, except for the metrics.
fn of_our_own(route: Route<'_>) -> Scopes {
    let tells_figures = matches!(route, Route::Path(path) if without_api(path) == METRICS);
    if tells_figures { Scopes::needed(Scope::Metrics) } else { Scopes::NONE }
}

/// Whether the scopes of a route depend on the files that a request names.
fn names_user_files(path: &str) -> bool {
    let path = without_api(path);
    path == "/userdata" || path == "/v2/userdata" || path.starts_with("/userdata/")
}

fn of_user_files<R: Request>(request: &R, key: &Entry) -> Scopes {
    let writes = !matches!(&*request.method(), "GET" | "HEAD");
    let Some(files) = request.user_files(key) else { return Scopes::ALL };
    files.iter().fold(Scopes::NONE, |all, file| all.and(user_file::needed(file, writes)))
}

/// The set of these scopes.
///
/// # Errors
/// A word is not a scope.
pub fn needed<S: AsRef<str>>(words: &[S]) -> Result<Scopes, ConfigError> {
    words.iter().map(AsRef::as_ref).try_fold(Scopes::NONE, |all, word| {
        let is_none = || {
            let words = Scope::EACH.map(Scope::name).join(", ");
            ConfigError::new("scopes", format!("{} is not a scope; write one of: {words}", quoted(word)))
        };
        Scope::parse(word).map(|scope| all.and(Scopes::needed(scope))).ok_or_else(is_none)
    })
}

fn in_comfyui<R: Request>(request: &R) -> Scopes {
    let method = request.method();
    let by_table = match request.route() {
        Route::Unmatched => None,
        route if leads_to_the_manager(route) => return Scopes::ALL,
        Route::Static { prefix, file } if is_hidden(prefix) || is_hidden(file) => return Scopes::ALL,
        Route::Static { prefix, .. } => of_comfyuis_files(without_api(prefix), &method),
        Route::Path(path) => of_comfyui(without_api(path), &method),
    };
    let nodes = Scopes::needed(Scope::Nodes);
    match (by_table.map(Scopes::needed), request.handler()) {
        (Some(needed), Handler::ComfyUi) => needed,
        // The stricter of both counts: if it is unknown whose code answers, the route must not need less than a node's.
        (Some(needed), Handler::Node | Handler::Unknown) => needed.and(nodes),
        (None, Handler::Node) => nodes,
        (None, Handler::ComfyUi | Handler::Unknown) => Scopes::ALL,
    }
}

/// Where Prometheus reads.
const METRICS: &str = "/metrics";

/// A ComfyUI route: method, canonical path without `/api`, what it needs.
type Row = (&'static str, &'static str, Scope);

/// Every route of ComfyUI 0.3.64, 0.8.0, 0.26.0 and 0.33.0. A path ends in `{name}` if the canonical one does, whatever
/// expression the name has. `HEAD` is looked up as `GET`.
#[rustfmt::skip]
const OF_COMFYUI: &[Row] = &[
    // The page and its socket.
    ("GET",    "/",                                                     View),
    ("GET",    "/ws",                                                   View),
    ("GET",    "/extensions",                                           View),
    ("GET",    "/features",                                             View),
    ("GET",    "/i18n",                                                 View),
    ("GET",    "/templates/{path}",                                     View), // or a static mount
    ("GET",    "/workflow_templates",                                   View),
    ("GET",    "/global_subgraphs",                                     View),
    ("GET",    "/global_subgraphs/{id}",                                View),
    ("GET",    "/node_replacements",                                    View),

    // Nodes, models, machine. With `--enable-assets`, `/object_info` scans the folders: that only fills a cache, and
    // the page asks for it.
    ("GET",    "/object_info",                                          View),
    ("GET",    "/object_info/{node_class}",                             View),
    ("GET",    "/embeddings",                                           View),
    ("GET",    "/models",                                               View),
    ("GET",    "/models/{folder}",                                      View),
    ("GET",    "/experiment/models",                                    View),
    ("GET",    "/experiment/models/{folder}",                           View),
    ("GET",    "/experiment/models/preview/{folder}/{path_index}/{filename}", View),
    ("GET",    "/view_metadata/{folder_name}",                          View),
    ("GET",    "/system_stats",                                         View),
    ("POST",   "/free",                                                 All), // it unloads everyone's models

    // Prompts: queue, history, jobs.
    ("GET",    "/prompt",                                               View),
    ("POST",   "/prompt",                                               Run),
    ("GET",    "/queue",                                                View),
    ("POST",   "/queue",                                                Run),
    ("GET",    "/history",                                              View),
    ("POST",   "/history",                                              Run),
    ("GET",    "/history/{prompt_id}",                                  View),
    ("POST",   "/interrupt",                                            Run),
    ("GET",    "/jobs",                                                 View),
    ("GET",    "/jobs/{job_id}",                                        View),
    ("POST",   "/jobs/cancel",                                          Run),
    ("POST",   "/jobs/{job_id}/cancel",                                 Run),

    // Pictures.
    ("GET",    "/view",                                                 View),
    ("POST",   "/upload/image",                                         Run),
    ("POST",   "/upload/mask",                                          Run),

    // Settings, workflows, users. Whether `/userdata` may be written depends on the file. Its GETs make missing parent
    // folders in the user's own folder, and leave them empty: the page uses them to read workflows.
    ("GET",    "/settings",                                             View),
    ("POST",   "/settings",                                             Run),
    ("GET",    "/settings/{id}",                                        View),
    ("POST",   "/settings/{id}",                                        Run),
    ("GET",    "/userdata",                                             View),
    ("GET",    "/v2/userdata",                                          View),
    ("GET",    "/userdata/{file}",                                      View),
    ("POST",   "/userdata/{file}",                                      Run),
    ("DELETE", "/userdata/{file}",                                      Run),
    ("POST",   "/userdata/{file}/move/{dest}",                          Run),
    ("GET",    "/users",                                                View),
    ("POST",   "/users",                                                All),

    // Assets. An upload can name a folder of models as its destination, so it needs more than `/upload/image`. Scans,
    // and what they found, are about every file there is.
    ("GET",    "/assets",                                               View),
    ("POST",   "/assets",                                               All),
    ("POST",   "/assets/from-hash",                                     Run),
    ("GET",    "/assets/hash/{hash}",                                   View),
    ("GET",    "/assets/{id}",                                          View),
    ("PUT",    "/assets/{id}",                                          Run),
    ("DELETE", "/assets/{id}",                                          Run),
    ("GET",    "/assets/{id}/content",                                  View),
    ("POST",   "/assets/{id}/tags",                                     Run),
    ("DELETE", "/assets/{id}/tags",                                     Run),
    ("GET",    "/assets/tags/refine",                                   View),
    ("GET",    "/tags",                                                 View),
    ("POST",   "/assets/seed",                                          All),
    ("GET",    "/assets/seed/status",                                   All),
    ("POST",   "/assets/seed/cancel",                                   All),
    ("POST",   "/assets/prune",                                         All),

    // Internals: names of files for the page; logs and paths for the owner.
    ("GET",    "/internal/files/{directory_type}",                      View),
    ("GET",    "/internal/folder_paths",                                All),
    ("GET",    "/internal/logs",                                        All),
    ("GET",    "/internal/logs/raw",                                    All),
    ("PATCH",  "/internal/logs/subscribe",                              All),
];

/// The folders that ComfyUI mounts, each with further mounts below it. The frontend's own is at "".
const FOLDERS_OF_COMFYUI: [&str; 4] = ["/extensions", "/templates", "/docs", "/workflow_templates"];

/// The first words of the paths of ComfyUI-Manager, as a package and as a custom node.
const FAMILIES_OF_THE_MANAGER: [&str; 5] = ["manager", "customnode", "snapshot", "externalmodel", "comfyui_manager"];

/// Its paths before version 3.
const OLD_ONES_OF_THE_MANAGER: [(&str, &str); 2] = [("model", "install"), ("alternatives", "getlist")];

/// What a ComfyUI route needs, by its canonical path without `/api` and its method; `None` if it is not in the table.
#[must_use]
pub fn of_comfyui(path: &str, method: &str) -> Option<Scope> {
    if path.starts_with("/api/") {
        return Some(All); // a twin's twin: ComfyUI has those of `/api/jobs`, which nobody asks for
    }
    let method = if method == "HEAD" { "GET" } else { method };
    let row = OF_COMFYUI.iter().find(|row| row.0 == method && row.1 == path)?;
    Some(row.2)
}

/// What a file below one of ComfyUI's static mounts needs, by the mount's prefix without `/api`; `None` if it is
/// unknown.
#[must_use]
pub fn of_comfyuis_files(prefix: &str, method: &str) -> Option<Scope> {
    let is_below =
        |folder| prefix.strip_prefix(folder).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('/'));
    let is_comfyuis = prefix.is_empty() || FOLDERS_OF_COMFYUI.into_iter().any(is_below);
    (is_comfyuis && matches!(method, "GET" | "HEAD")).then_some(View)
}

fn leads_to_the_manager(route: Route<'_>) -> bool {
    match route {
        Route::Unmatched => false,
        Route::Static { prefix, file } => is_of_the_manager(&format!("{prefix}/{file}")),
        Route::Path(path) => is_of_the_manager(path),
    }
}

/// Whether a path, canonical or as requested, is one of ComfyUI-Manager's, no matter who serves it.
///
/// Any number of `/api` and `/v2` may come before it. A canonical path with names (`{name}`) is one if any value of the
/// names makes it one.
#[must_use]
pub fn is_of_the_manager(path: &str) -> bool {
    const BEFORE: [&str; 2] = ["api", "v2"];
    let (known, has_names) = path.split_once('{').map_or((path, false), |(known, _)| (known, true));
    let mut words = known.split('/').filter(|word| !word.is_empty()).peekable();
    // A name's value may continue the last word, or be the first one.
    let goes_on = has_names && !known.ends_with('/');
    while let Some(word) = words.next() {
        if goes_on && words.peek().is_none() {
            return FAMILIES_OF_THE_MANAGER.iter().chain(&BEFORE).any(|one| one.starts_with(word));
        }
        if !BEFORE.contains(&word) {
            let next = words.next().unwrap_or_default();
            return FAMILIES_OF_THE_MANAGER.contains(&word) || OLD_ONES_OF_THE_MANAGER.contains(&(word, next));
        }
    }
    has_names
}

#[cfg(test)]
#[path = "../tests/units/scope.rs"]
mod tests;
