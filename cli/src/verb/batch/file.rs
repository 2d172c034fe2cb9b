//! The file of requests: its id, and its way into the bucket `batches`.

use std::path::{Path, PathBuf};

use rbee_nats::{Bus, PutError};
use rbee_schema::{BatchId, Failure, FailureCode, ModelName, Tenant};
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::error::CliError;

/// Bytes of the file that are read at a time.
const PIECE: usize = 1 << 20;

/// Digits of a batch's id: 80 bits, so that two files never share one.
const DIGITS: usize = 20;

/// A file of requests that can be read.
pub(super) struct RequestFile {
    path: PathBuf,
}

impl RequestFile {
    /// Checks that the file can be read.
    ///
    /// # Errors
    /// It cannot.
    pub(super) async fn open(path: &Path) -> Result<Self, CliError> {
        let file = Self { path: path.to_owned() };
        file.reader().await?;
        Ok(file)
    }

    async fn reader(&self) -> Result<File, CliError> {
        let failed = |error| CliError::usage(format!("failed to read {}: {error}", self.path.display()));
        let file = File::open(&self.path).await.map_err(failed)?;
        let metadata = file.metadata().await.map_err(failed)?;
        match metadata.is_file() {
            true => Ok(file),
            // It is read twice, which a pipe cannot be.
            false => Err(CliError::usage(format!("{} is no file: write the requests to one", self.path.display()))),
        }
    }

    /// Id of the batch of this file, model and tenant. The same file has the same id.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) async fn id(&self, tenant: &Tenant, model: Option<&ModelName>) -> Result<BatchId, CliError> {
        let mut digest = Sha256::new();
        digest.update(format!("{tenant}\n{}\n", model.map_or("", ModelName::as_str)));
        let mut reader = self.reader().await?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = reader.read(&mut piece).await;
            let read =
                read.map_err(|error| CliError::usage(format!("failed to read {}: {error}", self.path.display())))?;
            if read == 0 {
                break;
            }
            digest.update(&piece[..read]);
        }
        let digits: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(BatchId::from_lossy(&format!("batch-{}", &digits[..DIGITS])))
    }

    /// Stores the file in the bucket `batches`. Returns the name of the object.
    ///
    /// # Errors
    /// The file cannot be read, the bucket is full, or the server does not answer.
    pub(super) async fn store(&self, bus: &Bus, tenant: &Tenant, id: &BatchId) -> Result<String, CliError> {
        let name = format!("{tenant}/{id}.jsonl");
        match bus.batches().files().put_from(&name, self.reader().await?).await {
            Ok(_) => Ok(name),
            Err(PutError::Full(cause)) => Err(CliError::from(Failure::new(
                FailureCode::QueueFull,
                format!(
                    "the bucket of batches is full ({cause}): delete old batches, or raise the limit `batches_size` of the bus"
                ),
            ))),
            Err(error @ PutError::Read(_)) => Err(CliError::failed(error)),
            Err(PutError::Bus(error)) => Err(error.into()),
        }
    }
}
