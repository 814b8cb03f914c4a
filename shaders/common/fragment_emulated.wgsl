// fragment slot: what tensor cores compute, by plain arithmetic on the same workgroup memory, so that the addresses of
// the cooperative kernels can be tested on any adapter. A fragment of a or b is where it begins in its tile; a lane
// holds elements lane, lane + 32, ... of c.
const FRAG: u32 = 16u; // rows and columns of a fragment: 8 or 16
const HELD: u32 = FRAG * FRAG / 32u;
alias Half = f32;
alias FragA = u32;
alias FragB = u32;
alias FragC = array<f32, HELD>;

struct Invocation {
    @builtin(local_invocation_index) thread: u32,
}

fn place(i: Invocation) -> vec2<u32> {
    return vec2<u32>(i.thread / 32u, i.thread % 32u);
}

fn load_a(at: u32) -> FragA {
    return at;
}

fn load_b(at: u32) -> FragB {
    return at;
}

fn multiply_add(a: FragA, b: FragB, c: FragC, lane: u32) -> FragC {
    var sum = c;
    for (var i = 0u; i < HELD; i++) {
        let row = (lane + 32u * i) / FRAG;
        let column = (lane + 32u * i) % FRAG;
        for (var k = 0u; k < FRAG; k++) {
            sum[i] = fma(a_tile[a + row * A_STRIDE + k], b_tile[b + k * B_STRIDE + column], sum[i]);
        }
    }
    return sum;
}

fn store_c(c: FragC, at: u32, lane: u32) {
    for (var i = 0u; i < HELD; i++) {
        patches[at + lane + 32u * i] = c[i];
    }
}
