//! The file of a recording, which contains whole lines only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::telemetry::log_queue::LogQueue;

/// A file that is appended to, after what an earlier queue has left: both may be the same file.
pub(super) struct RecordingFile {
    file: File,
    path: PathBuf,
    /// The queue, and how long to wait for it.
    earlier: Option<(LogQueue, Duration)>,
    /// Whether the last write failed.
    failed: bool,
}

impl RecordingFile {
    /// Opens a file, or creates it.
    ///
    /// # Errors
    ///
    /// Returns an error if that is not possible, or it is a named pipe, which could not be opened without a reader.
    pub(super) fn open(path: &Path, earlier: Option<(LogQueue, Duration)>) -> io::Result<Self> {
        if is_named_pipe(path) {
            return Err(io::Error::other("is a named pipe; expected a file"));
        }
        let mut file = OpenOptions::new().append(true).read(true).create(true).open(path)?;
        if !ends_with_line_break(&mut file) {
            // What wrote it was ended in the middle of a line.
            file.write_all(b"\n")?;
        }
        Ok(Self { file, path: path.to_owned(), earlier, failed: false })
    }
}

#[cfg(unix)]
fn is_named_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;

    // Standard output may be a pipe that has a reader.
    !path.starts_with("/dev") && fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_named_pipe(_path: &Path) -> bool {
    false
}

/// Returns whether a file is empty, or ends with a line break. So does what is no file.
fn ends_with_line_break(file: &mut File) -> bool {
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut last = [b'\n'];
    let is_read = is_file && file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).is_ok();
    !is_read || last == [b'\n']
}

impl Write for RecordingFile {
    /// Writes all of the lines or none of them: after a part of a line, the next ones could not be read.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if let Some((queue, limit)) = self.earlier.take() {
            queue.flush(limit);
        }
        let length = self.file.metadata()?.len();
        let written = self.file.write_all(lines);
        if let Err(error) = &written {
            if !self.failed {
                log::warn!("--record-faults '{}': lines are missing from here on: {error}", self.path.display());
            }
            // If this fails, too, it is no file.
            let _ = self.file.set_len(length);
        }
        self.failed = written.is_err();
        written.map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_ends_in_the_middle_of_a_line_is_continued_with_a_line_of_its_own() {
        let path = std::env::temp_dir().join(format!("recording-{}", std::process::id()));
        for (before, expected) in
            [("", "ok,\n"), ("close,\n", "close,\nok,\n"), ("close, # 10:", "close, # 10:\nok,\n")]
        {
            fs::write(&path, before).unwrap();
            RecordingFile::open(&path, None).unwrap().write_all(b"ok,\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
        fs::remove_file(path).unwrap();
    }
}
