//! Every shader as every launch of every case would use it, without a GPU: it parses, it validates, its bindings and
//! parameters are those of the launch, it stays within the limits, and it lowers to what drivers take.

use lienzo::kernels::gpu::{
    self, ALIGN, Bind, Coop, Dispatch, Launch, LaunchIo, Limits, Shader, Storage, View, What, roofline, wgsl,
};
use lienzo::kernels::{Case, Dims, Op, cases};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, StorageAccess, TypeInner};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

/// Adapters: the WebGPU default, one that can bind very little, and large ones with tensor cores.
fn adapters() -> Vec<(&'static str, Limits)> {
    let mut all = Vec::new();
    for storage in [Storage::F32, Storage::F16] {
        let webgpu = Limits::webgpu(storage);
        let large = Limits {
            max_binding: (1 << 31) - 256,
            workgroup_bytes: 48 << 10,
            invocations: 1024,
            subgroup: Some(32),
            ..webgpu.clone()
        };
        let coop = |size, emulated| Limits { coop: Some(Coop { size, emulated }), ..large.clone() };
        all.push(("webgpu", webgpu.clone()));
        all.push(("webgpu, f32 weights", Limits { weights: Storage::F32, ..webgpu.clone() }));
        all.push(("small bindings", Limits { max_binding: 64 << 10, ..webgpu }));
        all.extend([("cooperative 16", coop(16, false)), ("cooperative 8", coop(8, false))]);
        all.extend([("emulated 16", coop(16, true)), ("emulated 8", coop(8, true)), ("large", large)]);
    }
    all
}

/// Operands of their own, or columns of wider tensors.
fn views(case: &Case, wider: bool) -> Vec<View> {
    let view = |s: &lienzo::tensor::Shape| {
        let own = View::whole(*s);
        if wider { View { pitch: own.pitch + 12, offset: 4, ..own } } else { own }
    };
    case.x.iter().map(view).collect()
}

/// Calls `f` with every launch of every case, and where it comes from.
fn each_launch(mut f: impl FnMut(&str, &Case, &LaunchIo<'_>, &Launch)) {
    for case in cases() {
        let shape = case.op.output(&case.x, &case.w).unwrap()[0];
        for (adapter, limits) in adapters() {
            for (i, variant) in gpu::variants(&case.op, &case.x, &case.w, &limits).iter().enumerate() {
                for x in [views(&case, false), views(&case, true)] {
                    let io = LaunchIo { x: &x, w: &case.w, y: View::whole(shape), limits: &limits };
                    let name = || format!("{}/{} {} ({adapter})", case.op.name(), case.name, variant.name);
                    if variant.supported {
                        let launch = gpu::launch(&case.op, i, &io).unwrap_or_else(|e| panic!("{}: {e}", name()));
                        f(&name(), &case, &io, &launch);
                    }
                }
            }
        }
    }
}

/// Calls `f` with every dispatch of every launch, and of the two that measure a device.
fn each_dispatch(mut f: impl FnMut(&str, &Dispatch, &Limits)) {
    each_launch(|name, _, io, launch| {
        assert!(!launch.dispatches.is_empty(), "{name} launches nothing");
        launch.dispatches.iter().for_each(|d| f(name, d, io.limits));
    });
    let limits = Limits::webgpu(Storage::F32);
    for launch in [roofline::copy(1, &limits), roofline::fma(1, &limits)] {
        launch.dispatches.iter().for_each(|d| f("roofline", d, &limits));
    }
}

fn parse(name: &str, text: &str) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    let mut needs = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if text.contains("enable f16;") {
        needs |= Capabilities::SHADER_FLOAT16;
    }
    if cooperative(text) {
        let subgroups = Capabilities::SUBGROUP | Capabilities::SUBGROUP_BARRIER;
        needs |= Capabilities::COOPERATIVE_MATRIX | subgroups;
    }
    let mut validator = Validator::new(ValidationFlags::all(), needs);
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    (module, info)
}

fn cooperative(text: &str) -> bool {
    text.contains("enable wgpu_cooperative_matrix")
}

/// Name and WGSL type of each field of `struct Params`, with its offset.
fn fields(module: &Module) -> Vec<(String, &'static str, u32)> {
    let (_, params) = module.types.iter().find(|(_, t)| t.name.as_deref() == Some("Params")).expect("struct Params");
    let TypeInner::Struct { members, span } = &params.inner else { panic!("Params is no struct") };
    assert!(*span <= ALIGN as u32, "Params has {span} bytes");
    let each = members.iter().map(|m| {
        let ty = match module.types[m.ty].inner {
            TypeInner::Scalar(s) if s.width == 4 && s.kind == ScalarKind::Uint => "u32",
            TypeInner::Scalar(s) if s.width == 4 && s.kind == ScalarKind::Float => "f32",
            ref other => panic!("a field of type {other:?}"),
        };
        (m.name.clone().unwrap_or_default(), ty, m.offset)
    });
    each.collect()
}

