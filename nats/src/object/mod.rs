//! Object stores: content that is larger than a message, under a name, in the format of NATS. `nats object` reads and writes it
//! too.
//!
//! An object is a record on `$O.<bucket>.M.<name in base64>` and its content in pieces on `$O.<bucket>.C.<id>`, which are stored
//! before the record. Format: <https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md>.

mod append;
mod digest;
mod pieces;
mod record;
mod store;
mod sweep;

pub use self::{
    append::AppendPieceError,
    pieces::PieceReader,
    record::ObjectRecord,
    store::{ObjectError, ObjectStore, PutError},
    sweep::OldObjects,
};
pub(crate) use self::{digest::Digest, store::PIECE};
