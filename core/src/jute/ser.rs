//! Writing records.

use alloc::vec::Vec;
use core::fmt;

use serde::ser::{self, Impossible, Serialize, Serializer};

/// Encodes one record.
#[must_use]
pub fn to_vec<T: Serialize + ?Sized>(record: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    append(&mut out, record);
    out
}

/// Encodes one record at the end of `out`.
///
/// # Panics
/// If the record's type has no Jute encoding (a map, a float): a mistake in this crate, not in
/// data.
pub fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, record: &T) {
    record
        .serialize(Writer { out })
        .expect("every record of `wire` is made of Jute types");
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

/// A type that Jute does not have, or a length over 2^31 - 1.
#[derive(Debug)]
struct Unsupported(&'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be encoded in Jute", self.0)
    }
}

impl ser::Error for Unsupported {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self("a value")
    }
}

impl core::error::Error for Unsupported {}

impl Writer<'_> {
    fn length(&mut self, length: usize) -> Result<(), Unsupported> {
        let length = i32::try_from(length).map_err(|_| Unsupported("a length over 2^31 - 1"))?;
        self.out.extend_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

macro_rules! unsupported {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $method(self, $($arg: $type),*) -> Result<(), Unsupported> {
            $(let _ = $arg;)*
            Err(Unsupported(stringify!($method)))
        })*
    };
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Impossible<(), Unsupported>;
    type SerializeMap = Impossible<(), Unsupported>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Unsupported>;

    fn serialize_bool(self, value: bool) -> Result<(), Unsupported> {
        self.out.push(u8::from(value));
        Ok(())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Unsupported> {
        self.out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Unsupported> {
        self.out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Unsupported> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(mut self, value: &[u8]) -> Result<(), Unsupported> {
        self.length(value.len())?;
        self.out.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unsupported> {
        self.serialize_i32(-1)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unsupported> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unsupported> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_seq(mut self, length: Option<usize>) -> Result<Self, Unsupported> {
        self.length(length.ok_or(Unsupported("a sequence of unknown length"))?)?;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Unsupported> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Unsupported> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Unsupported> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unsupported> {
        Err(Unsupported("an enum"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unsupported> {
        Err(Unsupported("a map"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unsupported> {
        Err(Unsupported("an enum"))
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), Unsupported> {
        Err(Unsupported("an enum"))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unsupported> {
        Err(Unsupported("an enum"))
    }

    unsupported! {
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident($($key:ty)?);)*) => {
        $(impl ser::$trait for Writer<'_> {
            type Ok = ();
            type Error = Unsupported;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $(_: $key,)?
                value: &T,
            ) -> Result<(), Unsupported> {
                value.serialize(Writer { out: self.out })
            }

            fn end(self) -> Result<(), Unsupported> {
                Ok(())
            }
        })*
    };
}

elements! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeStruct::serialize_field(&'static str);
}
