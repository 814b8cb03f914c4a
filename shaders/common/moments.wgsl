// Number, mean and sum of squared deviations (M2) of four sets of numbers, one a lane, and how sets become one (Chan,
// Golub and LeVeque 1979): no difference of large squares.
struct Moments {
    n: vec4<f32>,
    mean: vec4<f32>,
    m2: vec4<f32>,
}

var<workgroup> moment_slots: array<Moments, 256>;

fn together(a: Moments, b: Moments) -> Moments {
    let n = a.n + b.n;
    let part = b.n / max(n, vec4<f32>(1.0));
    let delta = b.mean - a.mean;
    return Moments(n, a.mean + delta * part, a.m2 + b.m2 + delta * delta * (a.n * part));
}

// The four sets as one, in lane x.
fn lanes_together(m: Moments) -> Moments {
    let pairs = together(m, Moments(m.n.yxwz, m.mean.yxwz, m.m2.yxwz));
    return together(pairs, Moments(pairs.n.zwxy, pairs.mean.zwxy, pairs.m2.zwxy));
}

// Of 256 threads in rows of `columns` (a power of two): the sets of all threads of this one's column as one, in a fixed
// order. All threads of the workgroup must call it together.
fn column_together(m: Moments, thread: u32, columns: u32) -> Moments {
    moment_slots[thread] = m;
    workgroupBarrier();
    for (var half = 128u; half >= columns; half = half / 2u) {
        if thread < half {
            moment_slots[thread] = together(moment_slots[thread], moment_slots[thread + half]);
        }
        workgroupBarrier();
    }
    let total = moment_slots[thread % columns];
    workgroupBarrier();
    return total;
}
