use super::*;

#[test]
fn never_prints_itself() {
    let key = ApiKey::new("canary".into());
    let digest = Digest::of(b"canary");
    assert_eq!(format!("{key:?} {digest:?}"), "ApiKey([redacted]) Digest([redacted])");
}

#[test]
fn hashes_with_sha_256() {
    // FIPS 180-2, appendix B.1.
    let expected: [u8; 4] = [0xba, 0x78, 0x16, 0xbf];
    assert_eq!(Digest::of(b"abc").expose_secret()[..4], expected);
}

#[test]
fn generates_256_bits_url_safe_and_different_each_time() {
    let (first, second) = (generate_key(), generate_key());
    assert_eq!(first.len(), 43);
    assert!(first.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    assert_ne!(*first, *second);
}
