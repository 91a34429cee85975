//! Which routes need no key. Matches the resolved route, never the path as the client spelled it.

use crate::error::ConfigError;
use crate::patterns::Patterns;

/// The resource that the server's router resolved a request to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// A route with its canonical path: `/prompt`, `/userdata/{file}`.
    Path(&'a str),
    /// A file below a static mount.
    Static {
        /// The mount's prefix; empty for `/`.
        prefix: &'a str,
        /// The decoded path below it.
        file: &'a str,
    },
    /// No route: unknown path or wrong method.
    Unmatched,
}

/// How far a request is exempt from needing a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exemption {
    /// Not at all.
    None,
    /// With any credential or none.
    Open,
    /// The route asks its own question, which counts wrong keys.
    AsksItself,
    /// Only if it presents no invalid credential, so that a login page can validate a key against it.
    UnlessInvalid,
    /// As a WebSocket: unless it takes a `clientId` over, or a page of another host opens it.
    Socket,
}

/// The kind of application, which decides what is public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// ComfyUI: what the guide names, and every route's twin below `/api`. Preflights are answered at the gate.
    ComfyUi {
        /// Whether the WebSocket needs a key, too.
        require_ws: bool,
    },
    /// Any other application: `/health` and the login page. A preflight reaches a handler registered for it.
    Own,
}

/// The suffixes of the guide's "Static Files".
const SUFFIXES: [&str; 18] = [
    ".html", ".js", ".css", ".json", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".ico", ".woff", ".woff2",
    ".ttf", ".mp3", ".wav", ".mp4", ".webm",
];

/// Longest path below a static mount that is exempt, in bytes.
const MAX_FILE: usize = 1024;

/// Longest segment of it, in bytes.
const MAX_SEGMENT: usize = 255;

/// The exemptions in force: the application's, and the operator's own patterns.
#[derive(Debug)]
pub struct Exemptions {
    application: Application,
    patterns: Patterns,
}

impl Exemptions {
    /// Takes the operator's patterns.
    ///
    /// # Errors
    /// One line per bad pattern.
    pub fn new<S: AsRef<str>>(application: Application, patterns: &[S]) -> Result<Self, Vec<ConfigError>> {
        let patterns = Patterns::new("exempt", patterns)?;
        Ok(Self { application, patterns })
    }

    /// Whether it is ComfyUI that is protected.
    #[must_use]
    pub fn in_comfyui(&self) -> bool {
        matches!(self.application, Application::ComfyUi { .. })
    }

    /// How far a request to `route` by `method` is exempt.
    #[must_use]
    pub fn of(&self, route: Route<'_>, method: &str) -> Exemption {
        let reads = method == "GET" || method == "HEAD";
        match route {
            Route::Unmatched => Exemption::None,
            // The first starts and ends sessions. The second tells proxies, which can't use the login page, whether another
            // request has a credential.
            Route::Path("/auth_session") if method == "POST" || method == "DELETE" => Exemption::AsksItself,
            Route::Path("/auth_verify") if reads => Exemption::AsksItself,
            Route::Path(path) => match self.of_path(path, reads) {
                Exemption::None if self.patterns.first(route).is_some() => Exemption::Open,
                exemption => exemption,
            },
            Route::Static { prefix, file } => {
                let is_seen = || !is_hidden(prefix) && !is_hidden(file);
                let is_public = || reads && self.in_comfyui() && is_public_mount(prefix, file) && is_seen();
                if is_plain(file) && (is_public() || self.patterns.first(route).is_some()) {
                    Exemption::Open
                } else {
                    Exemption::None
                }
            }
        }
    }

    fn of_path(&self, path: &str, reads: bool) -> Exemption {
        let Application::ComfyUi { require_ws } = self.application else { return of_our_own(path, reads) };
        match without_api(path) {
            "/ws" if reads && !require_ws => Exemption::Socket,
            _ if reads && path == "/index.html" => Exemption::Open,
            _ if reads && (path.starts_with("/templates/") || path.starts_with("/docs/")) => Exemption::Open,
            path => of_our_own(path, reads),
        }
    }
}

/// A canonical path without the `/api` of ComfyUI's twins. Removes only one, however many there are.
#[must_use]
pub fn without_api(path: &str) -> &str {
    path.strip_prefix("/api").filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// The routes that this package adds.
fn of_our_own(path: &str, reads: bool) -> Exemption {
    match path {
        "/health" if reads => Exemption::UnlessInvalid,
        "/auth_login.html" | "/auth_login.js" | "/auth_link.js" | "/auth_inject.js" if reads => Exemption::Open,
        _ => Exemption::None,
    }
}

/// ComfyUI's static mounts without user data: the frontend's own (by suffix), extensions, templates, documentation.
fn is_public_mount(prefix: &str, file: &str) -> bool {
    match prefix {
        "" => {
            let below = |folder: &str| file.starts_with(folder);
            has_suffix(file) || below("extensions/") || below("templates/") || below("docs/")
        }
        "/extensions" | "/templates" | "/docs" => true,
        _ => ["/extensions/", "/templates/", "/docs/"].iter().any(|folder| prefix.starts_with(folder)),
    }
}

fn has_suffix(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.rfind('.').is_some_and(|dot| SUFFIXES.iter().any(|suffix| name[dot..].eq_ignore_ascii_case(suffix)))
}

/// No dot segments, backslashes or control characters, and not too long for file systems: a path with only one meaning.
/// (aiohttp answers 500 if the file system says that a name is too long.)
fn is_plain(file: &str) -> bool {
    file.len() <= MAX_FILE
        && !file.contains(|c: char| c == '\\' || c.is_control())
        && !file.split('/').any(|segment| segment == ".." || segment == "." || segment.len() > MAX_SEGMENT)
}

/// Whether there is only one way to write a path below a static mount, so that a pattern is compared with the file that is
/// served: `public/../x`, `x/` and `.//x` are all `x` to a file system.
#[must_use]
pub fn is_spelled_plainly(file: &str) -> bool {
    is_plain(file) && (file.is_empty() || !file.split('/').any(str::is_empty))
}

/// Whether a name in it begins with a dot, such as `.env` and `.git`, which nobody means to serve. Short names and drives
/// on Windows (`GIT~1`, `C:.env`), and names after characters that HFS+ ignores, may do so, too.
#[must_use]
pub fn is_hidden(path: &str) -> bool {
    let ignored =
        |c| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let is_short = |(tilde, _)| path[tilde + 1..].starts_with(|c: char| c.is_ascii_digit());
    path.contains(':')
        || path.split('/').any(|segment| segment.trim_start_matches(ignored).starts_with('.'))
        || path.match_indices('~').any(is_short)
}

#[cfg(test)]
#[path = "../tests/units/exempt.rs"]
mod tests;
