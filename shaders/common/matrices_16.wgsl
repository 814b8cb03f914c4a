// matrices slot: 16x16 matrices, f16 times f16 into f32.
const FRAG: u32 = 16u; // rows and columns
alias FragA = coop_mat16x16<f16, A>;
alias FragB = coop_mat16x16<f16, B>;
alias FragC = coop_mat16x16<f32, C>;
