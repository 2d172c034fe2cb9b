//! What is in the store: one document for each reference by which something was fetched. All of it blocks, briefly.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hf_hub::Cache;
use rbee_schema::{Failure, FailureCode, FileRecord, HubFile, ModelReference};

use super::{digest, hub::repo, part::failed};
use crate::decide::listing::is_hexadecimal;

/// The documents of one store.
#[derive(Debug, Clone)]
pub(super) struct Catalogue {
    store: PathBuf,
    folder: PathBuf,
}

impl Catalogue {
    pub(super) fn open(store: &Path) -> io::Result<Self> {
        let folder = store.join("catalogue");
        fs::create_dir_all(&folder)?;
        Ok(Self { store: store.to_owned(), folder })
    }

    /// What was fetched by this reference, if it is still there and whole.
    pub(super) fn find(&self, reference: &ModelReference) -> Option<FileRecord> {
        self.read(reference).filter(is_there)
    }

    /// Everything that is there and whole, in the order of the references.
    pub(super) fn list(&self) -> Vec<FileRecord> {
        let documents = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut records: Vec<FileRecord> = documents
            .filter(|document| document.path().extension().is_some_and(|extension| extension == "json"))
            .filter_map(|document| serde_json::from_slice(&fs::read(document.path()).ok()?).ok())
            .filter(is_there)
            .collect();
        records.sort_by_key(|record| record.reference.to_string());
        records
    }

    /// A file that another program fetched into the folder; it is read once, to see that it is what its name says.
    pub(super) fn adopt(&self, wanted: &HubFile) -> Option<FileRecord> {
        let link = Cache::new(self.store.clone()).repo(repo(wanted)).get(wanted.path.as_deref()?)?;
        let blob = fs::canonicalize(&link).ok()?;
        let name = blob.file_name()?.to_str()?.to_owned();
        let bytes = fs::metadata(&blob).ok()?.len();
        let sha256 = digest::of_file(&blob, |_| {}).ok()?;
        if is_hexadecimal(&name, 64) && name != sha256 {
            return None;
        }
        let path = link.to_str()?.to_owned();
        let record = FileRecord { reference: ModelReference::Hub(wanted.clone()), path, bytes, sha256 };
        self.put(&record).ok()?;
        Some(record)
    }

    /// Notes what is there.
    pub(super) fn put(&self, record: &FileRecord) -> Result<(), Failure> {
        let document = self.document(&record.reference);
        let aside = document.with_extension(format!("{}.new", std::process::id()));
        let body = serde_json::to_vec(record).unwrap_or_default();
        let written = fs::write(&aside, body).and_then(|()| fs::rename(&aside, &document));
        written.map_err(|error| {
            let _ = fs::remove_file(&aside);
            failed(&document, "write", &error)
        })
    }

    /// Deletes what was fetched by this reference, and says how many bytes are free again: none where another
    /// reference means the same file.
    pub(super) fn remove(&self, reference: &ModelReference) -> Result<u64, Failure> {
        let record = self.read(reference).ok_or_else(|| self.missing(reference))?;
        let link = PathBuf::from(&record.path);
        let blob = fs::canonicalize(&link).ok();
        let others: Vec<FileRecord> = self.list().into_iter().filter(|other| other.reference != *reference).collect();
        let document = self.document(reference);
        fs::remove_file(&document).map_err(|error| failed(&document, "delete", &error))?;
        // A document says where the file is; only what lies in the store is ever deleted.
        let store = fs::canonicalize(&self.store).ok();
        let is_ours = |path: &Path| store.as_ref().is_some_and(|store| path.starts_with(store));
        if !others.iter().any(|other| other.path == record.path)
            && link.parent().and_then(|shelf| fs::canonicalize(shelf).ok()).is_some_and(|shelf| is_ours(&shelf))
        {
            let _ = fs::remove_file(&link);
        }
        let Some(blob) = blob.filter(|blob| is_ours(blob)) else { return Ok(0) };
        if others.iter().any(|other| fs::canonicalize(&other.path).is_ok_and(|path| path == blob)) {
            return Ok(0);
        }
        let bytes = fs::metadata(&blob).map_or(0, |metadata| metadata.len());
        match fs::remove_file(&blob) {
            Ok(()) => Ok(bytes),
            // The name was no link but the file itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(record.bytes),
            Err(error) => Err(failed(&blob, "delete", &error)),
        }
    }

    fn missing(&self, reference: &ModelReference) -> Failure {
        let names: Vec<String> = self.list().iter().map(|record| record.reference.to_string()).collect();
        let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let message = format!("{reference} is not in the store {}: it holds {there}", self.store.display());
        Failure::new(FailureCode::ModelMissing, message)
    }

    fn read(&self, reference: &ModelReference) -> Option<FileRecord> {
        let record: FileRecord = serde_json::from_slice(&fs::read(self.document(reference)).ok()?).ok()?;
        (record.reference == *reference).then_some(record)
    }

    fn document(&self, reference: &ModelReference) -> PathBuf {
        self.folder.join(format!("{}.json", super::digest_of(reference)))
    }
}

fn is_there(record: &FileRecord) -> bool {
    fs::metadata(&record.path).is_ok_and(|file| file.is_file() && file.len() == record.bytes)
}