/// Whether the shader declares each storage binding as written, in the order of their numbers, which have no gap.
fn written(module: &Module) -> Vec<bool> {
    let mut bound = Vec::new();
    for (_, v) in module.global_variables.iter() {
        let Some(b) = &v.binding else { continue };
        assert_eq!(b.group, 0, "all bindings are of group 0");
        match v.space {
            AddressSpace::Uniform => {
                assert_eq!((b.binding, v.name.as_deref()), (0, Some("p")), "the one uniform is `p` at binding 0");
            }
            AddressSpace::Storage { access } => bound.push((b.binding, access.contains(StorageAccess::STORE))),
            other => panic!("a binding in {other:?}"),
        }
    }
    bound.sort_unstable();
    assert!(bound.iter().zip(1..).all(|((b, _), want)| *b == want), "bindings are numbered 1, 2, ...: {bound:?}");
    bound.into_iter().map(|(_, w)| w).collect()
}

fn workgroup_bytes(module: &Module) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
    shared.map(|(_, v)| layouter[v.ty].size.next_multiple_of(16)).sum()
}

/// What a test needs to know of a text.
struct Reflected {
    fields: Vec<(String, &'static str, u32)>,
    written: Vec<bool>,
    threads: u32,
    workgroup_bytes: u32,
}

fn reflect(name: &str, text: &str) -> Reflected {
    let (module, _) = parse(name, text);
    assert_eq!(module.entry_points.len(), 1, "{name}: one entry point");
    let entry = &module.entry_points[0];
    assert_eq!(entry.name, "main", "{name}");
    Reflected {
        fields: fields(&module),
        written: written(&module),
        threads: entry.workgroup_size.iter().product(),
        workgroup_bytes: workgroup_bytes(&module),
    }
}

fn check_dispatch(name: &str, d: &Dispatch, r: &Reflected, limits: &Limits) {
    let declared: Vec<(&str, &str)> = r.fields.iter().map(|(n, t, _)| (n.as_str(), *t)).collect();
    assert_eq!(declared, d.params.fields, "{name}: struct Params of {}", d.shader.file);
    assert!(r.fields.iter().zip(0..).all(|((_, _, at), i)| *at == 4 * i), "{name}: Params has gaps");
    assert_eq!(d.params.words.len(), r.fields.len(), "{name}");
    assert_eq!(d.params.fields[0], ("first", "u32"), "{name}");
    let want: Vec<bool> =
        d.binds.iter().map(|b| matches!(b.what, What::Y | What::Statistics | What::ScratchOut(_))).collect();
    assert_eq!(r.written, want, "{name}: which bindings {} writes", d.shader.file);
    assert!(d.binds.len() <= 8, "{name}: {} storage bindings", d.binds.len());
    assert!(r.threads <= limits.invocations, "{name}: {} threads", r.threads);
    assert!(r.workgroup_bytes <= limits.workgroup_bytes, "{name}: {} bytes of workgroup memory", r.workgroup_bytes);
    assert!(d.grid[1].max(d.grid[2]) <= limits.max_groups && !d.grid.contains(&0), "{name}: grid {:?}", d.grid);
}

#[test]
fn launches_fit_their_shaders() {
    let mut known: HashMap<Shader, Reflected> = HashMap::new();
    each_dispatch(|name, d, limits| {
        let r = known.entry(d.shader.clone()).or_insert_with(|| reflect(name, &wgsl::text(&d.shader).unwrap()));
        check_dispatch(name, d, r, limits);
    });
}

/// Bytes of a packed weight.
fn weight_bytes(case: &Case, i: usize, d: Dims, limits: &Limits) -> u64 {
    if case.op.packings()[i].is_vector() {
        return 4 * packed_width(&case.op, d.n) as u64;
    }
    (d.taps * d.k.next_multiple_of(4) * packed_width(&case.op, d.n) * limits.weights.bytes()) as u64
}

fn packed_width(op: &Op, n: usize) -> usize {
    if matches!(op, Op::Matmul(m) if m.geglu) { 2 * (n / 2).next_multiple_of(4) } else { n.next_multiple_of(4) }
}

#[test]
fn bindings_lie_in_what_they_show() {
    each_launch(|name, case, io, launch| {
        let rows = |v: &View, storage: Storage| (v.shape.rows() * v.pitch * storage.bytes()) as u64;
        let storage = |i| if case.op.takes_statistics(i) { Storage::F32 } else { io.limits.storage };
        for Bind { what, start, bytes } in launch.dispatches.iter().flat_map(|d| &d.binds) {
            let size = match *what {
                What::X(i) => rows(&io.x[i], storage(i)),
                What::W(i) => weight_bytes(case, i, case.w[i], io.limits),
                What::Y => rows(&io.y, io.limits.storage),
                What::Statistics => rows(&View::whole(case.op.output(&case.x, &case.w).unwrap()[1]), Storage::F32),
                What::Scratch(i) | What::ScratchOut(i) => launch.scratch[i],
            };
            let bytes = bytes.unwrap_or(size.saturating_sub(*start));
            assert!(bytes > 0 && start + bytes <= size, "{name}: {what:?} has {size} bytes, bound {start}+{bytes}");
            assert!(start.is_multiple_of(ALIGN) && bytes.is_multiple_of(4), "{name}: {what:?} at {start}+{bytes}");
            // What a variant supports is judged by tensors of their own: of the views of plans only attention's matter,
            // and it leaves room for them.
            let own = io.x.iter().all(|v| v.offset == 0) && !matches!(what, What::W(_));
            assert!(!own || bytes <= io.limits.max_binding, "{name}: {what:?} binds {bytes} bytes");
        }
    });
}

/// Every distinct text of every launch, by the name of its first.
fn texts() -> HashMap<String, String> {
    let (mut shaders, mut texts) = (HashSet::new(), HashMap::new());
    each_dispatch(|name, d, _| {
        if shaders.insert(d.shader.clone()) {
            texts.entry(wgsl::text(&d.shader).unwrap()).or_insert_with(|| name.to_owned());
        }
    });
    texts
}

fn to_spirv(name: &str, module: &Module, info: &ModuleInfo) {
    let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    let words = naga::back::spv::write_vec(module, info, &options, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(words[0], 0x0723_0203, "{name}");
}

fn to_msl(name: &str, module: &Module, info: &ModuleInfo) {
    let options = naga::back::msl::Options { lang_version: (2, 4), ..Default::default() };
    let written = naga::back::msl::write_string(module, info, &options, &Default::default());
    let (text, _) = written.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(text.contains("kernel void"), "{name}");
}

fn to_hlsl(name: &str, module: &Module, info: &ModuleInfo) {
    let options = naga::back::hlsl::Options { shader_model: naga::back::hlsl::ShaderModel::V6_2, ..Default::default() };
    let (mut text, entry) = (String::new(), naga::back::hlsl::PipelineOptions::default());
    let mut writer = naga::back::hlsl::Writer::new(&mut text, &options, &entry);
    writer.write(module, info, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(text.contains("[numthreads("), "{name}");
}

#[test]
fn every_text_lowers_to_what_drivers_take() {
    let texts = texts();
    assert!(!texts.is_empty());
    for (text, name) in &texts {
        let (module, info) = parse(name, text);
        to_spirv(name, &module, &info);
        to_msl(name, &module, &info);
        if !cooperative(text) {
            to_hlsl(name, &module, &info);
        }
    }
}

/// Adds a file and what it imports.
fn used(shader: &Shader, file: &str, found: &mut BTreeSet<String>) {
    if !found.insert(file.to_owned()) {
        return;
    }
    let (_, text) = wgsl::FILES.iter().find(|(n, _)| *n == file).unwrap_or_else(|| panic!("no shader file {file}"));
    for import in text.lines().filter_map(|l| l.strip_prefix("#import ")) {
        let slot = shader.slots.iter().find(|(slot, _)| *slot == import.trim());
        used(shader, &format!("common/{}", slot.map_or(import.trim(), |(_, f)| *f)), found);
    }
}

#[test]
fn every_file_is_listed_and_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut there = BTreeSet::new();
    for folder in ["", "common/"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if let Some(stem) = name.strip_suffix(".wgsl") {
                there.insert(format!("{folder}{stem}"));
            }
        }
    }
    let listed: BTreeSet<String> = wgsl::FILES.iter().map(|(n, _)| (*n).to_owned()).collect();
    assert_eq!(there, listed, "files in shaders/ (left) and in src/kernels/gpu/wgsl.rs (right)");
    let (mut shaders, mut found) = (HashSet::new(), BTreeSet::new());
    each_dispatch(|_, d, _| {
        shaders.insert(d.shader.clone());
    });
    for shader in &shaders {
        let mut one = BTreeSet::new();
        used(shader, shader.file, &mut one);
        found.append(&mut one);
    }
    assert_eq!(there, found, "files in shaders/ (left) and those that launches use (right)");
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in wgsl::FILES {
        let first = text.lines().next().unwrap_or("");
        if name.starts_with("common/") {
            assert!(first.starts_with("// "), "{name}.wgsl begins with what it holds");
            continue;
        }
        let ops = cases().into_iter().map(|c| c.op.name()).chain(["roofline"]);
        let op = ops.into_iter().find(|op| name.starts_with(op)).expect("named after an op");
        assert!(first.starts_with(&format!("// {op}")), "{name}.wgsl begins with `// {op}`");
        for word in ["Layout", "Memory", "src/kernels/gpu/"] {
            let header = text.lines().take_while(|l| l.starts_with("//"));
            assert!(header.clone().any(|l| l.contains(word)), "{name}.wgsl: its header does not say {word}");
        }
    }
}
