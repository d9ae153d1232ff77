//! The primitive bytes.

use proptest::prelude::*;

use super::*;

fn varint(value: u64) -> Vec<u8> {
    let mut w = Writer::default();
    w.varint(value);
    w.into_bytes()
}

proptest! {
    #[test]
    fn prop_numbers_come_back(narrow: u64, wide: u128, signed: i128, base: u64, shift in 0_u32..128) {
        let (narrow, wide, signed) = (narrow >> (shift % 64), wide >> shift, signed >> shift);
        let mut w = Writer::default();
        w.varint(narrow);
        w.varint_wide(wide);
        signed.put(&mut w);
        w.delta(base, narrow);
        let mut r = Reader::new(w.bytes());
        prop_assert_eq!(r.varint(), Ok(narrow));
        prop_assert_eq!(r.varint_wide(), Ok(wide));
        prop_assert_eq!(i128::get(&mut r), Ok(signed));
        prop_assert_eq!(r.delta(base), Ok(narrow));
        prop_assert_eq!(r.finish(), Ok(()));
    }

    /// Whatever bytes are taken for a number, writing that number gives the same bytes: one encoding alone.
    #[test]
    fn prop_numbers_have_one_encoding(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut r = Reader::new(&bytes);
        if let Ok(value) = r.varint() {
            prop_assert_eq!(&varint(value)[..], &bytes[..bytes.len() - r.left()]);
        }
    }
}

#[test]
fn the_greatest_numbers_come_back() {
    assert_eq!(Reader::new(&varint(u64::MAX)).varint(), Ok(u64::MAX));
    let mut w = Writer::default();
    w.varint_wide(u128::MAX);
    assert_eq!(Reader::new(w.bytes()).varint_wide(), Ok(u128::MAX));
}

#[test]
fn numbers_too_long_or_too_large_are_refused() {
    assert!(Reader::new(&[0x80, 0x00]).varint().is_err());
    assert!(Reader::new(&[0xff; 9]).varint().is_err());
    assert!(Reader::new(&[0xff; 11]).varint().is_err());
    assert!(Reader::new(&[0xff; 30]).varint_wide().is_err());
    let mut over = vec![0xff; 9];
    over.push(2);
    assert!(Reader::new(&over).varint().is_err());
}

#[test]
fn a_text_is_bounded_before_it_is_taken() {
    let mut w = Writer::default();
    w.varint(u64::MAX);
    assert!(Reader::new(w.bytes()).text().is_err());
    let mut w = Writer::default();
    w.varint(300);
    w.raw(&[b'a'; 300]);
    assert!(Reader::new(w.bytes()).text().is_err());
    assert!(Reader::new(&[2, 0xc3, 0x28]).text().is_err());
}
