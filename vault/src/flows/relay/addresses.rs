//! Which addresses are public: everything that is not is refused, in every form in which it can be written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// True for an address of the public internet (IANA special-purpose registries, RFC 6890 and its updates).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, _, _) => true,                             // this network, private, loopback
        (100, 64..=127, _) => true,                               // shared by carriers (CGNAT), and Alibaba's metadata
        (169, 254, _) => true,                                    // link-local, and the clouds' metadata
        (172, 16..=31, _) | (192, 168, _) => true,                // private
        (192, 0, 0 | 2) => true,                                  // IETF protocols, documentation
        (192, 31, 196) | (192, 52, 193) | (192, 175, 48) => true, // AS112, AMT
        (192, 88, 99) => true,                                    // 6to4 relays
        (198, 18 | 19, _) => true,                                // benchmarks
        (198, 51, 100) | (203, 0, 113) => true,                   // documentation
        (224.., _, _) => true,                                    // multicast, reserved, broadcast
        _ => address == Ipv4Addr::new(168, 63, 129, 16),          // Azure's platform address
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    // Only 2000::/3 is given out; that leaves out ::, ::1, v4-mapped and -compatible, NAT64 (64:ff9b::/96 and
    // 64:ff9b:1::/48), discard, unique local, link-local, site-local and multicast at once.
    let given_out = s[0] & 0xe000 == 0x2000;
    let special = match s {
        [0x2001, 0x0000..=0x01ff, ..] => true, // IETF protocols: Teredo, benchmarks, ORCHID
        [0x2001, 0x0db8, ..] => true,          // documentation
        [0x2002, ..] => true,                  // 6to4 embeds an IPv4 address
        [0x3fff, 0x0000..=0x0fff, ..] => true, // documentation
        [0x2620, 0x004f, 0x8000, ..] => true,  // AS112
        // ISATAP embeds an IPv4 address behind this interface id under any prefix (RFC 5214 section 6.1).
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, ..] => true,
        _ => false,
    };
    given_out && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254 \
        168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 \
        192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 \
        255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:169.254.169.254 \
        64:ff9b::8.8.8.8 64:ff9b::a9fe:a9fe 64:ff9b:1::7f00:1 100::1 2001::1 2001:0:7f00:1:: 2001:2::1 \
        2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1 3fff::1 2606:4700::5efe:10.0.0.1 \
        2606:4700::200:5efe:8.8.8.8 fc00::1 fd00:ec2::254 fe80::1 fe80::5efe:10.0.0.1 fec0::1 ff02::1 \
        5f00::1";

    const PUBLIC: &str = "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 \
        223.255.255.255 2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450::1";

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_form() {
        for text in REFUSED.split_whitespace() {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in PUBLIC.split_whitespace() {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
