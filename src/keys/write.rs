//! Records to text: a line of a key file.

use super::attributes::Attributes;
use super::file::{DIGEST_PREFIX, Record, parse_key, parse_line};

/// A line, without its end, that reads back as this key, label and attributes. `key` is a key, or `sha256:` and a
/// digest.
///
/// # Errors
/// What cannot be written, and why; never the key.
pub fn write_line(key: &str, label: Option<&str>, attributes: &Attributes) -> Result<String, Vec<String>> {
    parse_key(key, 0).map_err(|fault| vec![fault])?;
    let words = attributes.words().map_err(|fault| vec![fault])?;
    let write = |label: Option<&str>| {
        let pairs = words.iter().map(|(name, value)| format!("{name}={value}"));
        let mut all = vec![key.to_owned()];
        all.extend(label.map(str::to_owned));
        all.extend(pairs);
        all.join(" ")
    };
    let is_the_same = |line: &str| -> Result<bool, Vec<String>> {
        let read = parse_line(line.as_bytes(), 0)?;
        Ok(read.is_some_and(|read| read.label.as_deref() == label && read.attributes == *attributes))
    };
    let plain = write(label);
    if is_the_same(&plain) == Ok(true) {
        return Ok(plain);
    }
    let quoted = write(label.map(|label| format!("\"{label}\"")).as_deref());
    if is_the_same(&quoted)? {
        return Ok(quoted);
    }
    Err(vec![
        "the line would be read differently; a key must not be empty or begin with `#`, and a label must not be \
         empty, or begin or end with a space"
            .to_owned(),
    ])
}

impl Record {
    /// Its line, with `key` in place of the digest if there is one. It ends at `end`, but never later than it would have.
    ///
    /// # Errors
    /// The same as for [`write_line`].
    pub fn write(&self, key: Option<&str>, end: Option<u64>) -> Result<String, Vec<String>> {
        let expires = self.attributes.expires.into_iter().chain(end).min();
        let attributes = Attributes { expires, ..self.attributes.clone() };
        match key {
            Some(key) => write_line(key, self.label.as_deref(), &attributes),
            None => write_line(&self.digest_in_file(), self.label.as_deref(), &attributes),
        }
    }

    /// What a file has in place of the key to keep only its digest. Callers must not log it.
    fn digest_in_file(&self) -> String {
        let digits = self.digest.expose_secret().iter();
        digits.fold(DIGEST_PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }
}

#[cfg(test)]
#[path = "../../tests/units/keys_write.rs"]
mod tests;
