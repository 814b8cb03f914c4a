//! What the networks are: one file a network, with its configuration and its graphs, and nothing else.

pub mod autoencoder;
pub mod text;
pub mod tokenizer;
pub mod training;
pub mod unet;
