//! Which values may stand in shared memory as they are.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::structure::Structure;

/// Plain data: no padding, no pointer, no `Drop`, and any bytes are a value.
///
/// Numbers and arrays of them are plain. A struct of plain fields becomes so by deriving this and what
/// it stands on, zerocopy's four traits, which check that it is:
///
/// ```
/// use multiproc_ipc::{Plain, Value};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let position = Value::new(Point { x: 1.0, y: 2.0 })?;
/// assert_eq!(position.get().y, 2.0);
/// # Ok(())
/// # }
/// ```
///
/// An object says of which structure its data is. A program in which the struct has other fields, or has
/// them in another order, gets an error in place of the handle:
/// [`NoSuchObject`](crate::Error::NoSuchObject).
///
/// # What is not plain
///
/// Padding, whose bytes are nobody's:
///
/// ```compile_fail
/// # use multiproc_ipc::Plain;
/// # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
/// #[repr(C)]
/// struct Padded {
///     flag: u8,
///     number: u32,
/// }
/// ```
///
/// Pointers and references, which mean nothing in another process:
///
/// ```compile_fail
/// # use multiproc_ipc::Plain;
/// # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
/// #[repr(C)]
/// struct Pointing {
///     number: *const u64,
/// }
/// ```
///
/// A layout that each compiler may choose:
///
/// ```compile_fail
/// # use multiproc_ipc::Plain;
/// # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
/// struct Anyhow {
///     x: u32,
///     y: u32,
/// }
/// ```
///
/// Fields of which not all bytes are a value, as `bool` and `char`, and enums:
///
/// ```compile_fail
/// # use multiproc_ipc::Plain;
/// # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
/// #[repr(C)]
/// struct Switch {
///     on: bool,
/// }
/// ```
///
/// ```compile_fail
/// # use multiproc_ipc::Plain;
/// # use zerocopy::{Immutable, IntoBytes, KnownLayout};
/// #[derive(Clone, Copy, Immutable, IntoBytes, KnownLayout, Plain)]
/// #[repr(u8)]
/// enum Switch {
///     Off,
///     On,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not plain data",
    note = "derive zerocopy's `FromBytes`, `IntoBytes`, `Immutable` and `KnownLayout` for it, and `Plain`"
)]
pub trait Plain:
    FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Sync + 'static
{
    /// What a value looks like in memory. Not to be written by hand: the derive knows.
    const STRUCTURE: Structure;
}

macro_rules! numbers {
    ($($number:ident $element:ident),* $(,)?) => {$(
        impl Plain for $number {
            const STRUCTURE: Structure = Structure::of_number(
                stringify!($number),
                Element::$element,
                size_of::<$number>(),
            );
        }
    )*};
}

numbers! {
    u8 U8, u16 U16, u32 U32, u64 U64, u128 Compound, usize Compound,
    i8 I8, i16 I16, i32 I32, i64 I64, i128 Compound, isize Compound,
    f32 F32, f64 F64,
}

impl Plain for () {
    const STRUCTURE: Structure = Structure::of_struct(0, 1);
}

impl<T: Plain, const N: usize> Plain for [T; N] {
    const STRUCTURE: Structure = Structure::of_array(T::STRUCTURE, N);
}

/// What an object's elements are, as its catalog entry says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Element {
    /// Nothing, or bytes that only their own kind of object understands.
    Opaque = 0,
    U8 = 1,
    U16 = 2,
    U32 = 3,
    U64 = 4,
    I8 = 5,
    I16 = 6,
    I32 = 7,
    I64 = 8,
    F32 = 9,
    F64 = 10,
    /// A struct, an array, or a number of a size that has no name here.
    Compound = 11,
}

impl Element {
    const ALL: [Element; 12] = [
        Element::Opaque,
        Element::U8,
        Element::U16,
        Element::U32,
        Element::U64,
        Element::I8,
        Element::I16,
        Element::I32,
        Element::I64,
        Element::F32,
        Element::F64,
        Element::Compound,
    ];

    /// The element that a catalog entry names.
    pub(crate) fn from_code(code: u32) -> Element {
        Element::ALL.get(code as usize).copied().unwrap_or(Element::Opaque)
    }

    /// Bytes of one; of a word of what is compound.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::U16 | Element::I16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
            Element::Opaque | Element::Compound => 8,
        }
    }

    /// The Rust name of the type, where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Element::Opaque => "-",
            Element::U8 => "u8",
            Element::U16 => "u16",
            Element::U32 => "u32",
            Element::U64 => "u64",
            Element::I8 => "i8",
            Element::I16 => "i16",
            Element::I32 => "i32",
            Element::I64 => "i64",
            Element::F32 => "f32",
            Element::F64 => "f64",
            Element::Compound => "struct",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_codes_are_their_places() {
        for (code, element) in Element::ALL.into_iter().enumerate() {
            assert_eq!(element as usize, code);
            assert_eq!(Element::from_code(code as u32), element);
        }
        assert_eq!(Element::from_code(u32::MAX), Element::Opaque);
    }

    #[test]
    fn element_of_numbers_and_structs() {
        assert_eq!(u64::STRUCTURE.element(), Element::U64);
        assert_eq!(<[u64; 2]>::STRUCTURE.element(), Element::Compound);
        assert_eq!(Structure::of_slice(u64::STRUCTURE).element(), Element::U64);
    }
}
