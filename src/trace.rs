//! The steps of a decision, for an operator who asks why a request was refused. Never a credential.

use std::cell::RefCell;
use std::fmt;

/// Where the steps are written down.
#[derive(Default)]
pub struct Trace(RefCell<String>);

impl Trace {
    /// A credential was looked at: where it was, and why it doesn't admit.
    pub fn looked_at(&self, place: &str, why: &str) {
        let mut steps = self.0.borrow_mut();
        if !steps.is_empty() {
            steps.push_str(", ");
        }
        steps.push_str(place);
        steps.push_str(": ");
        steps.push_str(why);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.borrow().is_empty() { "no credential was presented" } else { "" })?;
        f.write_str(&self.0.borrow())
    }
}
