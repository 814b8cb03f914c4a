//! The device's weights: read and packed on several threads, laid into slabs, shared by all programs that need them.

use super::device::Device;
use super::pack::{self, Read};
use super::record::Region;
use crate::backend::rounded::Rounded;
use crate::checkpoint::Model;
use crate::error::{Error, Kind, Remedy, Result, escape};
use crate::graph::plan::PlanWeight;
use crate::kernels::gpu::{ALIGN, Storage, packed_bytes};
use crate::weights::Origin;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};

/// Bytes of a slab: what every device can bind. A weight lies within one.
const SLAB: u64 = 128 << 20;
/// Bytes written to the queue before it is flushed: the queue keeps a copy until then.
const FLUSH: u64 = 64 << 20;

/// A weight on the device; its slab lives as long as one of its weights does.
pub(super) struct Resident {
    region: Region,
}

impl Resident {
    /// Where it is.
    pub(super) fn region(&self) -> Region {
        self.region.clone()
    }
}

/// Weights by expression and layout, and by what they are made of: models that have a file in common share
/// what they read from it.
type Known = HashMap<(Vec<Origin>, PlanWeight), Weak<Resident>>;

/// What is on the device.
#[derive(Default)]
pub(super) struct Store {
    resident: Mutex<Known>,
    /// What was rounded to f16, and what could not be.
    pub(super) rounded: Rounded,
}

/// How a weight's matrix is stored where others are stored as `storage`.
fn stored(w: &PlanWeight, storage: Storage) -> Storage {
    if w.exact { Storage::F32 } else { storage }
}

/// Bytes of a packed weight: vectors are f32 always.
pub(super) fn bytes(w: &PlanWeight, storage: Storage) -> u64 {
    packed_bytes(w.weight.dims, w.packing, stored(w, storage))
}

impl Store {
    /// All of `wanted` on the device; what is there already is shared.
    ///
    /// # Errors
    /// `Refused`: some hold values beyond f16, which is known from now on ([`Rounded::beyond`]): plan anew.
    pub(super) fn load(
        &self,
        device: &Device,
        model: &Arc<Model>,
        wanted: &[PlanWeight],
    ) -> Result<Vec<Arc<Resident>>> {
        let storage = device.limits().weights;
        let key = |w: &PlanWeight| (w.weight.expr.origin(&*model.source), w.clone());
        let mut resident = self.resident.lock().unwrap_or_else(|e| e.into_inner());
        resident.retain(|_, w| w.strong_count() > 0);
        let mut all: Vec<Option<Arc<Resident>>> =
            wanted.iter().map(|w| resident.get(&key(w)).and_then(Weak::upgrade)).collect();
        let missing: Vec<usize> = (0..wanted.len()).filter(|i| all[*i].is_none()).collect();
        missing.iter().try_for_each(|i| {
            room(device, bytes(&wanted[*i], storage))
                .map_err(|e| e.at(escape(&wanted[*i].weight.expr.names().join(", "))))
        })?;
        let regions = slabs(device, missing.iter().map(|i| bytes(&wanted[*i], storage)))?;
        upload(device, model, &missing.iter().map(|i| &wanted[*i]).collect::<Vec<_>>(), &regions, &self.rounded)?;
        for (i, region) in missing.into_iter().zip(regions) {
            let weight = Arc::new(Resident { region });
            resident.insert(key(&wanted[i]), Arc::downgrade(&weight));
            all[i] = Some(weight);
        }
        Ok(all.into_iter().flatten().collect())
    }
}

/// Regions of these sizes, in as few buffers as the size of a slab allows.
fn slabs(device: &Device, sizes: impl Iterator<Item = u64>) -> Result<Vec<Region>> {
    let mut places: Vec<(usize, u64, u64)> = Vec::new();
    let mut slabs: Vec<u64> = Vec::new();
    for bytes in sizes {
        let room = bytes.next_multiple_of(ALIGN);
        match slabs.last_mut() {
            Some(used) if *used + room <= SLAB => *used += room,
            _ => slabs.push(room),
        }
        places.push((slabs.len() - 1, slabs[slabs.len() - 1] - room, bytes));
    }
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let make = |size: &u64| buffer(device, "weights", *size, usage);
    let buffers = slabs.iter().map(make).collect::<Result<Vec<_>>>()?;
    Ok(places.into_iter().map(|(n, start, bytes)| Region { buffer: buffers[n].clone(), start, bytes }).collect())
}

/// Whether a buffer may have so many bytes.
fn room(device: &Device, need: u64) -> Result<()> {
    let have = device.device.limits().max_buffer_size;
    if need <= have {
        return Ok(());
    }
    let message = format!("a buffer of {need} bytes is needed, and the device's limit is {have}");
    let error = Error::new(Kind::TooBig { need, have }, message).at(device.describe());
    Err(error.try_this(Remedy::SmallerSize).try_this(Remedy::Cpu))
}

/// A buffer; `Kind::OutOfMemory` where the device has no room, `Kind::TooBig` where it allows none of this size.
pub(super) fn buffer(device: &Device, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
    room(device, size).map_err(|e| e.at(label))?;
    device.scoped(label, || {
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        Ok(device.device.create_buffer(&descriptor))
    })
}

/// Reads and packs on several threads, writes to the queue on this one.
fn upload(device: &Device, model: &Model, wanted: &[&PlanWeight], regions: &[Region], rounded: &Rounded) -> Result<()> {
    let storage = device.limits().weights;
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(8).min(wanted.len());
    std::thread::scope(|scope| {
        // As many wait as there are threads: the memory in flight is bounded.
        let (to, from) = mpsc::sync_channel(threads.max(1));
        let mut started = 0;
        for _ in 0..threads {
            let (to, next) = (to.clone(), &next);
            let read = move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    // The receiver is gone when another weight could not be read.
                    let Some(w) = wanted.get(i) else { return };
                    if to.send((i, pack::read(w, model, stored(w, storage), rounded))).is_err() {
                        return;
                    }
                }
            };
            match std::thread::Builder::new().spawn_scoped(scope, read) {
                // The others read what this one would have.
                Err(e) if started == 0 => {
                    let message = format!("could not start a thread to read weights ({e})");
                    return Err(Error::other(message).caused_by(e));
                }
                started_now => started += usize::from(started_now.is_ok()),
            }
        }
        drop(to);
        let (mut pending, mut beyond) = (0, None);
        for (i, read) in from {
            let Read::Packed(packed) = read? else {
                // The others are read all the same: whatever else there is, is known before it is planned anew.
                rounded.keep(&wanted[i].weight.expr, &*model.source);
                beyond = beyond.or(Some(i));
                continue;
            };
            device.queue.write_buffer(&regions[i].buffer, regions[i].start, &packed);
            pending += packed.len() as u64;
            if pending > FLUSH {
                device.wait(Some(device.queue.submit([])))?;
                pending = 0;
            }
        }
        device.wait(Some(device.queue.submit([])))?;
        match beyond {
            Some(i) => {
                let name = escape(&wanted[i].weight.expr.names().join(", "));
                Err(Error::new(Kind::Refused, format!("{name}: holds values beyond f16's largest, 65504")))
            }
            None => Ok(()),
        }
    })
}
