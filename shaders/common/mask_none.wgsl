// mask slot: none.
const MASKS: u32 = 0u; // bindings

fn biased(scores: vec4<f32>, sample: u32, head: u32, query: u32, quad: u32) -> vec4<f32> {
    return scores;
}
