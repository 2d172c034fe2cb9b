//! Architectures: what a model computes, as [`rbee_transformer::DecoderDescription`] and its encoder counterpart.
//!
//! [`describe`] reads a decoder's description from GGUF metadata. [`DecoderConfig`] turns the `config.json` of a folder into such
//! metadata, so that one description serves both formats. [`describe_encoder`] reads the folder of an encoder.
//!
//! To add a decoder architecture: write a file beside `llama` that says how it differs from
//! `Hyperparameters::base_description`, and name it in `registry::ARCHITECTURES`. If it needs a step that no
//! other architecture has, add a field to [`rbee_transformer::DecoderDescription`] and the step to `rbee_transformer`.

mod config_value;
mod decoder_folder;
mod encoder_folder;
mod encoder_pooling;
mod gemma2;
mod gemma3;
mod hyperparameters;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod registry;
mod rope_config;
mod smollm3;

pub use self::{
    decoder_folder::{DecoderConfig, tensor_name_in_folder},
    encoder_folder::{ENCODER_TYPES, EncoderModel, describe_encoder, model_type},
    registry::{check_supported, describe},
};
