//! The list of ops, and the `match` over all of them that both kinds of device have.

/// Hands the list to another macro: `every_op!(name! [arguments])` is `name! { [arguments] module::Type, ... }`.
macro_rules! every_op {
    ($then:ident! $arguments:tt) => {
        $then! {
            $arguments
            matmul::Matmul,
            conv2d::Conv2d,
            group_norm::GroupNorm,
            group_affine::GroupAffine,
            layer_norm::LayerNorm,
            attention::Attention,
            geglu::Geglu,
            activate::Activate,
            add::Add,
            concat::Concat,
            upsample::Upsample,
            prelu::Prelu,
            pixel_shuffle::PixelShuffle,
            timestep_embedding::TimestepEmbedding
        }
    };
}

/// `by_op!(op, kernel, variants => body)`: the body for whichever op it is, with its struct and the `VARIANTS` of the
/// module of its name beside the caller.
macro_rules! by_op {
    ($op:expr, $kernel:ident, $variants:ident => $body:expr) => {
        every_op!(by_each_op![$op, $kernel, $variants, $body])
    };
}

/// `names_of_variants!()`: a function `names` over the `VARIANTS` of the modules beside the caller.
macro_rules! names_of_variants {
    () => {
        every_op!(name_each![]);
    };
}

/// What [`names_of_variants`] makes of the list.
macro_rules! name_each {
    ([] $($module:ident :: $name:ident),*) => {
        /// Every variant of every op by name, slowest first: `(op, variant)`.
        pub fn names() -> Vec<(&'static str, &'static str)> {
            let mut all = Vec::new();
            $(
                let op = <crate::kernels::$module::$name as crate::kernels::Kernel>::NAME;
                all.extend($module::VARIANTS.iter().map(|v| (op, v.name)));
            )*
            all
        }
    };
}

/// What [`by_op`] makes of the list.
macro_rules! by_each_op {
    ([$op:expr, $kernel:ident, $variants:ident, $body:expr] $($module:ident :: $name:ident),*) => {
        match $op {
            $(Op::$name($kernel) => {
                let $variants = $module::VARIANTS;
                $body
            })*
        }
    };
}
