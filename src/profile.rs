//! Who a ComfyUI profile belongs to (`--multi-user`).
//!
//! Names are compared without case. A profile is known by its id, which is the name of its folder.

use crate::keys::{Scope, Scopes};

/// The id of the profile that the keys of `user` are for, among pairs of an id and a name; `None` if it must be made.
///
/// A name in another case counts as the user's if there is only one. If there are several, it is unclear whose each is.
#[must_use]
pub fn of_user<'a>(profiles: impl IntoIterator<Item = (&'a str, &'a str)>, user: &str) -> Option<&'a str> {
    let ours: Vec<_> = profiles
        .into_iter()
        .filter(|(id, name)| is_a_folder_of_its_own(id) && name.trim().eq_ignore_ascii_case(user))
        .collect();
    let exact = || ours.iter().find(|(_, name)| name.trim() == user);
    match ours.as_slice() {
        [one] => Some(one),
        _ => exact(),
    }
    .map(|(id, _)| *id)
}

/// Whether a key without a user may use the profile with this name (`None`: every profile). `users` are the users who
/// have a key, in lower case.
#[must_use]
pub fn may_be_asked_for(name: Option<&str>, is_a_user: impl Fn(&str) -> bool, scopes: Scopes) -> bool {
    scopes.cover(Scopes::needed(Scope::All)) || name.is_some_and(|name| !is_a_user(&name.trim().to_lowercase()))
}

/// Whether an id is valid and not shared: ComfyUI makes ids of letters, digits, `-` and `_`, and requests without a name
/// share `default`.
fn is_a_folder_of_its_own(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !id.is_empty() && id.bytes().all(is_plain) && !id.starts_with("__") && !id.eq_ignore_ascii_case("default")
}

#[cfg(test)]
#[path = "../tests/units/profile.rs"]
mod tests;
