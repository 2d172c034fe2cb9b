//! The records of the store: one document for each reference by which a file was fetched. All functions block briefly.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hf_hub::Cache;
use rbee_schema::{Failure, FailureCode, FileRecord, HubFile, ModelReference};

use super::{digest, hub::repo, partial::failed};
use crate::decide::listing::is_hexadecimal;

/// Records of one store.
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

    /// Record of a reference whose file is still there and complete.
    pub(super) fn find(&self, reference: &ModelReference) -> Option<FileRecord> {
        self.read(reference).filter(is_there)
    }

    /// Records of all files that are there and complete, sorted by reference.
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

    /// Adds a file that another program fetched into the folder. It is read once, to check that its digest is its name.
    pub(super) fn adopt(&self, file: &HubFile) -> Option<FileRecord> {
        let link = Cache::new(self.store.clone()).repo(repo(file)).get(file.path.as_deref()?)?;
        let blob = fs::canonicalize(&link).ok()?;
        let name = blob.file_name()?.to_str()?.to_owned();
        let bytes = fs::metadata(&blob).ok()?.len();
        let sha256 = digest::of_file(&blob, |_| {}).ok()?;
        if is_hexadecimal(&name, 64) && name != sha256 {
            return None;
        }
        let path = link.to_str()?.to_owned();
        let record = FileRecord { reference: ModelReference::Hub(file.clone()), path, bytes, sha256 };
        self.put(&record).ok()?;
        Some(record)
    }

    /// Writes a record.
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

    /// Deletes the file of a reference. Returns the number of bytes freed: 0 where another reference has the same file.
    ///
    /// # Errors
    /// `model-missing` where there is no such record, and errors of the disk.
    pub(super) fn remove(&self, reference: &ModelReference) -> Result<u64, Failure> {
        let record = self.read(reference).ok_or_else(|| self.missing(reference))?;
        let link = PathBuf::from(&record.path);
        let blob = fs::canonicalize(&link).ok();
        let others: Vec<FileRecord> = self.list().into_iter().filter(|other| other.reference != *reference).collect();
        let document = self.document(reference);
        fs::remove_file(&document).map_err(|error| failed(&document, "delete", &error))?;
        // A record names a path. Only a path inside the store is ever deleted.
        let store = fs::canonicalize(&self.store).ok();
        let is_ours = |path: &Path| store.as_ref().is_some_and(|store| path.starts_with(store));
        if !others.iter().any(|other| other.path == record.path)
            && link.parent().and_then(|folder| fs::canonicalize(folder).ok()).is_some_and(|folder| is_ours(&folder))
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
            // The link was the file itself.
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
        self.folder.join(format!("{}.json", digest::digest_of(reference)))
    }
}

fn is_there(record: &FileRecord) -> bool {
    fs::metadata(&record.path).is_ok_and(|file| file.is_file() && file.len() == record.bytes)
}
