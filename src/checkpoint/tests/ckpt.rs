//! Zip-pickled checkpoints, written here byte by byte: honest ones, odd ones and hostile ones.

use super::*;

/// A zip archive under construction.
#[derive(Default)]
struct Zip {
    out: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
    zip64: bool,
    descriptors: bool,
}

impl Zip {
    fn add(&mut self, name: &str, data: &[u8]) {
        let header = self.out.len() as u32;
        let flags: u16 = if self.descriptors { 8 } else { 0 };
        let local = if self.descriptors { 0 } else { data.len() as u32 };
        self.out.extend(b"PK\x03\x04\x14\0");
        self.out.extend(flags.to_le_bytes());
        self.out.extend([0; 10]);
        self.out.extend([local, local].map(u32::to_le_bytes).concat());
        self.out.extend([name.len() as u16, 3].map(u16::to_le_bytes).concat());
        self.out.extend([name.as_bytes(), &[0; 3], data].concat());
        if self.descriptors {
            self.out.extend(b"PK\x07\x08\0\0\0\0");
            self.out.extend([data.len() as u32; 2].map(u32::to_le_bytes).concat());
        }
        self.list(name, flags, 0, data.len() as u32, header);
    }

    fn list(&mut self, name: &str, flags: u16, method: u16, len: u32, header: u32) {
        let full = u32::MAX;
        let (len32, header32) = if self.zip64 { (full, full) } else { (len, header) };
        let extra: Vec<u8> = match self.zip64 {
            true => [&[1, 0, 24, 0][..], &[len, len, header].map(|v| u64::from(v).to_le_bytes()).concat()].concat(),
            false => Vec::new(),
        };
        self.directory.extend(b"PK\x01\x02\x14\0\x14\0");
        self.directory.extend([flags, method].map(u16::to_le_bytes).concat());
        self.directory.extend([0; 8]);
        self.directory.extend([len32, len32].map(u32::to_le_bytes).concat());
        self.directory.extend([name.len() as u16, extra.len() as u16, 0].map(u16::to_le_bytes).concat());
        self.directory.extend([0; 8]);
        self.directory.extend(header32.to_le_bytes());
        self.directory.extend([name.as_bytes(), &extra].concat());
        self.count += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let (start, size) = (self.out.len() as u32, self.directory.len() as u32);
        self.out.append(&mut self.directory);
        let (mut count, mut ends) = (self.count, [size, start]);
        if self.zip64 {
            let record = self.out.len() as u64;
            self.out.extend([&b"PK\x06\x06"[..], &44u64.to_le_bytes(), &[0; 12]].concat());
            let fields = [u64::from(count), count.into(), size.into(), start.into()];
            self.out.extend(fields.map(u64::to_le_bytes).concat());
            self.out.extend([&b"PK\x06\x07\0\0\0\0"[..], &record.to_le_bytes(), &[1, 0, 0, 0]].concat());
            (count, ends) = (u16::MAX, [u32::MAX; 2]);
        }
        self.out.extend(b"PK\x05\x06\0\0\0\0");
        self.out.extend([count, count].map(u16::to_le_bytes).concat());
        self.out.extend(ends.map(u32::to_le_bytes).concat());
        self.out.extend([0; 2]);
        self.out
    }
}

fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

fn int(n: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &n.to_le_bytes()].concat()
}

fn sizes(list: &[usize]) -> Vec<u8> {
    let items: Vec<u8> = list.iter().flat_map(|&n| int(n as i64)).collect();
    [&b"("[..], &items, b"t"].concat()
}

/// A tensor as torch writes it: a call of `_rebuild_tensor_v2`.
fn tensor(kind: &str, key: &str, elements: i64, offset: i64, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let storage = [&b"("[..], &text("storage"), b"ctorch\n", kind.as_bytes(), b"\n", &text(key), &text("cpu")];
    let storage = [&storage.concat()[..], &int(elements), b"tQ"].concat();
    let head = [&b"ctorch._utils\n_rebuild_tensor_v2\n("[..], &storage, &int(offset), &sizes(shape), &sizes(strides)];
    [&head.concat()[..], b"\x89ccollections\nOrderedDict\n)RtR"].concat()
}

