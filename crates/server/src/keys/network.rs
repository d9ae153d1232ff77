//! Networks that a key may be used from: an address, or such as `192.0.2.0/24`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    base: IpAddr,
    bits: u8,
}

fn number(address: IpAddr) -> (u128, u8) {
    match address {
        // In the upper bits, so that prefixes of both kinds are cut alike.
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

fn cut(number: u128, bits: u8) -> u128 {
    if bits == 0 { 0 } else { number >> (128 - u32::from(bits)) }
}

impl Network {
    /// Tells whether an address is in it.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let ((own, _), (other, _)) = (number(self.base), number(address));
        self.base.is_ipv4() == address.is_ipv4() && cut(own, self.bits) == cut(other, self.bits)
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| ())?;
        // An address of IPv4 in IPv6's clothes would never be met: callers are told apart by their own.
        if base.to_canonical() != base {
            return Err(());
        }
        let (value, whole) = number(base);
        let bits = match bits {
            None => whole,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= whole).ok_or(())?
            }
            Some(_) => return Err(()),
        };
        // Bits beyond the prefix are a typing error: which of the two was meant cannot be told.
        let host = u32::from(whole - bits);
        let shifted = value >> (128 - u32::from(whole));
        let rest = 1_u128.checked_shl(host).map_or(u128::MAX, |bit| bit - 1);
        let clean = shifted & rest == 0;
        if clean { Ok(Self { base, bits }) } else { Err(()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        let has = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(has("192.0.2.0/24", "192.0.2.255"));
        assert!(has("192.0.2.0/24", "::ffff:192.0.2.7"));
        assert!(!has("192.0.2.0/24", "192.0.3.0"));
        assert!(has("192.0.2.1", "192.0.2.1") && !has("192.0.2.1", "192.0.2.2"));
        assert!(has("0.0.0.0/0", "198.51.100.1") && !has("0.0.0.0/0", "::1"));
        assert!(has("::/0", "2001:db8::1") && !has("::/0", "10.0.0.1"));
        assert!(has("2001:db8::/32", "2001:db8:ffff::1") && !has("2001:db8::/32", "2001:db9::"));
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("::1".parse::<Network>().unwrap().to_string(), "::1/128");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "::/129",
            "2001:db8::1/32",
            "::ffff:10.0.0.0/104",
            "localhost",
            "10.0.0.0/0008",
            "1.2.3.4/0",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
