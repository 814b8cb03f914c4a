// matrices slot: 8x8 matrices, f16 times f16 into f32.
const FRAG: u32 = 8u; // rows and columns
alias FragA = coop_mat8x8<f16, A>;
alias FragB = coop_mat8x8<f16, B>;
alias FragC = coop_mat8x8<f32, C>;
