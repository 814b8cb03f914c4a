//! One job in the user's words: an [`order::Order`] and a model go in, a diffusion request and what its asker should
//! know of it come out.
//!
//! What the command line, a server and a worker have in common is here; flags, fields, files and the terminal are
//! theirs. Nothing here names a flag: what was wrong, and what could be done, is told in [`note::Phrase`]s, which hold
//! the fields that they speak of as data.
//!
//! An order's way: [`recipe`] fills its gaps from a picture, [`order::Order::check`] refuses what no model can do,
//! [`dynamic`] choices are made and [`styles`] dress
//! its prompts, [`resolve`] makes the request of it (with [`picture`] and `inpainting`), [`axes`]
//! many requests; [`fit`] says whether they fit into memory; [`metadata`] writes what was done, [`resume`] knows what
//! was done before, [`sheet`] lays a grid's pictures out.

pub mod adapters;
pub mod axes;
pub mod dynamic;
pub mod fit;
pub mod hints;
mod inpainting;
pub mod metadata;
pub mod note;
pub mod order;
pub mod picture;
mod question;
pub mod recipe;
pub mod resolve;
pub mod resume;
pub mod settle;
pub mod sheet;
pub mod styles;
pub mod tags;
pub mod unfinished;
pub mod upscale;
pub mod word;
