//! The name of a picture in an order goes in, its pixels come out, in the size that was asked for.

use super::note::Objection;
use super::order::Order;
use crate::diffusion::SIZES;
use crate::diffusion::img2img::Init;
use crate::error::{Result, escape};
use crate::image::mask::{Mask, read_mask};
use crate::image::read::{Picture, short_hash};
use crate::image::{Image, PictureLimits, Texts, read_png};
use std::path::Path;

/// Where the pictures of an order are: files for a command line, uploads for a server.
pub trait Shelf {
    /// The picture of this name.
    ///
    /// # Errors
    /// Whatever keeps it from being read, naming it.
    fn picture(&self, name: &Path) -> Result<Found<Image>>;

    /// The mask of this name.
    ///
    /// # Errors
    /// Whatever keeps it from being read, naming it.
    fn mask(&self, name: &Path) -> Result<Found<Mask>>;

    /// The texts of the PNG of this name.
    ///
    /// # Errors
    /// Whatever keeps it from being read, naming it.
    fn texts(&self, name: &Path) -> Result<Texts>;

    /// What metadata call the picture of this name: as its [`Found::hash`], but nothing is decoded.
    ///
    /// # Errors
    /// Whatever keeps it from being read, naming it.
    fn hash(&self, name: &Path) -> Result<String>;
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The pixels.
    pub pixels: T,
    /// What metadata call it: the first ten digits of the file's sha256.
    pub hash: String,
}

/// Names are paths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

impl Shelf for Files {
    fn picture(&self, name: &Path) -> Result<Found<Image>> {
        let picture = Picture::read(name, PictureLimits::default())?;
        let hash = picture.short_hash().to_owned();
        Ok(Found { pixels: picture.image, hash })
    }

    fn mask(&self, name: &Path) -> Result<Found<Mask>> {
        let (pixels, sha256) = read_mask(name, PictureLimits::default())?;
        Ok(Found { pixels, hash: sha256.chars().take(10).collect() })
    }

    fn texts(&self, name: &Path) -> Result<Texts> {
        read_png(name, PictureLimits::default()).map(|(_, texts)| texts)
    }

    fn hash(&self, name: &Path) -> Result<String> {
        short_hash(name)
    }
}

/// A name as messages show it.
pub(super) fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// The picture to begin with, in the size that was asked for.
///
/// # Errors
/// Usage: a size that is not possible, with one that is.
pub(super) fn fitted(order: &Order, picture: &Image, hash: String) -> Result<Init, Objection> {
    let name = order.init_image.as_deref().map(shown).unwrap_or_default();
    let mode = order.resize_mode.unwrap_or_default();
    Ok(Init::new(picture, (order.width, order.height), mode, hash, SIZES).map_err(|e| e.at(name))?)
}

/// The picture of img2img, if there is one.
///
/// # Errors
/// What keeps it from being read, or from having the size that was asked for.
pub(super) fn init(order: &Order, shelf: &dyn Shelf) -> Result<Option<Init>, Objection> {
    let Some(name) = &order.init_image else { return Ok(None) };
    let found = shelf.picture(name)?;
    fitted(order, &found.pixels, found.hash).map(Some)
}
