//! Reads a file as a worker does, shared with `worker/fuzz/`.

use rbee_schema::Failure;
use rbee_transformer::{Tensor, TensorSource};
use rbee_worker::{
    architecture,
    contract::TemplateLimits,
    model_file::gguf::{Header, Metadata, find_tensor, read_header},
    text::ModelText,
};

/// Runs all steps of loading before the weights are packed.
pub(crate) fn read(file: &[u8]) -> Result<(), Failure> {
    let header = read_header(file)?;
    let metadata = Metadata(&header.metadata);
    // A worker stops at the first refusal. Here every step is run.
    let text = ModelText::from_metadata(metadata, TemplateLimits::default());
    let tokens = text.as_ref().map_or(0, ModelText::vocabulary_size);
    let described = architecture::describe(metadata, &File { header: &header, bytes: file }, tokens, 4096);
    text.and(described.map(drop))
}

struct File<'a> {
    header: &'a Header,
    bytes: &'a [u8],
}

impl TensorSource for File<'_> {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let tensor = find_tensor(self.header, self.bytes, name)?;
        Some(Tensor { weight_type: tensor.weight_type, shape: tensor.shape, bytes: tensor.bytes })
    }

    fn release(&self, _: &[u8]) {}
}
