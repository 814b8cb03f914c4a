// Maxima and sums over the threads that share rows, through workgroup memory: a thread holds four rows in a vec4, and
// `lanes` neighbouring threads (any number that divides the workgroup) hold parts of the same four. The importing
// shader declares WG, its number of threads. All threads of the workgroup must call these together.
var<workgroup> row_slots: array<vec4<f32>, WG>;

fn max_over(v: vec4<f32>, thread: u32, lanes: u32) -> vec4<f32> {
    row_slots[thread] = v;
    workgroupBarrier();
    let begin = thread / lanes * lanes;
    var most = row_slots[begin];
    for (var i = 1u; i < lanes; i++) {
        most = max(most, row_slots[begin + i]);
    }
    workgroupBarrier();
    return most;
}

fn sum_over(v: vec4<f32>, thread: u32, lanes: u32) -> vec4<f32> {
    row_slots[thread] = v;
    workgroupBarrier();
    let begin = thread / lanes * lanes;
    var total = row_slots[begin];
    for (var i = 1u; i < lanes; i++) {
        total += row_slots[begin + i];
    }
    workgroupBarrier();
    return total;
}