fn dict(items: &[Vec<u8>]) -> Vec<u8> {
    [&b"\x80\x02}("[..], &items.concat(), b"u."].concat()
}

fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Zip {
    let mut zip = Zip::default();
    zip.add("m/data.pkl", pickle);
    storages.iter().for_each(|(key, data)| zip.add(&format!("m/data/{key}"), data));
    zip
}

fn raw_tensors(file: Vec<u8>) -> Result<table::RawFile> {
    format::raw(Bytes::memory("test file", file))
}

fn told(pickle: &[u8], storages: &[(&str, &[u8])]) -> String {
    match raw_tensors(archive(pickle, storages).finish()) {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    }
}

/// A tensor as torch writes 8-bit ones: a call of `_rebuild_tensor_v3`, whose storage is counted in bytes.
fn untyped(kind: &str, key: &str, bytes: i64, offset: i64, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let class = b"ctorch.storage\nUntypedStorage\n";
    let storage = [&b"("[..], &text("storage"), class, &text(key), &text("cpu"), &int(bytes), b"tQ"].concat();
    let view = [int(offset), sizes(shape), sizes(strides)].concat();
    let dtype = [b"ctorch\n", kind.as_bytes(), b"\n"].concat();
    let hooks = b"\x89ccollections\nOrderedDict\n)R";
    [&b"ctorch._utils\n_rebuild_tensor_v3\n("[..], &storage, &view, hooks, &dtype, b"tR"].concat()
}

#[test]
fn the_tensors_of_untyped_storages_are_read_by_their_own_type() {
    let read = |item: Vec<u8>, storage: &[u8]| {
        let file = raw_tensors(archive(&dict(&[text("a"), item]), &[("0", storage)]).finish())?;
        let mut out = Vec::new();
        file.tensors.get("a").map(|t| t.read(&mut out)).transpose()?;
        Ok::<_, crate::Error>((out, file.other))
    };
    // The second column of [[1, 2], [-1, 0.5]].
    let storage = [0x38, 0x40, 0xb8, 0x30];
    let (out, _) = read(untyped("float8_e4m3fn", "0", 4, 1, &[2], &[2]), &storage).unwrap();
    assert_eq!(out, [0x00, 0x40, 0x00, 0x38]);
    let (out, _) = read(untyped("bfloat16", "0", 4, 0, &[2], &[1]), &[0x80, 0x3f, 0, 0x40]).unwrap();
    assert_eq!(out, [0x80, 0x3f, 0, 0x40]);
    let double = 0.25f64.to_le_bytes();
    let (out, _) = read(tensor("DoubleStorage", "0", 1, 0, &[1], &[1]), &double).unwrap();
    assert_eq!(out, 0.25f32.to_le_bytes());
    let (_, other) = read(untyped("float8_e8m0fnu", "0", 4, 0, &[4], &[1]), &storage).unwrap();
    assert_eq!(other, [("a".to_string(), "float8_e8m0fnu".to_string())]);
    // Bytes are not elements: this view would leave the storage.
    assert!(read(untyped("float32", "0", 4, 0, &[2], &[1]), &storage).is_err());
    assert!(read(untyped("float8_e4m3fn", "0", 5, 0, &[2], &[1]), &storage).is_err());
}

