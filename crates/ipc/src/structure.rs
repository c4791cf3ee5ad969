//! What data looks like in memory, as one number that programs can compare.
//!
//! Two programs that share a segment were built apart, maybe from different sources. A handle that one
//! of them sends, or publishes, names an object whose entry in the catalog says what its elements look
//! like; the other one gets it only if its own type looks the same. That is decided by what follows from
//! the type alone: sizes, alignments, offsets and names of fields, down to the numbers. What the types
//! themselves are called does not matter, nor in which crate they are.

use std::fmt;

use crate::plain::Element;
use crate::segment::catalog::Kind;

/// What a type looks like in memory, or which handles it consists of: equal for types of the same structure, in all programs.
///
/// A struct's consists of its size and alignment and of the name, offset and structure of each field;
/// the name of the struct itself is no part of it. A hash of 64 bits: it tells mistakes, not malice.
///
/// ```
/// # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// use multiproc_ipc::Plain;
///
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
/// #[repr(C)]
/// struct Span {
///     from: f64,
///     to: f64,
/// }
/// assert!(Point::STRUCTURE != Span::STRUCTURE);
/// assert!(<[Point; 2]>::STRUCTURE != <[f64; 4]>::STRUCTURE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Structure {
    hash: u64,
    element: Element,
}

/// What a structure is of: the first that goes into its hash.
enum Shape {
    Number,
    Struct,
    Array,
    Slice,
    Handle,
    Handles,
    List,
    Option,
}

impl Structure {
    /// That of a number which has this name in Rust.
    pub(crate) const fn of_number(name: &str, element: Element, bytes: usize) -> Structure {
        let hash = Hash::of(Shape::Number).text(name).word(bytes as u64);
        Structure { hash: hash.0, element }
    }

    /// That of `count` elements in a row.
    pub(crate) const fn of_array(of: Structure, count: usize) -> Structure {
        let hash = Hash::of(Shape::Array).word(of.hash).word(count as u64);
        Structure { hash: hash.0, element: Element::Compound }
    }

    /// That of any number of elements in a row.
    pub(crate) const fn of_slice(of: Structure) -> Structure {
        Structure { hash: Hash::of(Shape::Slice).word(of.hash).0, element: of.element }
    }

    /// That of the handle of an object of this kind, whose data looks like this.
    pub(crate) const fn of_handle(kind: Kind, of: Structure) -> Structure {
        let hash = Hash::of(Shape::Handle).word(kind as u64).word(of.hash);
        Structure { hash: hash.0, element: Element::Opaque }
    }

    /// That of any number of handles.
    pub(crate) const fn of_list(of: Structure) -> Structure {
        Structure { hash: Hash::of(Shape::List).word(of.hash).0, element: Element::Opaque }
    }

    /// That of a handle, or none.
    pub(crate) const fn of_option(of: Structure) -> Structure {
        Structure { hash: Hash::of(Shape::Option).word(of.hash).0, element: Element::Opaque }
    }

    #[doc(hidden)]
    /// That of a struct of handles, before its fields, whose offsets are their places.
    pub const fn of_handles() -> Structure {
        Structure { hash: Hash::of(Shape::Handles).0, element: Element::Opaque }
    }

    #[doc(hidden)]
    /// That of a struct of this size and alignment, before its fields.
    pub const fn of_struct(bytes: usize, alignment: usize) -> Structure {
        let hash = Hash::of(Shape::Struct).word(bytes as u64).word(alignment as u64);
        Structure { hash: hash.0, element: Element::Compound }
    }

    #[doc(hidden)]
    /// That of the same struct with one field more.
    pub const fn with_field(self, name: &str, offset: usize, of: Structure) -> Structure {
        let hash = Hash(self.hash).text(name).word(offset as u64).word(of.hash);
        Structure { hash: hash.0, ..self }
    }

    /// As a catalog entry says it.
    pub(crate) const fn number(self) -> u64 {
        self.hash
    }

    /// What listings call it.
    pub(crate) const fn element(self) -> Element {
        self.element
    }
}

impl fmt::Debug for Structure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Structure({:#018x}, {:?})", self.hash, self.element)
    }
}

