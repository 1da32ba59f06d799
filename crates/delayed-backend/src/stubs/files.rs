//! The files that a stub file refers to.

use std::fs;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

/// The maximum size of a file.
const MAX_SIZE: u64 = 16 << 20;

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

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// A message that names the file.
    pub(crate) fn read(&self, name: &str) -> Result<Bytes, String> {
        let name = Path::new(name);
        let path = match self {
            Self::None => return Err("files can only be used if the backend was started with a stub file".to_owned()),
            Self::RelativeTo(folder) => folder.join(name),
            Self::Within(folder) if name.components().all(|one| matches!(one, Component::Normal(_))) => {
                folder.join(name)
            }
            Self::Within(_) => return Err("expected a file within the folder of the stub file".to_owned()),
        };
        let failed = |error| format!("cannot read {}: {error}", path.display());
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(format!("{} is not a file", path.display()));
        }
        if metadata.len() > MAX_SIZE {
            return Err(format!("{} has more than 16 MiB", path.display()));
        }
        fs::read(&path).map(Bytes::from).map_err(failed)
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
