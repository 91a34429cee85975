//! The steps of a decision, to find out why a request was refused. Never contains a credential.

use std::cell::RefCell;
use std::fmt;

/// Records the steps.
#[derive(Default)]
pub struct Trace(RefCell<String>);

impl Trace {
    /// A place is looked at.
    pub fn place(&self, name: &str) {
        let mut steps = self.0.borrow_mut();
        let before = if steps.is_empty() { "looked at " } else { ", " };
        steps.push_str(before);
        steps.push_str(name);
    }

    /// A credential there doesn't admit the request, and why.
    pub fn refused(&self, why: &str) {
        let mut steps = self.0.borrow_mut();
        for part in [" (", why, ")"] {
            steps.push_str(part);
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.borrow())
    }
}