/// The tiny model as torch.save would write it, some tensors transposed in their storage.
fn tiny_ckpt(zip64: bool, descriptors: bool) -> Vec<u8> {
    let model = tiny();
    let mut zip = Zip { zip64, descriptors, ..Zip::default() };
    let mut items = Vec::new();
    let mut data = Vec::new();
    for (i, (name, mut shape)) in arch::required_of(&model).into_iter().enumerate() {
        model.source.read(&name, &mut data).unwrap();
        let count = data.len() as i64 / 2;
        let mut strides: Vec<usize> = (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect();
        if let ([rows, columns], 0) = (&shape[..], i % 3) {
            let element = |r: usize, c: usize| &data[2 * (r * columns + c)..][..2];
            data =
                (0..*columns).flat_map(|c| (0..*rows).flat_map(move |r| element(r, c).to_vec())).collect::<Vec<u8>>();
            strides = vec![1, *rows];
        }
        let key = i.to_string();
        items.push(text(&names::Original::new(&model.networks).name(&name).unwrap().name));
        if name.contains(".proj_in.weight") || name.contains(".proj_out.weight") {
            // 1x1 kernels, as these models are published.
            shape.extend([1, 1]);
            strides.extend([1, 1]);
        }
        items.push(tensor("HalfStorage", &key, count, 0, &shape, &strides));
        zip.add(&format!("m/data/{key}"), &data);
    }
    items.extend([text("betas"), tensor("LongStorage", "none", 5, 0, &[5], &[1])]);
    let state = [&b"}("[..], &items.concat(), b"u"].concat();
    let callback = b"}cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n}s".to_vec();
    let evil = b"cos\nsystem\n(X\x06\0\0\0exit 1tR".to_vec();
    let all =
        [text("epoch"), b"K\x03".to_vec(), text("callbacks"), callback, text("evil"), evil, text("state_dict"), state];
    zip.add("m/data.pkl", &dict(&all));
    zip.add("m/version", b"3\n");
    zip.add("m/.format_version", b"1");
    zip.finish()
}

#[test]
fn a_ckpt_holds_what_the_folder_holds() {
    for (zip64, descriptors) in [(false, true), (true, false)] {
        let model = open_bytes(tiny_ckpt(zip64, descriptors)).unwrap();
        same_tensors(&tiny(), &model);
        same_shapes(&tiny(), &model);
    }
    let (source, mut all, mut part) = (open_bytes(tiny_ckpt(false, false)).unwrap().source, Vec::new(), Vec::new());
    for name in ["text_encoder.embeddings.token_embedding.weight", "unet.conv_in.weight", "vae.quant_conv.weight"] {
        source.read(name, &mut all).unwrap();
        source.read_rows(name, 2, 3, &mut part).unwrap();
        let row = all.len() / source.info(name).unwrap().shape[0];
        assert!(part == all[2 * row..5 * row], "{name}");
    }
}

#[test]
fn code_in_a_pickle_is_an_inert_value() {
    let weight = [text("w"), tensor("FloatStorage", "0", 2, 0, &[2], &[1])];
    let evil: [&[u8]; 6] = [
        b"cos\nsystem\nX\x02\0\0\0ls\x85R",
        b"cbuiltins\neval\nX\x03\0\0\x001+1\x85R}b",
        b"X\x02\0\0\0osX\x06\0\0\0system\x93X\x02\0\0\0ls\x85R",
        b"csubprocess\nPopen\n)\x81}X\x01\0\0\0aK\x01sb",
        b"ctorch._utils\n_rebuild_parameter\ncos\nsystem\n\x85R",
        b"\x8f(K\x01\x90",
    ];
    for code in evil {
        let pickle = dict(&[text("x"), code.to_vec(), weight.concat()]);
        let file = raw_tensors(archive(&pickle, &[("0", &[0; 8])]).finish()).unwrap();
        assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["w"]);
    }
    // A list that holds itself, and a dictionary that is its own value.
    let cycles =
        dict(&[text("l"), b"]q\x01h\x01a".to_vec(), text("d"), b"}q\x02X\x01\0\0\0kh\x02s".to_vec(), weight.concat()]);
    assert!(raw_tensors(archive(&cycles, &[("0", &[0; 8])]).finish()).is_ok());
}

