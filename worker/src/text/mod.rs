//! Text of a model: tokenizer, vocabulary and chat template.
//!
//! [`ModelText`] and [`EncoderText`] implement [`crate::contract::Text`] for models that continue chats and for models that
//! compute embeddings.

mod byte_alphabet;
mod byte_pairs;
mod encoder_text;
mod model_text;
mod pre_tokenizer;
mod sentence_piece;
mod stop_tokens;
mod template;
mod token_matcher;
mod tokenizer;
mod tokenizer_files;
mod vocabulary;

pub use self::{encoder_text::EncoderText, model_text::ModelText, token_matcher::TokenMatcher, tokenizer::Tokenizer};
