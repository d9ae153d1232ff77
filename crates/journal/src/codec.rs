//! The primitive bytes, and the macros in which the formats of structs and enums are written down.

mod command;
mod config;
mod event;
mod record;

pub(crate) use command::{get_command, put_command};

use units::{
    AccountId, Amount, AssetId, Balance, CommandId, Hash32, MarketId, OrderId, PriceTicks,
    QuantityLots, RatePpm, ReferenceHash, Sequence, Time, TradeId,
};

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct BadBytes {
    /// What is wrong.
    pub what: &'static str,
    /// Where, counted from the first byte (of the decompressed bytes, where they were compressed).
    pub at: usize,
}

/// The longest text, in bytes. Symbols are at most a few dozen; an action that carries a longer one is no message.
pub(crate) const TEXT_BYTES_MAX: usize = 256;

/// Collects bytes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn u8(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            let [low, ..] = value.to_le_bytes();
            self.bytes.push(low | 0x80);
            value >>= 7;
        }
        let [low, ..] = value.to_le_bytes();
        self.bytes.push(low);
    }

    pub(crate) fn varint_wide(&mut self, mut value: u128) {
        while value >= 0x80 {
            let [low, ..] = value.to_le_bytes();
            self.bytes.push(low | 0x80);
            value >>= 7;
        }
        let [low, ..] = value.to_le_bytes();
        self.bytes.push(low);
    }

    /// Writes `value` as its distance from `base`, which is short where they are close.
    pub(crate) fn delta(&mut self, base: u64, value: u64) {
        let distance = value.wrapping_sub(base).cast_signed();
        self.varint((distance << 1 ^ distance >> 63).cast_unsigned());
    }
}

/// Takes bytes from a slice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, length: bytes.len() }
    }

    /// Returns an error about the byte that comes next.
    #[cold]
    pub(crate) fn bad(&self, what: &'static str) -> BadBytes {
        BadBytes { what, at: self.length.saturating_sub(self.rest.len()) }
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// When bytes are left over.
    pub(crate) fn finish(self) -> Result<(), BadBytes> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.bad("bytes left over")) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, BadBytes> {
        match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                Ok(byte)
            }
            None => Err(self.bad("cut short")),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadBytes> {
        match self.rest.split_first_chunk::<N>() {
            Some((chunk, rest)) => {
                self.rest = rest;
                Ok(*chunk)
            }
            None => Err(self.bad("cut short")),
        }
    }

    pub(crate) fn varint(&mut self) -> Result<u64, BadBytes> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..=63).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has one bit to give.
            if shift == 63 && byte > 1 {
                return Err(self.bad("a number beyond 64 bits"));
            }
            value |= part << shift;
            if byte < 0x80 {
                return if byte == 0 {
                    Err(self.bad("a number in too many bytes"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(self.bad("a number beyond 64 bits"))
    }

    pub(crate) fn varint_wide(&mut self) -> Result<u128, BadBytes> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u128::from(first));
        }
        let mut value = u128::from(first & 0x7f);
        for shift in (7..=126).step_by(7) {
            let byte = self.u8()?;
            let part = u128::from(byte & 0x7f);
            // The nineteenth byte has two bits to give.
            if shift == 126 && byte > 3 {
                return Err(self.bad("a number beyond 128 bits"));
            }
            value |= part << shift;
            if byte < 0x80 {
                return if byte == 0 {
                    Err(self.bad("a number in too many bytes"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(self.bad("a number beyond 128 bits"))
    }

    pub(crate) fn delta(&mut self, base: u64) -> Result<u64, BadBytes> {
        let zigzag = self.varint()?;
        let distance = (zigzag >> 1).cast_signed() ^ (zigzag & 1).cast_signed().wrapping_neg();
        Ok(base.wrapping_add(distance.cast_unsigned()))
    }

    /// Reads how many items follow, each of at least `bytes_min` bytes.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, BadBytes> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count.saturating_mul(bytes_min) > self.left() {
            return Err(self.bad("more items than bytes"));
        }
        Ok(count)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, BadBytes> {
        let length = self.count(1)?;
        if length > TEXT_BYTES_MAX {
            return Err(self.bad("a text beyond its limit"));
        }
        let Some((text, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.bad("cut short"));
        };
        let Ok(text) = core::str::from_utf8(text) else {
            return Err(self.bad("a text that is not UTF-8"));
        };
        self.rest = rest;
        Ok(text)
    }
}

/// A value with one encoding.
pub(crate) trait Code: Sized {
    /// Writes it.
    fn put(&self, w: &mut Writer);
    /// Reads one.
    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes>;
}

impl Code for bool {
    fn put(&self, w: &mut Writer) {
        w.u8(u8::from(*self));
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        match r.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(r.bad("neither yes nor no")),
        }
    }
}

impl Code for u8 {
    fn put(&self, w: &mut Writer) {
        w.u8(*self);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        r.u8()
    }
}

impl Code for u32 {
    fn put(&self, w: &mut Writer) {
        w.varint(u64::from(*self));
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        Self::try_from(r.varint()?).map_err(|_| r.bad("a number beyond 32 bits"))
    }
}

impl Code for u64 {
    fn put(&self, w: &mut Writer) {
        w.varint(*self);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        r.varint()
    }
}

impl Code for u128 {
    fn put(&self, w: &mut Writer) {
        w.varint_wide(*self);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        r.varint_wide()
    }
}

impl Code for i128 {
    fn put(&self, w: &mut Writer) {
        w.varint_wide((*self << 1 ^ *self >> 127).cast_unsigned());
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let zigzag = r.varint_wide()?;
        Ok((zigzag >> 1).cast_signed() ^ (zigzag & 1).cast_signed().wrapping_neg())
    }
}

impl Code for Box<str> {
    fn put(&self, w: &mut Writer) {
        assert!(self.len() <= TEXT_BYTES_MAX, "a text in a command fits its limit");
        w.varint(u64::try_from(self.len()).expect("a length fits 64 bits"));
        w.raw(self.as_bytes());
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        r.text().map(Into::into)
    }
}

impl<T: Code> Code for Option<T> {
    fn put(&self, w: &mut Writer) {
        self.is_some().put(w);
        if let Some(value) = self {
            value.put(w);
        }
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        if bool::get(r)? { T::get(r).map(Some) } else { Ok(None) }
    }
}

/// Numbers in a coat: written as varints.
macro_rules! coats {
    ($($name:ident: $int:ty, $new:ident, $plain:ident;)*) => {$(
        impl Code for $name {
            fn put(&self, w: &mut Writer) {
                <$int>::put(&self.$plain(), w);
            }

            fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
                <$int>::get(r).map(Self::$new)
            }
        }
    )*};
}

coats! {
    AccountId: u64, new, get;
    OrderId: u64, new, get;
    TradeId: u64, new, get;
    Sequence: u64, new, get;
    Amount: u128, new, get;
    QuantityLots: u64, new, get;
    RatePpm: u32, new, get;
    Time: u64, from_micros, micros;
}

/// Sixteen bits in a coat.
macro_rules! short_coats {
    ($($name:ident)*) => {$(
        impl Code for $name {
            fn put(&self, w: &mut Writer) {
                w.varint(u64::from(self.get()));
            }

            fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
                u16::try_from(r.varint()?).map(Self::new).map_err(|_| r.bad("an id beyond 16 bits"))
            }
        }
    )*};
}

