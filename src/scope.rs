//! Which scope a route needs.

use crate::keys::Scope;

/// What a route of ComfyUI's needs, by its canonical path without `/api` and its method; `None` where nobody has said.
#[must_use]
pub fn of_comfyui(path: &str, method: &str) -> Option<Scope> {
    match (path, method) {
        ("/prompt", "GET" | "HEAD") => Some(Scope::View),
        ("/prompt", "POST") => Some(Scope::Run),
        _ => None,
    }
}
