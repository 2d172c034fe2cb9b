//! What is tried with a file, by these tests and by `worker/fuzz/`.

use candle_core::quantized::{GgmlDType, gguf_file::Content};
use rbee_schema::Failure;
use rbee_transformer::{Kind, Tensor, Tensors};
use rbee_worker::{
    contract::TemplateLimits,
    model::{architecture, gguf, header, metadata::Metadata, text::ModelText},
};

/// Everything that a worker does with a file before it packs a weight.
pub(crate) fn read(file: &[u8]) -> Result<(), Failure> {
    let content = header::read(file)?;
    let metadata = Metadata(&content.metadata);
    // Not one after the other, as a worker would: what is refused by one is tried with the others too.
    let text = ModelText::from_metadata(metadata, TemplateLimits::default());
    let tokens = text.as_ref().map_or(0, ModelText::tokens);
    let described = architecture::describe(metadata, &File { content: &content, bytes: file }, tokens, 4096);
    text.and(described.map(drop))
}

struct File<'a> {
    content: &'a Content,
    bytes: &'a [u8],
}

impl Tensors for File<'_> {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let tensor = gguf::tensor(self.content, self.bytes, name)?;
        // A description asks only whether a tensor is of this one.
        let kind = if tensor.kind == GgmlDType::F32 { Kind::F32 } else { Kind::Q8_0 };
        Some(Tensor { kind, shape: tensor.shape, bytes: tensor.bytes })
    }

    fn done(&self, _: &[u8]) {}
}
