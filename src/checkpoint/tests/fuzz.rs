//! Broken checkpoints to their readers.

use super::*;
use crate::fuzz::{answer, corpus, fuzz};
use crate::weights::ckpt::pickle;

fn reads(data: &[u8]) -> String {
    let file = match format::raw(Bytes::memory("fuzz", data.to_vec())) {
        Ok(file) => file,
        Err(e) => return answer::<(), _>(Err(e)),
    };
    let mut out = Vec::new();
    for tensor in file.tensors.values() {
        // What a header promises must be there, in full.
        assert!(tensor.info.bytes() <= 1 << 20, "more than the file can hold");
        if let Err(e) = tensor.read(&mut out) {
            return answer::<(), _>(Err(e));
        }
        assert_eq!(out.len(), tensor.info.bytes());
    }
    answer(open::single(file, "fuzz".into()))
}

const PICKLE: [&[u8]; 23] = [
    b"ctorch._utils\n_rebuild_tensor_v3\n",
    b"ctorch.storage\nUntypedStorage\n",
    b"ctorch\nfloat8_e4m3fn\n",
    b"\x80\x02",
    b"\x80\x04",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nHalfStorage\n",
    b"ccollections\nOrderedDict\n",
    b"cos\nsystem\n",
    b"(",
    b")R",
    b"tQ",
    b"u.",
    b"e.",
    b"}(",
    b"](",
    b"0",
    b"2",
    b"q\x01",
    b"h\x01",
    b"X\x01\0\0\0a",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"M\xff\xff",
];
const ZIP: [&[u8]; 8] = [
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"m/data.pkl",
    b"m/data/0",
    b"\x01\0\x18\0",
];
const HEADER: [&[u8]; 15] = [
    b"\"dtype\":\"F8_E4M3\"",
    b"\"dtype\":\"F64\"",
    b"null",
    b"{\"a\":",
    b"\"dtype\":\"F16\"",
    b"\"shape\":[1]",
    b"\"data_offsets\":[0,2]",
    b"__metadata__",
    b"\"lienzo\":",
    b"{",
    b"[",
    b",",
    b"18446744073709551615",
    b"-1",
    b"1e9",
];

#[test]
fn pickles() {
    fuzz("pickle", corpus("pickle"), &PICKLE, |data| answer(pickle::state_dict(data)));
}

#[test]
fn zips() {
    let words: Vec<&[u8]> = ZIP.into_iter().chain(PICKLE).collect();
    fuzz("zip", corpus("zip"), &words, reads);
}

#[test]
fn safetensors_files() {
    fuzz("safetensors", corpus("safetensors"), &HEADER, reads);
}
