//! What precedes the data of a message: which collective it belongs to.
//!
//! Ranks that reduce buckets in different orders, or of different sizes, would add what does not
//! belong together. Every message carries what its sender is doing, and the receiver compares.

use std::fmt;

/// Bytes before the data of a message.
pub(super) const HEADER_BYTES: usize = 32;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Data of a collective.
    Data = 1,
    /// Asks whether the receiver is still there; says where the sender is.
    RollCall,
    /// Answers; says where the sender is.
    Present,
    /// The sender gave up; says why.
    Failed,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Data, Self::RollCall, Self::Present, Self::Failed];
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    None,
    AllReduce,
    Broadcast,
    AllGather,
    Barrier,
}

impl Operation {
    const ALL: [Self; 5] =
        [Self::None, Self::AllReduce, Self::Broadcast, Self::AllGather, Self::Barrier];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "nothing",
            Self::AllReduce => "all-reduce",
            Self::Broadcast => "broadcast",
            Self::AllGather => "all-gather",
            Self::Barrier => "barrier",
        })
    }
}

/// The type of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ElementType {
    Byte,
    F16,
    Bf16,
    F32,
    F64,
}

impl ElementType {
    const ALL: [Self; 5] = [Self::Byte, Self::F16, Self::Bf16, Self::F32, Self::F64];
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Byte => "bytes",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// A collective, as far as a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Collective {
    pub(super) operation: Operation,
    pub(super) element: ElementType,
    /// Of its name and its algorithm.
    pub(super) hash: u64,
    /// How many collectives this rank had begun, this one included.
    pub(super) number: u64,
    /// Bytes of the whole, where all ranks have the same.
    pub(super) bytes: u64,
}

impl Collective {
    /// Before the first.
    pub(super) const NONE: Self = Self {
        operation: Operation::None,
        element: ElementType::Byte,
        hash: 0,
        number: 0,
        bytes: 0,
    };

    /// Writes the header of a message of this collective over its first bytes.
    pub(super) fn write(&self, kind: Kind, message: &mut [u8]) {
        message[..8].fill(0);
        message[0] = kind as u8;
        message[1] = self.operation as u8;
        message[2] = self.element as u8;
        message[8..16].copy_from_slice(&self.hash.to_le_bytes());
        message[16..24].copy_from_slice(&self.number.to_le_bytes());
        message[24..32].copy_from_slice(&self.bytes.to_le_bytes());
    }

    /// Reads the header of a message; nothing if it is none.
    pub(super) fn read(message: &[u8]) -> Option<(Kind, Self)> {
        let header = message.first_chunk::<HEADER_BYTES>()?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let kind = *Kind::ALL.iter().find(|kind| **kind as u8 == header[0])?;
        let operation = *Operation::ALL.get(usize::from(header[1]))?;
        let element = *ElementType::ALL.get(usize::from(header[2]))?;
        let (hash, bytes) = (number(8), number(24));
        Some((kind, Self { operation, element, hash, number: number(16), bytes }))
    }
}

impl fmt::Display for Collective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, element, number, bytes, .. } = self;
        write!(f, "its collective {number}, {operation}")?;
        match (operation, element) {
            (Operation::AllReduce | Operation::Broadcast, element) => {
                write!(f, " of {bytes} bytes of {element}")
            }
            _ => Ok(()),
        }
    }
}

/// FNV-1a (Fowler, Noll, Vo; draft-eastlake-fnv) of several texts.
pub(super) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        // No text holds a 0xff: it keeps them apart.
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = vec![7; HEADER_BYTES + 3];
        for kind in Kind::ALL {
            for operation in Operation::ALL {
                for element in ElementType::ALL {
                    let (hash, number, bytes) = (u64::MAX - 1, 1 << 40, 1 << 33);
                    let collective = Collective { operation, element, hash, number, bytes };
                    collective.write(kind, &mut message);
                    assert_eq!(Collective::read(&message), Some((kind, collective)));
                }
            }
        }
        assert_eq!(message[HEADER_BYTES..], [7; 3]);
    }

    #[test]
    fn what_is_no_header_is_not_read() {
        assert_eq!(Collective::read(&[0; HEADER_BYTES]), None);
        assert_eq!(Collective::read(&[1; HEADER_BYTES - 1]), None);
        let mut message = [0; HEADER_BYTES];
        Collective::NONE.write(Kind::Data, &mut message);
        message[2] = 5;
        assert_eq!(Collective::read(&message), None);
    }

    #[test]
    fn the_hash_is_fnv_1a_and_keeps_texts_apart() {
        // From the reference's test vectors, for "foobar" before the separator.
        let foobar = 0x8594_4171_f739_67e8_u64;
        assert_eq!(hash(["foobar"]), (foobar ^ 0xff).wrapping_mul(0x0100_0000_01b3));
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
    }
}
