//! Whose a profile of ComfyUI's is (`--multi-user`).
//!
//! Names are compared without case. A profile is known by its id, which is the name of its folder.

use crate::keys::{Scope, Scopes};

/// The id of the profile that the keys of `user` are for, among pairs of an id and a name; `None` where it is to be made.
///
/// Names in another case are taken for the user's where there is only one such. Of several, nobody knows whose each is.
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

/// Whether a key that is for no user may ask for a profile of this name (`None`: for every one), where keys are for the
/// `users`, in lower case.
#[must_use]
pub fn may_be_asked_for(name: Option<&str>, is_a_user: impl Fn(&str) -> bool, scopes: Scopes) -> bool {
    scopes.cover(Scopes::needed(Scope::All)) || name.is_some_and(|name| !is_a_user(&name.trim().to_lowercase()))
}

/// Whether an id can be nobody else's: ComfyUI makes them of letters, digits, `-` and `_`, and `default` is what requests
/// without a name share.
fn is_a_folder_of_its_own(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !id.is_empty() && id.bytes().all(is_plain) && !id.starts_with("__") && !id.eq_ignore_ascii_case("default")
}

#[cfg(test)]
#[path = "../tests/units/profile.rs"]
mod tests;
