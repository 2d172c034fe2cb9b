//! Where things are in the store's folder. It is the cache folder of the Hugging Face tools, so that one folder can
//! serve both:
//!
//! ```text
//! models--owner--repo/blobs/<digest>            the bytes, under this name only when they are whole
//!                     blobs/<digest>.rbee.part  what is here of them so far
//!                     snapshots/<commit>/<path> a link to the bytes
//!                     refs/<revision>           the commit that a branch or tag was
//! .locks/models--owner--repo/<digest>.lock      held by whoever fetches or deletes these bytes
//! catalogue/<digest of the reference>.json      what was fetched by which reference: ours alone
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

/// The places of one file.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The bytes, when they are whole.
    pub(super) blob: PathBuf,
    /// The bytes so far.
    pub(super) part: PathBuf,
    /// Who holds it may change the two above.
    pub(super) lock: PathBuf,
    /// Where the file is found by its name.
    pub(super) link: PathBuf,
    blob_name: String,
    levels: usize,
}

impl Places {
    pub(super) fn of(folder: &Path, wanted: &HubFile, commit: &str, file: &ListedFile) -> Self {
        let repo = repo(wanted);
        let blob_name = match &file.content {
            Content::Sha256(name) | Content::GitObject(name) => name.clone(),
            // What a commit holds under a path never changes.
            Content::Unknown => digest::of(format!("{commit}/{}", file.path).as_bytes()),
        };
        let cache = Cache::new(folder.to_owned()).repo(repo.clone());
        let blob = cache.blob_path(&blob_name);
        Self {
            part: blob.with_file_name(format!("{blob_name}.rbee.part")),
            lock: folder.join(".locks").join(repo.folder_name()).join(format!("{blob_name}.lock")),
            link: cache.pointer_path(commit).join(&file.path),
            levels: file.path.split('/').count(),
            blob,
            blob_name,
        }
    }

    /// Makes the file visible under its name, and says which commit the revision was.
    pub(super) fn show(&self, folder: &Path, wanted: &HubFile, commit: &str) -> io::Result<()> {
        let shelf = self.link.parent().unwrap_or(folder);
        fs::create_dir_all(shelf)?;
        let target = Path::new(&"../".repeat(self.levels + 1)).join("blobs").join(&self.blob_name);
        // Made aside and renamed, so that whoever looks finds the one before or this one.
        let aside = shelf.join(format!(".{}.{}", self.blob_name, std::process::id()));
        let _ = fs::remove_file(&aside);
        symlink(target, &aside)?;
        fs::rename(&aside, &self.link)?;
        Cache::new(folder.to_owned()).repo(repo(wanted)).create_ref(commit)
    }
}
