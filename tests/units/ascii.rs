use super::*;

#[test]
fn every_byte_in_every_place() {
    for length in 0..40 {
        assert!(is_graphic_but(&vec![b'a'; length], b'%'));
        for at in 0..length {
            for byte in 0..=255 {
                let mut bytes = vec![b'~'; length];
                bytes[at] = byte;
                let expected = byte.is_ascii_graphic() && byte != b'%';
                assert_eq!(is_graphic_but(&bytes, b'%'), expected, "{byte:#x} at {at} of {length}");
                bytes[length - 1 - at] = b'!';
                bytes[at] = byte;
                assert_eq!(is_graphic_but(&bytes, 0x7f), byte.is_ascii_graphic(), "{byte:#x} at {at} of {length}");
            }
        }
    }
}
