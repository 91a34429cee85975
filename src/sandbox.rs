//! Keeps content that clients can write from acting as one of our pages (stored XSS).
//!
//! A page or script that someone with a key uploaded would act with the rights of the person who opens it. So browsers get
//! it in a sandbox (CSP, directive `sandbox`), must not guess another type (`nosniff`), and download it if they would run
//! its type. Pictures, videos, sound and text are shown as before, and what a page loads itself (`<img>`, `<video>`,
//! `fetch`, a style sheet) works as before.

/// The whole policy.
const POLICY: &str = "sandbox";

/// The same for sound and films. If a browser opens one in its own tab, it requests it a second time, without the
/// cookie if the tab has no origin. Scripts don't run here, either.
const PLAYED: &str = "sandbox allow-same-origin";

/// A type that no browser runs or shows.
pub const BYTES: &str = "application/octet-stream";

/// Whether a ComfyUI route, by its canonical path, answers with what clients can write.
#[must_use]
pub fn answers_what_clients_write(path: &str) -> bool {
    let path = path.strip_prefix("/api").unwrap_or(path);
    let routes = ["/view", "/view_metadata", "/userdata", "/v2/userdata", "/assets", "/experiment/models/preview"];
    routes.iter().any(|route| path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// How a browser treats a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is shown as before.
    Shown,
    /// It is downloaded when opened.
    Downloaded,
    /// The same, and no page can load it as its script, either.
    Disarmed,
}

/// The policy for a `Content-Type` value.
#[must_use]
pub fn policy(content_type: &str) -> &'static str {
    let is_played = ["audio/", "video/"]
        .iter()
        .any(|kind| content_type.trim_start().get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)));
    if is_played && treatment(content_type) == Treatment::Shown { PLAYED } else { POLICY }
}

/// What to do with a `Content-Type` value. Unknown types are downloaded.
#[must_use]
pub fn treatment(content_type: &str) -> Treatment {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let Some((kind, subtype)) = essence.split_once('/').filter(|(kind, subtype)| is_token(kind) && is_token(subtype))
    else {
        return Treatment::Downloaded;
    };
    if ["javascript", "ecmascript", "jscript", "livescript"].iter().any(|name| subtype.contains(name)) {
        return Treatment::Disarmed;
    }
    // Browsers take every type that ends in `+xml` for XML, which may hold scripts: not only SVG, but also X3D
    // (`model/x3d+xml`).
    let may_be_xml = subtype.contains("xml") || subtype.contains("svg");
    let is_shown = match kind {
        "image" | "audio" | "video" | "model" => !may_be_xml,
        "text" => subtype == "plain",
        "application" => matches!(subtype, "json" | "octet-stream"),
        _ => false,
    };
    if is_shown { Treatment::Shown } else { Treatment::Downloaded }
}

/// A `Content-Disposition` value that makes browsers download the response, keeping its file name.
///
/// ComfyUI's `/view` sends a name without a disposition, which browsers treat as `inline`.
#[must_use]
pub fn as_attachment(disposition: &str) -> String {
    let (first, rest) = disposition.split_once(';').map_or((disposition, ""), |(first, rest)| (first, rest));
    let parameters = if first.contains('=') { disposition } else { rest }.trim();
    if parameters.is_empty() { "attachment".to_owned() } else { format!("attachment; {parameters}") }
}

/// Whether a `Content-Security-Policy` value already has the policy. Others beside it do not matter.
#[must_use]
pub fn is_sandboxed(policies: &str) -> bool {
    policies.split(',').flat_map(|policy| policy.split(';')).any(|directive| directive.trim() == POLICY)
}

#[cfg(test)]
#[path = "../tests/units/sandbox.rs"]
mod tests;
