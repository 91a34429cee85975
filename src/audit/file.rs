//! The log file. If it is moved away, a new one is made under its name.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The open log file.
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Text to write, from the start of a line.
    text: Vec<u8>,
    /// How much of it is written.
    written: usize,
}

impl LogFile {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// Why it can't be written to, and what to do.
    pub fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let file = open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{shown}: its folder does not exist; make it, or name another"),
            io::ErrorKind::PermissionDenied => {
                format!("{shown}: no permission to write there; change the owner or mode, or name another file")
            }
            io::ErrorKind::InvalidInput => {
                format!("{shown}: not a regular file (a link or a folder, perhaps); name a file")
            }
            _ => format!("{shown}: it cannot be opened: {error}"),
        })?;
        Ok(Self { path: path.to_owned(), file, text: Vec::new(), written: 0 })
    }

    /// The name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes text to write; whole lines.
    pub fn add(&mut self, lines: &[u8]) {
        self.text.extend_from_slice(lines);
    }

    /// How many bytes are still to be written.
    pub fn left(&self) -> usize {
        self.text.len() - self.written
    }

    /// Writes what is left. What could not be written is kept, and tried again at the next call.
    ///
    /// # Errors
    /// The system's error.
    pub fn write(&mut self) -> io::Result<()> {
        self.follow()?;
        while self.written < self.text.len() {
            match self.file.write(&self.text[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.text.clear();
        self.written = 0;
        Ok(())
    }

    /// The file's content, or its last `most` bytes.
    ///
    /// # Errors
    /// The system's error.
    pub fn last(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut text = Vec::new();
        file.take(most).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Shows other servers that they aren't the only writer. Returns whether this one is.
    pub fn share(&self) -> bool {
        let alone = self.file.try_lock().is_ok();
        let _ = self.file.lock_shared();
        alone
    }

    /// Pretends that the system accepted this much, and then no more.
    #[cfg(test)]
    pub fn pretend_to_have_written(&mut self, text: &[u8]) {
        assert!(self.text.starts_with(text));
        self.written = text.len();
    }

    /// Opens the file again if its name is gone or names another file. A partly written line goes to the new file as a
    /// whole.
    fn follow(&mut self) -> io::Result<()> {
        let is_the_same = match fs::symlink_metadata(&self.path) {
            Ok(found) => is_same(&found, &self.file.metadata()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !is_the_same {
            self.file = open(&self.path)?;
            let _ = self.file.lock_shared();
            let line = self.text[..self.written].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            self.text.drain(..line);
            self.written = 0;
        }
        Ok(())
    }
}

/// Opens it, readable only by its owner, and ends an incomplete last line.
fn open(path: &Path) -> io::Result<File> {
    // Checked before opening: opening a named pipe would wait for a reader.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    }
    let mut file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Elsewhere, an open file cannot be moved away.
#[cfg(not(unix))]
fn is_same(_one: &Metadata, _other: &Metadata) -> bool {
    true
}
