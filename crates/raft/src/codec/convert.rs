//! The two conversion traits, and macros that write them for plain structs and enums.
//!
//! Owns: conversions of scalars, options, lists and maps. Does not own: any message.
//!
//! Invariant: the macros name every field of both sides, so that a field added to one side alone does not compile.

use crate::error::CodecError;
use bytes::Bytes;
use std::collections::BTreeMap;
use stint_api::{
    ClusterId, CompletionIndex, ConfigMapUid, Incarnation, JobUid, MemberId, NodeName, NodeUid, PodUid,
    Quantity, Revision, Timestamp,
};

/// Makes the wire's form of a value.
pub(crate) trait ToWire<W> {
    /// Cannot fail: every value has a wire form.
    fn to_wire(&self) -> W;
}

/// Makes a value from the wire's form.
pub(crate) trait FromWire<W>: Sized {
    /// Fails on what no version of this code writes.
    fn from_wire(wire: W) -> Result<Self, CodecError>;
}

macro_rules! same {
    ($($scalar:ty),*) => {$(
        impl ToWire<$scalar> for $scalar {
            fn to_wire(&self) -> $scalar {
                self.clone()
            }
        }
        impl FromWire<$scalar> for $scalar {
            fn from_wire(wire: $scalar) -> Result<Self, CodecError> {
                Ok(wire)
            }
        }
    )*};
}
same!(bool, u32, u64, i32, i64, String);

macro_rules! number {
    ($($name:ident: $number:ty),*) => {$(
        impl ToWire<$number> for $name {
            fn to_wire(&self) -> $number {
                self.0
            }
        }
        impl FromWire<$number> for $name {
            fn from_wire(wire: $number) -> Result<Self, CodecError> {
                Ok($name(wire))
            }
        }
    )*};
}
number!(Revision: u64, Incarnation: u64, MemberId: u64, CompletionIndex: u32, Timestamp: i64);

macro_rules! uid {
    ($($name:ident),*) => {$(
        impl ToWire<Bytes> for $name {
            fn to_wire(&self) -> Bytes {
                Bytes::copy_from_slice(&self.0.to_be_bytes())
            }
        }
        impl FromWire<Bytes> for $name {
            fn from_wire(wire: Bytes) -> Result<Self, CodecError> {
                let bytes: [u8; 16] =
                    wire.as_ref().try_into().map_err(|_| CodecError::length(wire.len(), 16))?;
                Ok($name(u128::from_be_bytes(bytes)))
            }
        }
    )*};
}
uid!(JobUid, PodUid, NodeUid, ClusterId, ConfigMapUid);

