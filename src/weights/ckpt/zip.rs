//! A zip archive's central directory to its entries' places; everything is checked to lie inside the file, once.

use super::Cursor;
use crate::error::{Result, escape};
use crate::weights::bytes::Bytes;
use std::collections::BTreeMap;

/// A full SD 1.x checkpoint has about 2000 entries.
const MAX_ENTRIES: u64 = 200_000;
const MAX_DIRECTORY: u64 = 64 << 20;
/// The end record (22 bytes) is followed by a comment of at most 65 535.
const MAX_TAIL: u64 = 22 + 65_535;

/// One entry's data in the file.
pub struct ZipEntry {
    /// Position of the first byte.
    pub data: u64,
    /// Length, as the directory states it.
    pub len: u64,
    /// Neither compressed nor encrypted.
    pub stored: bool,
}

struct Directory {
    offset: u64,
    size: u64,
    count: u64,
}

struct Record {
    name: Vec<u8>,
    header: u64,
    packed: u64,
    entry: ZipEntry,
}

/// The entries by name.
///
/// # Errors
/// Bad file: records that contradict each other or the file, entries that overlap, two entries of one name.
pub fn entries(bytes: &Bytes) -> Result<BTreeMap<String, ZipEntry>> {
    let directory = directory(bytes)?;
    let content = bytes.vec_at(directory.offset, directory.size)?;
    let mut cursor = Cursor { data: &content, at: 0 };
    let mut records = Vec::new();
    for _ in 0..directory.count {
        let damaged = || bytes.bad("has a damaged zip directory; download it again");
        records.push(record(&mut cursor).ok_or_else(damaged)?);
    }
    records.sort_by_key(|r| r.header);
    let mut out = BTreeMap::new();
    let mut end = 0;
    for Record { name, header, packed, mut entry } in records {
        let shown = escape(&String::from_utf8_lossy(&name));
        if header < end {
            return Err(bytes.bad(format!("has zip entries that overlap at {shown}; the file is damaged or hostile")));
        }
        entry.data = data_offset(bytes, &name, header)?;
        let last = entry.data.checked_add(packed).filter(|&last| last <= directory.offset);
        end =
            last.ok_or_else(|| bytes.bad(format!("has a zip entry {shown} that leaves the file; download it again")))?;
        entry.stored &= packed == entry.len;
        // Entries whose names are no text are nothing that a checkpoint needs.
        let Ok(name) = String::from_utf8(name) else { continue };
        if out.insert(name, entry).is_some() {
            return Err(bytes.bad(format!("has two zip entries named {shown}; the file is damaged or hostile")));
        }
    }
    Ok(out)
}

/// Finds the end record, and its 64-bit form where the old fields are full.
fn directory(bytes: &Bytes) -> Result<Directory> {
    let start = bytes.len().saturating_sub(MAX_TAIL);
    let tail = bytes.vec_at(start, bytes.len() - start)?;
    let ends_file = |&at: &usize| {
        let comment = Cursor { data: &tail, at: at + 20 }.uint(2);
        tail[at..].starts_with(b"PK\x05\x06") && comment == Some((tail.len() - at).saturating_sub(22) as u64)
    };
    let at = (0..tail.len().saturating_sub(21)).rev().find(ends_file);
    let at = at.ok_or_else(|| bytes.bad("is truncated: it has no zip directory at its end; download it again"))?;
    let damaged = || bytes.bad("has a damaged zip end record; download it again");
    let fields = || {
        let mut c = Cursor { data: &tail, at: at + 4 };
        let disks = (c.uint(2)?, c.uint(2)?);
        let _here = c.uint(2)?;
        Some((disks, c.uint(2)?, c.uint(4)?, c.uint(4)?))
    };
    let (disks, mut count, mut size, mut offset) = fields().ok_or_else(damaged)?;
    let mut end = start + at as u64;
    if count == 0xffff || size == 0xffff_ffff || offset == 0xffff_ffff {
        (count, size, offset, end) = directory64(bytes, end)?.ok_or_else(damaged)?;
    } else if disks != (0, 0) {
        return Err(bytes.bad("is one part of a split zip archive; join the parts"));
    }
    let inside = offset.checked_add(size).is_some_and(|last| last <= end);
    // A record has at least 46 bytes, so the directory's size bounds their number.
    if !inside || size > MAX_DIRECTORY || count > MAX_ENTRIES || count * 46 > size {
        return Err(damaged());
    }
    Ok(Directory { offset, size, count })
}

/// The ZIP64 end record, by the locator in front of the old one: count, size, offset, own position.
fn directory64(bytes: &Bytes, end: u64) -> Result<Option<(u64, u64, u64, u64)>> {
    let Some(at) = end.checked_sub(20) else { return Ok(None) };
    let locator = bytes.vec_at(at, 20)?;
    let position = u64::from_le_bytes(std::array::from_fn(|i| locator[8 + i]));
    if !locator.starts_with(b"PK\x06\x07") || position.checked_add(56).is_none_or(|last| last > at) {
        return Ok(None);
    }
    let record = bytes.vec_at(position, 56)?;
    let field = |i: usize| u64::from_le_bytes(std::array::from_fn(|j| record[i + j]));
    Ok(record.starts_with(b"PK\x06\x06").then(|| (field(32), field(40), field(48), position)))
}

/// One record of the central directory; none when it is cut short.
fn record(c: &mut Cursor<'_>) -> Option<Record> {
    if c.take(4)? != b"PK\x01\x02" {
        return None;
    }
    c.take(4)?;
    let (flags, method) = (c.uint(2)?, c.uint(2)?);
    c.take(8)?;
    let (mut packed, mut len) = (c.uint(4)?, c.uint(4)?);
    let (name, extra, comment) = (c.uint(2)?, c.uint(2)?, c.uint(2)?);
    c.take(8)?;
    let mut header = c.uint(4)?;
    let name = c.take(name as usize)?.to_vec();
    let mut extra = Cursor { data: c.take(extra as usize)?, at: 0 };
    c.take(comment as usize)?;
    while let (Some(id), Some(size)) = (extra.uint(2), extra.uint(2)) {
        let mut field = Cursor { data: extra.take(size as usize)?, at: 0 };
        // ZIP64: those of the three that are full, in this order.
        for value in [&mut len, &mut packed, &mut header] {
            if id == 1 && *value == 0xffff_ffff {
                *value = field.uint(8)?;
            }
        }
    }
    Some(Record { name, header, packed, entry: ZipEntry { data: 0, len, stored: method == 0 && flags & 1 == 0 } })
}

/// Behind the local header, whose name must be the directory's: tools that trust one or the other must see one archive.
fn data_offset(bytes: &Bytes, name: &[u8], header: u64) -> Result<u64> {
    let local = bytes.vec_at(header, 30 + name.len() as u64)?;
    let mut c = Cursor { data: &local, at: 26 };
    let lengths = c.uint(2).zip(c.uint(2));
    match lengths {
        Some((n, extra)) if local.starts_with(b"PK\x03\x04") && n == name.len() as u64 && &local[30..] == name => {
            Ok(header + 30 + n + extra)
        }
        _ => {
            let shown = escape(&String::from_utf8_lossy(name));
            Err(bytes.bad(format!("has a zip entry {shown} without its local header; download it again")))
        }
    }
}
