//! `lienzo serve`: real connections to the built binary.

mod api; // the native API, as its contract tells it
mod client; // a server of its own, and requests to it
mod end; // signals, kill -9, what a restart finds
mod load; // many clients at once
mod openai; // what speaks OpenAI's API
mod packaging; // the unit and the image that are offered
mod pictures; // the same bytes as the command line's
mod rules; // who may ask what
mod webui; // what speaks the webui's API