impl ToWire<Bytes> for Vec<u8> {
    fn to_wire(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl FromWire<Bytes> for Vec<u8> {
    fn from_wire(wire: Bytes) -> Result<Self, CodecError> {
        Ok(wire.into())
    }
}

impl ToWire<String> for NodeName {
    fn to_wire(&self) -> String {
        self.as_str().to_owned()
    }
}

impl FromWire<String> for NodeName {
    fn from_wire(wire: String) -> Result<Self, CodecError> {
        Ok(NodeName::new(&wire))
    }
}

impl ToWire<String> for Quantity {
    fn to_wire(&self) -> String {
        self.as_str().to_owned()
    }
}

impl FromWire<String> for Quantity {
    fn from_wire(wire: String) -> Result<Self, CodecError> {
        Quantity::parse(&wire).map_err(|_| CodecError::text(wire))
    }
}

impl<T, W> ToWire<Option<W>> for Option<T>
where
    T: ToWire<W>,
{
    fn to_wire(&self) -> Option<W> {
        self.as_ref().map(T::to_wire)
    }
}

impl<T, W> FromWire<Option<W>> for Option<T>
where
    T: FromWire<W>,
{
    fn from_wire(wire: Option<W>) -> Result<Self, CodecError> {
        wire.map(T::from_wire).transpose()
    }
}

impl<T, W> ToWire<W> for Box<T>
where
    T: ToWire<W>,
{
    fn to_wire(&self) -> W {
        T::to_wire(self)
    }
}

impl<T, W> FromWire<W> for Box<T>
where
    T: FromWire<W>,
{
    fn from_wire(wire: W) -> Result<Self, CodecError> {
        Ok(Box::new(T::from_wire(wire)?))
    }
}

impl<T, W> ToWire<Vec<W>> for Vec<T>
where
    T: ToWire<W>,
{
    fn to_wire(&self) -> Vec<W> {
        self.iter().map(T::to_wire).collect()
    }
}

impl<T, W> FromWire<Vec<W>> for Vec<T>
where
    T: FromWire<W>,
{
    fn from_wire(wire: Vec<W>) -> Result<Self, CodecError> {
        wire.into_iter().map(T::from_wire).collect()
    }
}

impl<T, W> ToWire<BTreeMap<String, W>> for BTreeMap<String, T>
where
    T: ToWire<W>,
{
    fn to_wire(&self) -> BTreeMap<String, W> {
        self.iter().map(|(key, value)| (key.clone(), value.to_wire())).collect()
    }
}

impl<T, W> FromWire<BTreeMap<String, W>> for BTreeMap<String, T>
where
    T: FromWire<W>,
{
    fn from_wire(wire: BTreeMap<String, W>) -> Result<Self, CodecError> {
        wire.into_iter().map(|(key, value)| Ok((key, T::from_wire(value)?))).collect()
    }
}

/// Conversions of a struct whose fields have the same names on both sides; also as a required field of another message.
macro_rules! message {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl ToWire<wire::$name> for $name {
            fn to_wire(&self) -> wire::$name {
                let $name { $($field),* } = self;
                wire::$name { $($field: $field.to_wire()),* }
            }
        }
        impl FromWire<wire::$name> for $name {
            fn from_wire(wire: wire::$name) -> Result<Self, CodecError> {
                let wire::$name { $($field),* } = wire;
                Ok($name { $($field: FromWire::from_wire($field).map_err(|error: CodecError| error.within(stringify!($field)))?),* })
            }
        }
        impl ToWire<Option<wire::$name>> for $name {
            fn to_wire(&self) -> Option<wire::$name> {
                Some(self.to_wire())
            }
        }
        impl FromWire<Option<wire::$name>> for $name {
            fn from_wire(wire: Option<wire::$name>) -> Result<Self, CodecError> {
                Self::from_wire(wire.ok_or_else(CodecError::missing)?)
            }
        }
        #[cfg(test)]
        impl $crate::codec::sample::Sample for $name {
            fn sample(sampler: &mut $crate::codec::sample::Sampler) -> Self {
                $name { $($field: $crate::codec::sample::Sample::sample(sampler)),* }
            }
        }
    };
}
pub(crate) use message;

/// Conversions of an enum without content whose variants have the same names on both sides.
macro_rules! enumeration {
    ($name:ident { $($variant:ident),* $(,)? }) => {
        impl ToWire<i32> for $name {
            fn to_wire(&self) -> i32 {
                match self {
                    $($name::$variant => wire::$name::$variant as i32),*
                }
            }
        }
        impl FromWire<i32> for $name {
            fn from_wire(wire: i32) -> Result<Self, CodecError> {
                match wire::$name::try_from(wire) {
                    $(Ok(wire::$name::$variant) => Ok($name::$variant),)*
                    Ok(wire::$name::Unspecified) | Err(_) => Err(CodecError::unknown_value(wire)),
                }
            }
        }
        #[cfg(test)]
        impl $crate::codec::sample::Sample for $name {
            fn sample(sampler: &mut $crate::codec::sample::Sampler) -> Self {
                let variants = [$($name::$variant),*];
                variants[sampler.below(variants.len())].clone()
            }
        }
    };
}
pub(crate) use enumeration;

/// Conversions of an enum whose variants each hold a message, to a message with a `oneof` of the same names.
macro_rules! union {
    ($name:ident: $module:ident::$kind:ident in $field:ident { $($variant:ident),* $(,)? }) => {
        impl ToWire<wire::$name> for $name {
            fn to_wire(&self) -> wire::$name {
                let kind = match self {
                    $($name::$variant(content) => wire::$module::$kind::$variant(content.to_wire())),*
                };
                wire::$name { $field: Some(kind) }
            }
        }
        impl FromWire<wire::$name> for $name {
            fn from_wire(wire: wire::$name) -> Result<Self, CodecError> {
                Ok(match wire.$field.ok_or_else(CodecError::missing)? {
                    $(wire::$module::$kind::$variant(content) => {
                        let content = FromWire::from_wire(content);
                        $name::$variant(content.map_err(|error: CodecError| error.within(stringify!($variant)))?)
                    })*
                })
            }
        }
        impl ToWire<Option<wire::$name>> for $name {
            fn to_wire(&self) -> Option<wire::$name> {
                Some(self.to_wire())
            }
        }
        impl FromWire<Option<wire::$name>> for $name {
            fn from_wire(wire: Option<wire::$name>) -> Result<Self, CodecError> {
                Self::from_wire(wire.ok_or_else(CodecError::missing)?)
            }
        }
        #[cfg(test)]
        impl $crate::codec::sample::Sample for $name {
            fn sample(sampler: &mut $crate::codec::sample::Sampler) -> Self {
                let makers: &[fn(&mut $crate::codec::sample::Sampler) -> $name] =
                    &[$(|sampler| $name::$variant($crate::codec::sample::Sample::sample(sampler))),*];
                makers[sampler.below(makers.len())](sampler)
            }
        }
    };
}
pub(crate) use union;

/// Conversions of an enum that has a text form.
macro_rules! text {
    ($name:ident) => {
        impl ToWire<String> for $name {
            fn to_wire(&self) -> String {
                self.as_str().to_owned()
            }
        }
        impl FromWire<String> for $name {
            fn from_wire(wire: String) -> Result<Self, CodecError> {
                Ok($name::from(wire.as_str()))
            }
        }
        #[cfg(test)]
        impl $crate::codec::sample::Sample for $name {
            fn sample(sampler: &mut $crate::codec::sample::Sampler) -> Self {
                let text: String = $crate::codec::sample::Sample::sample(sampler);
                $name::from(text.as_str())
            }
        }
    };
}
pub(crate) use text;