short_coats! { AssetId MarketId }

/// Random numbers, which no varint makes shorter.
macro_rules! fixed_coats {
    ($($name:ident)*) => {$(
        impl Code for $name {
            fn put(&self, w: &mut Writer) {
                w.raw(&self.get().to_be_bytes());
            }

            fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
                r.array().map(u128::from_be_bytes).map(Self::new)
            }
        }
    )*};
}

fixed_coats! { CommandId ReferenceHash }

impl Code for Hash32 {
    fn put(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        r.array().map(Self)
    }
}

impl Code for PriceTicks {
    fn put(&self, w: &mut Writer) {
        w.varint(self.get());
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        Self::new(r.varint()?).ok_or_else(|| r.bad("a price of zero"))
    }
}

/// Writes down a struct's format: its fields in the order of their bytes.
macro_rules! fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::codec::Code for $name {
            fn put(&self, w: &mut $crate::codec::Writer) {
                let Self { $($field),* } = self;
                $($crate::codec::Code::put($field, w);)*
            }

            fn get(r: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::BadBytes> {
                Ok(Self { $($field: $crate::codec::Code::get(r)?),* })
            }
        }
    };
}

/// Writes down an enum's format: each variant's number, then its fields in the order of their bytes.
macro_rules! variants {
    ($name:ident, $unknown:literal {
        $($number:literal => $variant:ident $(($inner:ident))? $({ $($field:ident),* $(,)? })?,)*
    }) => {
        impl $crate::codec::Code for $name {
            fn put(&self, w: &mut $crate::codec::Writer) {
                match self {
                    $(Self::$variant $(($inner))? $({ $($field),* })? => {
                        w.u8($number);
                        $($crate::codec::Code::put($inner, w);)?
                        $($($crate::codec::Code::put($field, w);)*)?
                    })*
                }
            }

            fn get(r: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::BadBytes> {
                match r.u8()? {
                    $($number => Ok(Self::$variant
                        $(({ let $inner = $crate::codec::Code::get(r)?; $inner }))?
                        $({ $($field: $crate::codec::Code::get(r)?),* })?
                    ),)*
                    _ => Err(r.bad($unknown)),
                }
            }
        }
    };
}

pub(crate) use {fields, variants};

fields!(Balance { available, held });

#[cfg(test)]
mod tests;
