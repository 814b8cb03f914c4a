// fragment slot: 8x8 matrices of a subgroup's tensor cores. coopLoadT and coopStoreT are the row-major ones.
enable f16;
enable wgpu_cooperative_matrix;
const FRAG: u32 = 8u;
alias Half = f16;
alias FragA = coop_mat8x8<f16, A>;
alias FragB = coop_mat8x8<f16, B>;
alias FragC = coop_mat8x8<f32, C>;

struct Invocation {
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}

fn place(i: Invocation) -> vec2<u32> {
    return vec2<u32>(i.subgroup, i.lane);
}

fn load_a(at: u32) -> FragA {
    return coopLoadT<coop_mat8x8<f16, A>>(&a_tile[at], A_STRIDE);
}

fn load_b(at: u32) -> FragB {
    return coopLoadT<coop_mat8x8<f16, B>>(&b_tile[at], B_STRIDE);
}

fn multiply_add(a: FragA, b: FragB, c: FragC, lane: u32) -> FragC {
    return coopMultiplyAdd(a, b, c);
}

fn store_c(c: FragC, at: u32, lane: u32) {
    coopStoreT(c, &patches[at], FRAG);
}
