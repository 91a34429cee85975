//! Which scope a ComfyUI user's file needs.
//!
//! `/userdata` reaches a user's whole folder. Its files decide what the owner's page does (`user.css`) and what the Manager
//! installs (its `config.ini`, its startup scripts), so keys without `all` may only write:
//!
//! 1. Files in the folders where the page keeps what people make: workflows, subgraphs, and key bindings.
//! 2. The page's own settings and templates.
//!
//! And they may read everything except
//!
//! 3. the Manager's folder, and
//! 4. anything below one of the page's own files: ComfyUI makes missing folders even to read, and such a folder
//!    would take the file's place.
//!
//! The path that counts is the one on disk: relative to the user's folder, without links and `..`, with `/` between names.
//! Names that some systems treat as other names need `all` on every system.

use crate::keys::{Scope, Scopes};

/// Where the page keeps what people make.
const FOLDERS: [&str; 3] = ["workflows", "subgraphs", "keybindings"];

/// What the page writes in the user's folder itself.
const FILES: [&str; 2] = ["comfy.settings.json", "comfy.templates.json"];

/// What it only reads.
const STYLE: &str = "user.css";

/// Letters of the names of the Manager's folders, in old and new versions.
const MANAGER: [&str; 2] = ["comfyuimanager", "manager"];

/// The scopes that a request needs to read or write a file, or to list a folder. The user's folder itself is `""`.
#[must_use]
pub fn needed(path: &str, writes: bool) -> Scopes {
    let may = if writes { is_written_below_all(path) } else { is_read_below_all(path) };
    Scopes::needed(match (may, writes) {
        (false, _) => Scope::All,
        (true, true) => Scope::Run,
        (true, false) => Scope::View,
    })
}

fn is_written_below_all(path: &str) -> bool {
    match path.split_once('/') {
        None => FILES.contains(&path),
        Some((folder, rest)) => FOLDERS.contains(&folder) && rest.split('/').all(means_the_same_everywhere),
    }
}

fn is_read_below_all(path: &str) -> bool {
    let (first, below) = path.split_once('/').map_or((path, None), |(first, below)| (first, Some(below)));
    let is_file = || FILES.iter().chain([&STYLE]).any(|file| letters(first) == letters(file));
    !is_managers(first) && (below.is_none() || !is_file())
}

/// Whether it is the Manager's folder, in any spelling: with what a system leaves out of names, or as a short name
/// (`COMFYU~1`).
fn is_managers(folder: &str) -> bool {
    let name = letters(folder.split(':').next().unwrap_or_default());
    let is_short = folder.split_once('~').is_some_and(|(start, number)| {
        let start: String = letters(start).chars().take(2).collect();
        let fits = folder.starts_with("__") || MANAGER.iter().any(|name| name.starts_with(&start));
        number.starts_with(|c: char| c.is_ascii_digit()) && fits
    });
    is_short || MANAGER.contains(&name.as_str())
}

/// Its ASCII letters and digits, in lower case.
fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether a name means only the file of this name on every system: not a device, not a stream of another file, and
/// without an ending that is cut off.
fn means_the_same_everywhere(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let is_port = ["com", "lpt"].iter().any(|port| {
        let number = stem.strip_prefix(port).unwrap_or_default();
        number.chars().count() == 1 && number.chars().all(char::is_numeric)
    });
    let is_device = is_port || ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"].contains(&stem.as_str());
    !matches!(name, "" | "." | "..")
        && !name.ends_with(['.', ' '])
        && !name.contains(|c: char| c == '\\' || c == ':' || c.is_control())
        && !is_device
}

#[cfg(test)]
#[path = "../tests/units/user_file.rs"]
mod tests;
