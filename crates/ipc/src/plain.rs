//! Which values may stand in shared memory as they are.

use std::any::TypeId;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Plain data: no padding, no pointer, no `Drop`, and any bytes are a value.
///
/// Numbers and arrays of them are plain. A struct of one's own becomes so by zerocopy's derives:
///
/// ```
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
/// fn plain(_: impl multiproc_ipc::Plain) {}
/// plain(Point { x: 1.0, y: 2.0 });
/// ```
pub trait Plain:
    FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Sync + 'static
{
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Sync + 'static> Plain
    for T
{
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
    /// A struct or array: told from others by its size and alignment.
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

    /// What a `T` is.
    pub(crate) fn of<T: 'static>() -> Element {
        let named = [
            (TypeId::of::<u8>(), Element::U8),
            (TypeId::of::<u16>(), Element::U16),
            (TypeId::of::<u32>(), Element::U32),
            (TypeId::of::<u64>(), Element::U64),
            (TypeId::of::<i8>(), Element::I8),
            (TypeId::of::<i16>(), Element::I16),
            (TypeId::of::<i32>(), Element::I32),
            (TypeId::of::<i64>(), Element::I64),
            (TypeId::of::<f32>(), Element::F32),
            (TypeId::of::<f64>(), Element::F64),
        ];
        let this = TypeId::of::<T>();
        named
            .into_iter()
            .find_map(|(id, element)| (id == this).then_some(element))
            .unwrap_or(Element::Compound)
    }

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
        assert_eq!(Element::of::<u64>(), Element::U64);
        assert_eq!(Element::of::<[u64; 2]>(), Element::Compound);
    }
}
