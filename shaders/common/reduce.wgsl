// Sums over threads through workgroup memory, in a fixed order: needs no subgroups.
var<workgroup> reduce_slots: array<f32, 256>;

// The sum over the `lanes` neighbouring threads that this one is among; lanes is a power of two. All threads of the
// workgroup must call it together.
fn sum_lanes(value: f32, thread: u32, lanes: u32) -> f32 {
    reduce_slots[thread] = value;
    workgroupBarrier();
    for (var step = lanes / 2u; step > 0u; step = step / 2u) {
        if thread % lanes < step {
            reduce_slots[thread] += reduce_slots[thread + step];
        }
        workgroupBarrier();
    }
    let total = reduce_slots[thread / lanes * lanes];
    workgroupBarrier();
    return total;
}
