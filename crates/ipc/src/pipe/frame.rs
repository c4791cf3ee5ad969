//! What stands before each message.

use multiproc_sys::socket::DESCRIPTORS_MAX;

/// Bytes of a header.
pub(super) const HEADER: usize = 16;

/// What each header begins with. The digit is the version of the format.
const MAGIC: [u8; 4] = *b"MPP1";

/// How long a message is, and how many descriptors come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) descriptors: usize,
    pub(super) length: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&(self.descriptors as u32).to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// What a peer has written, if it is a header at all.
    pub(super) fn from_bytes(bytes: &[u8; HEADER]) -> Option<Header> {
        let (magic, rest) = bytes.split_first_chunk()?;
        let (descriptors, length) = rest.split_first_chunk()?;
        let descriptors = u32::from_le_bytes(*descriptors) as usize;
        let length = u64::from_le_bytes(*length.first_chunk()?);
        let is_ours = *magic == MAGIC && descriptors <= DESCRIPTORS_MAX;
        is_ours.then_some(Header { descriptors, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_written_and_read_is_the_same() {
        for header in [
            Header { descriptors: 0, length: 0 },
            Header { descriptors: DESCRIPTORS_MAX, length: u64::MAX },
        ] {
            assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
        }
    }

    #[test]
    fn header_with_any_bit_of_its_magic_changed_is_none() {
        let bytes = Header { descriptors: 1, length: 5 }.to_bytes();
        for bit in 0..32 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::from_bytes(&changed), None, "bit {bit}");
        }
    }

    #[test]
    fn header_with_more_descriptors_than_the_kernel_passes_is_none() {
        let header = Header { descriptors: DESCRIPTORS_MAX + 1, length: 5 };
        assert_eq!(Header::from_bytes(&header.to_bytes()), None);
    }
}
