//! The files that a stub file refers to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

/// The maximum size of a file.
const MAX_SIZE: u64 = 16 << 20;

/// The maximum size of all files of a stub file.
const MAX_TOTAL_SIZE: u64 = 64 << 20;

/// Where stubs may read files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Files {
    /// Nowhere: the stubs are not from a file.
    #[default]
    None,
    /// Everywhere. Relative paths are relative to this folder.
    RelativeTo(PathBuf),
    /// Only in this folder and the folders in it, because the stubs are from the network.
    Within(PathBuf),
}

impl Files {
    /// Returns the files of stubs that replace these over the network.
    pub(crate) fn within(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::RelativeTo(folder) | Self::Within(folder) => Self::Within(folder.clone()),
        }
    }

    /// Returns the path of the file with this name.
    ///
    /// # Errors
    ///
    /// A message, if stubs may not read it.
    fn path(&self, name: &str) -> Result<PathBuf, &'static str> {
        let name = Path::new(name);
        match self {
            Self::None => Err("files can only be used if the backend was started with a stub file"),
            Self::RelativeTo(folder) => Ok(folder.join(name)),
            Self::Within(folder) if name.components().all(|one| matches!(one, Component::Normal(_))) => {
                Ok(folder.join(name))
            }
            Self::Within(_) => Err("expected a file within the folder of the stub file"),
        }
    }
}

/// Reads the files of one stub file, each of them once.
#[derive(Debug)]
pub(crate) struct FileReader<'a> {
    files: &'a Files,
    contents: RefCell<HashMap<PathBuf, Bytes>>,
}

impl<'a> FileReader<'a> {
    pub(crate) fn new(files: &'a Files) -> Self {
        Self { files, contents: RefCell::default() }
    }

    /// Reads a file, or returns what has been read of it before.
    ///
    /// # Errors
    ///
    /// A message that names the file.
    pub(crate) fn read(&self, name: &str) -> Result<Bytes, String> {
        let path = self.files.path(name)?;
        let mut contents = self.contents.borrow_mut();
        if let Some(content) = contents.get(&path) {
            return Ok(content.clone());
        }
        let failed = |error| format!("cannot read {}: {error}", path.display());
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(format!("{} is not a file", path.display()));
        }
        if metadata.len() > MAX_SIZE {
            return Err(format!("{} has more than 16 MiB", path.display()));
        }
        let size: u64 = contents.values().map(|content| content.len() as u64).sum();
        if size + metadata.len() > MAX_TOTAL_SIZE {
            return Err(format!("with {}, the files have more than 64 MiB together", path.display()));
        }
        let content = Bytes::from(fs::read(&path).map_err(failed)?);
        contents.insert(path, content.clone());
        Ok(content)
    }
}

/// Returns the media type of a file with this name.
pub(crate) fn media_type(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("json") => "application/json",
        Some("html") => "text/html",
        Some("txt") => "text/plain",
        Some("xml") => "application/xml",
        Some("csv") => "text/csv",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_read_once_and_all_have_a_limit() {
        let folder = std::env::temp_dir().join(format!("delayed-backend-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Sparse, so that they take no space.
        for name in ["a", "b", "c", "d", "e"] {
            fs::File::create(folder.join(name)).unwrap().set_len(MAX_SIZE).unwrap();
        }
        let files = Files::RelativeTo(folder.clone());
        let reader = FileReader::new(&files);
        let first = reader.read("a").unwrap();
        for _ in 0..100 {
            assert_eq!(reader.read("a").unwrap().as_ptr(), first.as_ptr());
        }
        for name in ["b", "c", "d"] {
            reader.read(name).unwrap();
        }
        let error = reader.read("e").unwrap_err();
        assert!(error.ends_with("e, the files have more than 64 MiB together"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
