//! Turns weights into a type that candle computes fast, while they are read.
//!
//! Candle has no vector instructions for Q4_1, Q5_0 and Q5_1: a step takes about five times as long as with the same
//! weights as Q8_0, for which it has them. The 8 bits hold what the 4 or 5 said to a 250th of each block's largest
//! weight, which moves logits about as much as the rounding of activations to 8 bits does, which every kernel does. The
//! price is memory: 8.5 bits a weight instead of 5 to 6.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom},
};

use candle_core::{
    Device,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{Content, TensorInfo},
    },
};

/// A file as it would be if its slow tensors had been written as Q8_0: the tensors one behind the other, no header.
pub(super) struct Requantised<R> {
    inner: R,
    /// Where the tensors of `inner` begin.
    data_offset: u64,
    /// Tensors by where they end here; what they are in `inner`.
    tensors: BTreeMap<u64, (TensorInfo, GgmlDType)>,
    position: u64,
    /// The bytes of the tensor that was read last, and where it ends.
    current: (u64, Vec<u8>),
}

impl<R: Read + Seek> Requantised<R> {
    /// Points the header at the new places and types, for weights that `device` is to compute with.
    pub(super) fn new(content: &mut Content, inner: R, device: &Device) -> Self {
        let data_offset = std::mem::take(&mut content.tensor_data_offset);
        let (mut tensors, mut end) = (BTreeMap::new(), 0);
        for tensor in content.tensor_infos.values_mut() {
            let (old, new) = (tensor.ggml_dtype, fast(tensor.ggml_dtype, device));
            let source = TensorInfo { ggml_dtype: old, shape: tensor.shape.clone(), offset: tensor.offset };
            (tensor.ggml_dtype, tensor.offset) = (new, end);
            end += (tensor.shape.elem_count() / new.block_size() * new.type_size()) as u64;
            tensors.insert(end, (source, new));
        }
        Self { inner, data_offset, tensors, position: 0, current: (0, Vec::new()) }
    }

    fn length(&self) -> u64 {
        self.tensors.last_key_value().map_or(0, |(&end, _)| end)
    }
}

fn fast(kind: GgmlDType, device: &Device) -> GgmlDType {
    match kind {
        GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1 if device.is_cpu() => GgmlDType::Q8_0,
        other => other,
    }
}

fn bytes(
    tensor: &TensorInfo,
    wanted: GgmlDType,
    reader: &mut (impl Read + Seek),
    data_offset: u64,
) -> candle_core::Result<Vec<u8>> {
    let read = tensor.read(reader, data_offset, &Device::Cpu)?;
    if tensor.ggml_dtype == wanted {
        return Ok(read.data()?.into_owned());
    }
    Ok(QTensor::quantize(&read.dequantize(&Device::Cpu)?, wanted)?.data()?.into_owned())
}

impl<R: Read + Seek> Read for Requantised<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((&end, (tensor, wanted))) = self.tensors.range(self.position + 1..).next() else { return Ok(0) };
        if self.current.0 != end {
            let made = bytes(tensor, *wanted, &mut self.inner, self.data_offset);
            self.current = (end, made.map_err(io::Error::other)?);
        }
        let left = (end - self.position) as usize;
        let mut rest = &self.current.1[self.current.1.len() - left..];
        let read = rest.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: Read + Seek> Seek for Requantised<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let moved = match position {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.length().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = moved.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use candle_core::{Tensor, quantized::gguf_file};

    use super::*;

    #[test]
    fn slow_tensors_become_fast_ones_and_keep_their_values() {
        let device = Device::Cpu;
        let values: Vec<f32> = (0..256).map(|index| (index as f32 * 0.7).sin()).collect();
        let values = Tensor::from_vec(values, (4, 64), &device).expect("shape");
        let kinds = [GgmlDType::Q4_1, GgmlDType::F32, GgmlDType::Q5_0, GgmlDType::Q8_0, GgmlDType::Q5_1];
        let tensors = kinds.map(|kind| QTensor::quantize(&values, kind).expect("quantises"));
        let names = ["a", "b", "c", "d", "e"];
        let named: Vec<(&str, &QTensor)> = names.into_iter().zip(&tensors).collect();
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, &[], &named).expect("writes");
        file.set_position(0);
        let mut content = Content::read(&mut file).expect("reads");

        let mut requantised = Requantised::new(&mut content, file, &device);
        for (name, before) in named {
            let after = content.tensor(&mut requantised, name, &device).expect("reads");
            assert_eq!(after.dtype(), fast(before.dtype(), &device), "{name}");
            let difference = (before.dequantize(&device).expect("f32") - after.dequantize(&device).expect("f32"))
                .and_then(|difference| difference.abs()?.max_all()?.to_scalar::<f32>())
                .expect("computes");
            // Half a step of 1/127 of the largest weight, which is 1; a little more, as scales are of 16 bits.
            assert!(difference <= 0.0045, "{name}: {difference}");
        }
    }
}
