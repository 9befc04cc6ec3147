//! The bodies of records.
//!
//! A body is a tag byte and fields in the order in which the types declare them. Integers are LEB128 varints, an
//! absent option is 0 and a present one its value plus one, a text is its length and UTF-8. An interned text (topic,
//! filter, client id, name of a group or fault) is 0 and the text where it is new, and from then on its number,
//! counted from 1. Texts longer than 256 bytes and those behind the first 65,536 are written out each time, so that a
//! reader's memory has a bound. A time is the zigzag difference to the event before.

mod decode;
mod encode;
mod tags;

pub(super) use decode::{Decoder, Record};
pub(super) use encode::{Encoder, put_varint};

/// Longer texts are not interned.
const INTERNED_LEN_MAX: usize = 256;
/// Nor are those that come when the table is full.
const INTERNED_MAX: usize = 1 << 16;
