//! Paths in the store's folder. It has the layout of the cache folder of the Hugging Face tools, so that both can use one
//! folder:
//!
//! ```text
//! models--owner--repo/blobs/<digest>            the bytes, once they are complete
//!                     blobs/<digest>.rbee.part  the bytes fetched so far
//!                     snapshots/<commit>/<path> a link to the bytes
//!                     refs/<revision>           the commit that a branch or tag was
//! .locks/models--owner--repo/<digest>.lock      locked while a process fetches these bytes
//! catalogue/<digest of the reference>.json      the record of a reference, which only rbee reads
//! ```

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use hf_hub::Cache;
use rbee_schema::HubFile;

use super::{digest, hub::repo};
use crate::decide::listing::{Content, ListedFile};

/// Paths of one file.
#[derive(Debug, Clone)]
pub(super) struct FilePaths {
    /// The bytes, once they are complete.
    pub(super) blob: PathBuf,
    /// The bytes fetched so far.
    pub(super) partial: PathBuf,
    /// Lock file. Its holder may change the two above.
    pub(super) lock: PathBuf,
    /// Link by which the file is found under its name in the repository.
    pub(super) link: PathBuf,
    blob_name: String,
    levels: usize,
}

impl FilePaths {
    pub(super) fn of(folder: &Path, file: &HubFile, commit: &str, listed: &ListedFile) -> Self {
        let repo = repo(file);
        let blob_name = match &listed.content {
            Content::Sha256(name) | Content::GitObject(name) => name.clone(),
            // The content of a path at a commit never changes.
            Content::Unknown => digest::of(format!("{commit}/{}", listed.path).as_bytes()),
        };
        let cache = Cache::new(folder.to_owned()).repo(repo.clone());
        let blob = cache.blob_path(&blob_name);
        Self {
            partial: blob.with_file_name(format!("{blob_name}.rbee.part")),
            lock: folder.join(".locks").join(repo.folder_name()).join(format!("{blob_name}.lock")),
            link: cache.pointer_path(commit).join(&listed.path),
            levels: listed.path.split('/').count(),
            blob,
            blob_name,
        }
    }

    /// Links the file under its name, and records the commit of the revision.
    pub(super) fn link(&self, folder: &Path, file: &HubFile, commit: &str) -> io::Result<()> {
        let parent = self.link.parent().unwrap_or(folder);
        fs::create_dir_all(parent)?;
        let target = Path::new(&"../".repeat(self.levels + 1)).join("blobs").join(&self.blob_name);
        // Created under another name and renamed, so that a reader finds the old link or the new one.
        let aside = parent.join(format!(".{}.{}", self.blob_name, std::process::id()));
        let _ = fs::remove_file(&aside);
        symlink(target, &aside)?;
        fs::rename(&aside, &self.link)?;
        Cache::new(folder.to_owned()).repo(repo(file)).create_ref(commit)
    }
}