#[test]
fn a_pickle_that_grows_without_end_is_stopped() {
    let deep = |n: usize, op: &[u8]| [&b"\x80\x02"[..], &op.repeat(n), b"."].concat();
    for (pickle, what) in [
        (deep(20_000, b"("), "no end"),
        (deep(2_000_000, b")"), "no end"),
        (deep(1_000_000, b"N\x85"), "more than"),
        (deep(3_000_000, b"N0"), "more than"),
        (
            [
                &b"]q\x01"[..],
                &b"(NNNNNNNNNNNNNNNNe".repeat(1000),
                &b"ccollections\nOrderedDict\nh\x01\x85R0".repeat(1000),
                b".",
            ]
            .concat(),
            "no end",
        ),
        (deep(1, b"h\x07"), "never stored"),
        (deep(1, b"0"), "takes more"),
        (deep(1, b"N(0"), "takes more"),
        (deep(1, b"t"), "not open"),
        (deep(1, b"K\x01Ns"), "takes more"),
        (deep(1, b"K\x01NNs"), "not a dictionary"),
        (deep(1, b"}(Nu"), "without a value"),
        (deep(1, b"X\xff\xff\xff\xff"), "ends too early"),
        (deep(1, b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff"), "ends too early"),
        (deep(1, b"cos\nsystem"), "ends too early"),
        (deep(1, b"\x82\x01"), "opcode 0x82"),
        (deep(1, b"}"), "no dictionary of tensors"),
        (deep(1, b"N"), "no dictionary of tensors"),
        (Vec::new(), "ends too early"),
    ] {
        let text = told(&pickle, &[]);
        assert!(text.contains(what), "{what}: {text}");
    }
    // Depth alone is harmless.
    let deep = [&b"N"[..], &b"\x85".repeat(200_000)].concat();
    let fine = dict(&[text("deep"), deep, text("w"), tensor("FloatStorage", "0", 1, 0, &[1], &[1])]);
    assert!(raw_tensors(archive(&fine, &[("0", &[0; 4])]).finish()).is_ok());
}

#[test]
fn a_tensor_must_lie_inside_its_storage() {
    let huge = 1usize << 62;
    for (kind, elements, offset, shape, strides, what) in [
        ("FloatStorage", 4, 0, vec![2], vec![1], "has 4 elements of f32, but it has 8 bytes"),
        ("HalfStorage", 2, 0, vec![2], vec![1], "has 2 elements of f16, but it has 8 bytes"),
        ("FloatStorage", i64::MAX, 0, vec![2], vec![1], "but it has 8 bytes"),
        ("FloatStorage", 2, 1, vec![2], vec![1], "reaches element 2 of a storage of 2"),
        ("FloatStorage", 2, 0, vec![2], vec![2], "reaches element 2"),
        ("FloatStorage", 2, 0, vec![1000], vec![0], "of a storage of 2"),
        ("FloatStorage", 2, 0, vec![huge, huge], vec![1, 1], "overflows"),
        ("FloatStorage", 2, 0, vec![2, 2], vec![huge, huge], "reaches element"),
        ("FloatStorage", 2, 0, vec![3, 1], vec![huge * 2 - 1, 1], "reaches element"),
        ("FloatStorage", 2, 0, vec![2], vec![1, 1], "1 dimensions and 2 strides"),
        ("FloatStorage", 2, 0, vec![1; 9], vec![1; 9], "9 dimensions"),
        ("FloatStorage", 2, 0, vec![1; 65], vec![1; 65], "65 dimensions"),
        ("FloatStorage", 2, -1, vec![2], vec![1], "PyTorch does not"),
        ("FloatStorage", -2, 0, vec![2], vec![1], "negative size"),
    ] {
        let pickle = dict(&[text("w"), tensor(kind, "0", elements, offset, &shape, &strides)]);
        let text = told(&pickle, &[("0", &[0; 8])]);
        assert!(text.contains(what), "{what}: {text}");
    }
    let elsewhere = dict(&[text("w"), tensor("FloatStorage", "../x", 2, 0, &[2], &[1])]);
    assert!(told(&elsewhere, &[("0", &[0; 8])]).contains("which is missing"));
}

#[test]
fn an_archive_that_contradicts_itself_is_refused() {
    let pickle = dict(&[text("w"), tensor("FloatStorage", "0", 2, 0, &[2], &[1])]);
    let good = || archive(&pickle, &[("0", &[0; 8])]);
    assert!(raw_tensors(good().finish()).is_ok());
    let refused = |file: Vec<u8>, what: &str| {
        let Err(error) = raw_tensors(file) else { panic!("accepted: {what}") };
        assert!(error.to_string().contains(what), "{what}: {error}");
    };
    for len in [4, 30, 100, good().finish().len() - 1] {
        refused(good().finish()[..len].to_vec(), "truncated");
    }
    // The second entry again, beginning inside the first one's data.
    let mut overlap = good();
    let header = overlap.out[..].windows(4).rposition(|w| w == b"PK\x03\x04").unwrap() as u32;
    overlap.list("m/data/0", 0, 0, 8, header);
    refused(overlap.finish(), "overlap");
    let mut long = good();
    long.add("m/data/1", &[0; 4]);
    let at = long.directory.windows(8).rposition(|w| w == b"m/data/1").unwrap() - 46;
    long.directory[at + 20..at + 28].copy_from_slice(&[0xf0, 0xff, 0xff, 0x7f, 0xf0, 0xff, 0xff, 0x7f]);
    refused(long.finish(), "leaves the file");
    let mut twice = good();
    twice.add("m/data/0", &[0; 8]);
    refused(twice.finish(), "two zip entries");
    let mut two = good();
    two.add("n/data.pkl", &pickle);
    refused(two.finish(), "no single data.pkl");
    let mut renamed = good();
    renamed.out[30] = b'x';
    refused(renamed.finish(), "without its local header");
    let mut outside = good();
    outside.list("m/far", 0, 0, 8, 0x7fff_0000);
    refused(outside.finish(), "beyond its end");
    let mut packed = Zip::default();
    packed.add("m/data.pkl", &pickle);
    packed.add("m/data/0", &[0; 8]);
    let at = packed.directory.windows(8).rposition(|w| w == b"m/data/0").unwrap() - 46;
    packed.directory[at + 10] = 8;
    refused(packed.finish(), "compressed or encrypted");
    let mut big = good();
    big.add("m/byteorder", b"big");
    refused(big.finish(), "big-endian");
    let mut no_pickle = Zip::default();
    no_pickle.add("word/document.xml", b"x");
    refused(no_pickle.finish(), "not a PyTorch checkpoint");
}

/// Reads many damaged copies of a file; each may be refused or accepted.
pub fn flip(file: &[u8]) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % n
    };
    for round in 0..20_000 {
        let mut copy = file.to_vec();
        for _ in 0..=round % 4 {
            let at = random(copy.len());
            copy[at] = if round % 3 == 0 { [0, 0xff, 0x7f, 0x80][random(4)] } else { random(256) as u8 };
        }
        let Ok(read) = format::raw(Bytes::memory("test file", copy)) else { continue };
        let mut out = Vec::new();
        let table = table::Table::new(read.tensors.clone(), "");
        for name in table.names() {
            // What the header promised must be readable.
            table.read(name, &mut out).unwrap();
            assert_eq!(out.len(), table.info(name).unwrap().bytes());
        }
        let _ = open::single(read, String::new());
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let weight =
        [text("w"), tensor("FloatStorage", "0", 6, 0, &[2, 3], &[1, 2]), text("callback"), b"cos\nsystem\n)R".to_vec()];
    for zip64 in [false, true] {
        let mut zip = Zip { zip64, ..Zip::default() };
        zip.add("m/data.pkl", &dict(&weight));
        zip.add("m/data/0", &[0; 24]);
        flip(&zip.finish());
    }
}

/// A textual inversion file as its first trainer writes it: the matrix two dictionaries deep, beside a token's number.
#[test]
fn an_embedding_is_found_in_its_trainers_file() {
    let folder = Folder::new("embedding");
    let values: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let number = tensor("LongStorage", "0", 1, 0, &[], &[]);
    let matrix = tensor("FloatStorage", "1", 6, 0, &[2, 3], &[3, 1]);
    let inner = |value: Vec<u8>| [&b"}("[..], &text("*"), &value, b"u"].concat();
    let pickle = dict(&[
        text("string_to_token"),
        inner(number),
        text("string_to_param"),
        inner([&b"ctorch._utils\n_rebuild_parameter\n("[..], &matrix, b"\x88ccollections\nOrderedDict\n)RtR"].concat()),
        text("name"),
        text("cat"),
    ]);
    let path = folder.file("cat.pt");
    fs::write(&path, archive(&pickle, &[("0", &[0; 8]), ("1", &values)]).finish()).unwrap();
    let (got, width, hash) = read_embedding(&path, &[3]).unwrap();
    assert_eq!((got, width, hash.len()), (vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 3, 12));
    // The width is for the caller to judge, unless there are several to choose from.
    assert_eq!(read_embedding(&path, &[768]).unwrap().1, 3);
}

#[test]
fn embeddings_come_in_safetensors_under_any_name() {
    let folder = Folder::new("embeddings");
    let file = |name: &str, header: &str, bytes: usize| {
        let path = folder.file(name);
        fs::write(&path, safetensors_file(header, &vec![0; bytes])).unwrap();
        path
    };
    let one = r#"{"emb_params":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]}}"#;
    assert_eq!(read_embedding(&file("a", one, 16), &[4]).unwrap().0, [0.0; 4]);
    let list = r#"{"<cat>":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}"#;
    assert_eq!(read_embedding(&file("b", list, 8), &[4]).unwrap().1, 4);
    let two = r#"{"x":{"dtype":"F16","shape":[1,4],"data_offsets":[0,8]},"y":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]}}"#;
    assert_eq!(read_embedding(&file("c", two, 12), &[2]).unwrap().1, 2);
    let refused = |path: &Path, why: &str| {
        let error = read_embedding(path, &[8]).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(&file("d", two, 12), "no textual inversion embedding");
    let xl = r#"{"clip_g":{"dtype":"F16","shape":[1,4],"data_offsets":[0,8]},"clip_l":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]}}"#;
    refused(&file("e", xl, 12), "SDXL");
    // Of two encoders, each its own; of one, the one that is as wide.
    let (values, width, _) = read_embedding(&file("g", xl, 12), &[2, 4]).unwrap();
    assert_eq!((values.len(), width), (6, 6));
    assert_eq!(read_embedding(&file("h", xl, 12), &[4]).unwrap().1, 4);
    let of_two = |name: &str, header: &str, bytes: usize, why: &str| {
        let error = read_embedding(&file(name, header, bytes), &[2, 4]).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    };
    of_two("i", one, 16, "needs one that holds clip_l and clip_g");
    let narrow = r#"{"clip_g":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]},"clip_l":{"dtype":"F16","shape":[1,2],"data_offsets":[4,8]}}"#;
    of_two("j", narrow, 8, "clip_g of shape [1, 2]; vectors of 4");
    let uneven = r#"{"clip_g":{"dtype":"F16","shape":[2,4],"data_offsets":[0,16]},"clip_l":{"dtype":"F16","shape":[1,2],"data_offsets":[16,20]}}"#;
    of_two("k", uneven, 20, "not as many vectors");
    let cube = r#"{"emb_params":{"dtype":"F16","shape":[1,2,2],"data_offsets":[0,8]}}"#;
    refused(&file("f", cube, 8), "[1, 2, 2]");
}
