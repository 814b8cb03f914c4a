// fragment slot: matrices of a subgroup's tensor cores, of the size that the slot `matrices` has. coopLoadT and
// coopStoreT are the row-major ones.
enable f16;
enable wgpu_cooperative_matrix;
#import matrices
alias Half = f16;

struct Invocation {
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}

fn place(i: Invocation) -> vec2<u32> {
    return vec2<u32>(i.subgroup, i.lane);
}

fn load_a(at: u32) -> FragA {
    return coopLoadT<FragA>(&a_tile[at], A_STRIDE);
}

fn load_b(at: u32) -> FragB {
    return coopLoadT<FragB>(&b_tile[at], B_STRIDE);
}

fn multiply_add(a: FragA, b: FragB, c: FragC, lane: u32) -> FragC {
    return coopMultiplyAdd(a, b, c);
}

fn store_c(c: FragC, at: u32, lane: u32) {
    coopStoreT(c, &patches[at], FRAG);
}
