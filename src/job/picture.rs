//! The name of a picture in an order goes in, its pixels come out, in the size that was asked for.

use super::note::{Field, Objection, phrase};
use super::order::Order;
use crate::diffusion::SIZES;
use crate::diffusion::img2img::Init;
use crate::error::{Kind, Result, escape};
use crate::image::mask::{Mask, read_mask};
use crate::image::read::{Picture, short_hash};
use crate::image::{Image, PictureLimits, Texts, read_png, read_whole_png};
use crate::system::format_bytes;
use std::cell::{Cell, RefCell};
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

    /// Bytes that all pictures of an order, and what is made of them before the work, may take together.
    fn room(&self) -> u64 {
        u64::MAX
    }
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
        picture_of(name, PictureLimits::default())
    }

    fn mask(&self, name: &Path) -> Result<Found<Mask>> {
        mask_of(name, PictureLimits::default())
    }

    fn texts(&self, name: &Path) -> Result<Texts> {
        read_png(name, PictureLimits::default()).map(|(_, texts)| texts)
    }

    fn hash(&self, name: &Path) -> Result<String> {
        short_hash(name)
    }
}

/// Names are paths, and what is read stays within some bytes of memory, all pictures together.
#[derive(Clone, Debug)]
pub struct BoundedFiles {
    room: u64,
    /// Bytes of the pictures that were read.
    held: Cell<u64>,
    /// What of recipes could not be read.
    notes: RefCell<Vec<String>>,
}

impl BoundedFiles {
    /// With room for so many bytes.
    pub fn new(room: u64) -> Self {
        Self { room, held: Cell::default(), notes: RefCell::default() }
    }

    /// What of the texts that were asked for could not be read, and forgets it.
    pub fn notes(&self) -> Vec<String> {
        self.notes.take()
    }

    fn limits(&self) -> PictureLimits {
        PictureLimits { memory: self.room.saturating_sub(self.held.get()), ..PictureLimits::default() }
    }

    fn hold(&self, bytes: u64) {
        self.held.set(self.held.get().saturating_add(bytes));
    }
}

impl Shelf for BoundedFiles {
    fn picture(&self, name: &Path) -> Result<Found<Image>> {
        let found = picture_of(name, self.limits())?;
        self.hold(found.pixels.bytes());
        Ok(found)
    }

    fn mask(&self, name: &Path) -> Result<Found<Mask>> {
        let found = mask_of(name, self.limits())?;
        self.hold(found.pixels.bytes());
        Ok(found)
    }

    fn texts(&self, name: &Path) -> Result<Texts> {
        let picture = read_whole_png(name, self.limits())?;
        self.notes.borrow_mut().extend(picture.notes.iter().map(|note| format!("{}: {note}", shown(name))));
        Ok(picture.texts)
    }

    fn hash(&self, name: &Path) -> Result<String> {
        short_hash(name)
    }

    fn room(&self) -> u64 {
        self.room
    }
}

fn picture_of(name: &Path, limits: PictureLimits) -> Result<Found<Image>> {
    let picture = Picture::read(name, limits)?;
    let hash = picture.short_hash().to_owned();
    Ok(Found { pixels: picture.image, hash })
}

fn mask_of(name: &Path, limits: PictureLimits) -> Result<Found<Mask>> {
    let (pixels, sha256) = read_mask(name, limits)?;
    Ok(Found { pixels, hash: sha256.chars().take(10).collect() })
}

/// Refuses what would be made of pictures where that takes more than there is room for.
pub(super) fn check_room(shelf: &dyn Shelf, name: &Path, need: u64) -> Result<(), Objection> {
    let have = shelf.room();
    if need <= have {
        return Ok(());
    }
    let (needed, left) = (format_bytes(need), format_bytes(have));
    let phrase = phrase![
        format!("{needed} needed to bring it to its size, {left} left to use: make it smaller with an image editor, "),
        "or allow more with ",
        Field::MaxMemory
    ];
    Err(Objection::Wrong { kind: Kind::TooBig { need, have }, phrase, place: Some(shown(name)) })
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
    // Rows of the new width, and the result twice; a side is at most the longest that there is.
    let (w, h, most) = (found.pixels.width, found.pixels.height, SIZES.1);
    check_room(shelf, name, found.pixels.bytes() + 3 * (w.min(most) * h + 2 * most.min(w) * most.min(h)) as u64)?;
    fitted(order, &found.pixels, found.hash).map(Some)
}