/// FNV-1a of 64 bits.
struct Hash(u64);

impl Hash {
    const fn of(shape: Shape) -> Hash {
        Hash(0xcbf2_9ce4_8422_2325).byte(shape as u8)
    }

    const fn byte(self, byte: u8) -> Hash {
        Hash((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    const fn bytes(mut self, bytes: &[u8]) -> Hash {
        let mut place = 0;
        while place < bytes.len() {
            self = self.byte(bytes[place]);
            place += 1;
        }
        self
    }

    const fn word(self, word: u64) -> Hash {
        self.bytes(&word.to_le_bytes())
    }

    /// Its length first, so that no two texts in a row are taken for two others.
    const fn text(self, text: &str) -> Hash {
        self.word(text.len() as u64).bytes(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

    use super::*;
    use crate::Plain;

    macro_rules! structs {
        ($($name:ident { $($field:ident: $of:ty),* $(,)? })*) => {$(
            #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
            #[repr(C)]
            struct $name { $($field: $of),* }
        )*};
    }

    structs! {
        One { x: u32, y: u32 }
        Renamed { x: u32, y: u32 }
        Swapped { y: u32, x: u32 }
        Otherwise { x: u32, z: u32 }
        Float { x: u32, y: f32 }
        Joined { xy: u64 }
        Longer { x: u32, y: u32, z: u32 }
        Nested { one: One, other: One }
        NestedSwapped { one: One, other: Swapped }
        Flat { a: u32, b: u32, c: u32, d: u32 }
    }

    #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
    #[repr(C, align(8))]
    struct Aligned {
        x: u32,
        y: u32,
    }

    #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
    #[repr(C)]
    struct Tuple(u32, u32);

    #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
    #[repr(transparent)]
    struct Transparent(u32);

    #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
    #[repr(C)]
    struct Pair<T, const N: usize> {
        all: [T; N],
    }

    #[test]
    fn structures_of_different_types_all_differ() {
        let structures = [
            u8::STRUCTURE,
            i8::STRUCTURE,
            u32::STRUCTURE,
            i32::STRUCTURE,
            f32::STRUCTURE,
            u64::STRUCTURE,
            usize::STRUCTURE,
            u128::STRUCTURE,
            <()>::STRUCTURE,
            <[u32; 2]>::STRUCTURE,
            <[u32; 3]>::STRUCTURE,
            <[i32; 2]>::STRUCTURE,
            <[[u32; 2]; 1]>::STRUCTURE,
            <[[u32; 1]; 2]>::STRUCTURE,
            Structure::of_slice(u32::STRUCTURE),
            One::STRUCTURE,
            Swapped::STRUCTURE,
            Otherwise::STRUCTURE,
            Float::STRUCTURE,
            Joined::STRUCTURE,
            Longer::STRUCTURE,
            Nested::STRUCTURE,
            NestedSwapped::STRUCTURE,
            Flat::STRUCTURE,
            Aligned::STRUCTURE,
            Tuple::STRUCTURE,
            Transparent::STRUCTURE,
            Pair::<u32, 2>::STRUCTURE,
            Pair::<u32, 3>::STRUCTURE,
            Pair::<i32, 2>::STRUCTURE,
        ];
        for (place, one) in structures.iter().enumerate() {
            for (other_place, other) in structures.iter().enumerate() {
                assert_eq!(one.hash == other.hash, place == other_place, "{place}, {other_place}");
            }
        }
    }

    #[test]
    fn structure_does_not_depend_on_the_name_of_the_type() {
        assert_eq!(One::STRUCTURE, Renamed::STRUCTURE);
        assert_eq!(<[One; 3]>::STRUCTURE, <[Renamed; 3]>::STRUCTURE);
    }

    #[test]
    fn structure_is_what_it_was_in_programs_of_yesterday() {
        // A program that was built before must find what one built today has published.
        assert_eq!(u64::STRUCTURE.number(), 0xc6cf_9731_e339_e701);
        assert_eq!(One::STRUCTURE.number(), 0x58e5_e40f_919b_9f6b);
        assert_eq!(<[f64; 3]>::STRUCTURE.number(), 0xe923_e6f4_f5b9_3b38);
    }
}
