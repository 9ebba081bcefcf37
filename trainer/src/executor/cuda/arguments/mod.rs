//! What kernels are called with: the twins of the structures in the kernels' text.

pub mod batch_norm;
pub mod grid;
pub mod input;
pub mod linear;
pub mod loss;
pub mod optimizer;
pub mod pointwise;
pub mod pool;

/// A place in the GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl Address {
    /// Where nothing is.
    pub const NULL: Self = Self(0);

    /// The place so many bytes on.
    #[must_use]
    pub const fn add(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// A launch of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its name in the text.
    pub kernel: &'static str,
    /// Blocks in its grid.
    pub blocks: u32,
    /// Its argument, as C lays it out.
    pub arguments: Vec<u8>,
}

/// A value inside an argument.
trait Field {
    /// Its bytes as C has them, which is also what it is aligned to.
    fn bytes(&self) -> Vec<u8>;
}

macro_rules! fields {
    ($($type:ty),*) => {
        $(impl Field for $type {
            fn bytes(&self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        })*
    };
}
fields!(u32, u64, f32, f64);

impl Field for Address {
    fn bytes(&self) -> Vec<u8> {
        self.0.bytes()
    }
}

/// The bytes of a structure of these fields, by C's rules.
fn layout(fields: &[&dyn Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut alignment = 1;
    for field in fields {
        let field = field.bytes();
        alignment = alignment.max(field.len());
        bytes.resize(bytes.len().next_multiple_of(field.len()), 0);
        bytes.extend(field);
    }
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
    bytes
}

/// What a kernel is called with.
pub trait Arguments {
    /// The kernel's name in the text.
    const KERNEL: &'static str;

    /// As C lays it out.
    fn to_bytes(&self) -> Vec<u8>;

    /// A launch on a grid of so many blocks.
    fn launch(&self, blocks: u32) -> Launch {
        Launch { kernel: Self::KERNEL, blocks, arguments: self.to_bytes() }
    }
}

trait Zero: Field {
    const ZERO: Self;
}
impl Zero for u32 {
    const ZERO: Self = 0;
}
impl Zero for u64 {
    const ZERO: Self = 0;
}
impl Zero for f32 {
    const ZERO: Self = 0.0;
}
impl Zero for f64 {
    const ZERO: Self = 0.0;
}
impl Zero for Address {
    const ZERO: Self = Self::NULL;
}

macro_rules! kernel_arguments {
    ($($(#[$doc:meta])* $kernel:literal $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl Arguments for $name {
                const KERNEL: &'static str = $kernel;

                fn to_bytes(&self) -> Vec<u8> {
                    layout(&[$(&self.$field),*])
                }
            }
        )*

        /// The kernels of this file with the bytes of their arguments.
        pub(super) fn of_file() -> Vec<(&'static str, usize)> {
            vec![$(($kernel, {
                let fields: &[&dyn Field] = &[$(&<$type as Zero>::ZERO),*];
                layout(fields).len()
            })),*]
        }
    };
}

use kernel_arguments;

/// All kernels with the bytes of their arguments.
#[must_use]
pub fn all_kernels() -> Vec<(&'static str, usize)> {
    let files = [
        batch_norm::of_file(),
        input::of_file(),
        linear::of_file(),
        loss::of_file(),
        optimizer::of_file(),
        pointwise::of_file(),
        pool::of_file(),
    ];
    files.concat()
}
