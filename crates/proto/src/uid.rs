//! Uids of the agents' wire: 16 bytes, big-endian. (Objects carry uids as text.)

use prost::bytes::Bytes;
use stint_api::{ClusterId, JobUid, NodeUid, PodUid};

use crate::error::ConversionError;

/// What is sent as 16 bytes.
pub trait Uid: Copy {
    /// From its number.
    fn from_number(number: u128) -> Self;
    /// Its number.
    fn number(self) -> u128;
}

macro_rules! uids {
    ($($name:ident),*) => {$(
        impl Uid for $name {
            fn from_number(number: u128) -> $name {
                $name(number)
            }

            fn number(self) -> u128 {
                self.0
            }
        }
    )*};
}
uids!(JobUid, PodUid, NodeUid, ClusterId);

/// A uid as it is sent to and by agents.
pub fn uid_to_wire(uid: impl Uid) -> Bytes {
    Bytes::copy_from_slice(&uid.number().to_be_bytes())
}

/// A uid as it was received. `field` is for the error.
pub fn uid_from_wire<U: Uid>(field: &str, bytes: &[u8]) -> Result<U, ConversionError> {
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Ok(U::from_number(u128::from_be_bytes(bytes))),
        Err(_) => Err(ConversionError::invalid(
            field,
            format!("{} bytes", bytes.len()),
            "a uid must have just 16 bytes",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_sixteen_bytes() {
        let uid = PodUid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let bytes = uid_to_wire(uid);
        assert_eq!(bytes[..2], [0x01, 0x23]);
        assert_eq!(uid_from_wire("podUid", &bytes), Ok(uid));
        for length in [0, 15, 17, 36] {
            let error = uid_from_wire::<PodUid>("podUid", &vec![0; length]).unwrap_err();
            assert_eq!(error.field(), "podUid", "{length}");
        }
    }
}
