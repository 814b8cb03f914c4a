// A mean, given as a shift and the mean less the shift, as the nearest f32 and what that lacks (Knuth's exact
// sum): x - near is small where x is near the mean, so the difference (x - near) - rest loses
// nothing to a large mean or a far shift.
fn split_mean(shift: f32, mean: f32) -> vec2<f32> {
    let near = shift + mean;
    let part = near - shift;
    return vec2<f32>(near, (shift - (near - part)) + (mean - part));
}
