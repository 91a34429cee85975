use super::*;

const NOTHING: &[(&str, &str)] = &[];
const VIEW: &[(&str, &str)] = &[("scope", "view")];

#[test]
fn tells_label_and_attributes_apart() {
    for (rest, label, attributes) in [
        ("", None, NOTHING),
        (" \t", None, NOTHING),
        ("alice", Some("alice"), NOTHING),
        ("alice's laptop", Some("alice's laptop"), NOTHING),
        ("scope=view", None, VIEW),
        ("\tscope=view ", None, VIEW),
        ("alice scope=view", Some("alice"), VIEW),
        ("alice \t scope=view\t", Some("alice"), VIEW),
        ("a scope=view  user=bob", Some("a"), &[("scope", "view"), ("user", "bob")]),
        ("a scope=view\tscope=run", Some("a"), &[("scope", "view"), ("scope", "run")]),
        ("a scope=", Some("a"), &[("scope", "")]),
        ("a x=1=2", Some("a"), &[("x", "1=2")]),
        ("a \u{455}\u{441}ope=view", Some("a"), &[("\u{455}\u{441}ope", "view")]),
        ("a \u{ff53}cope=view", Some("a"), &[("\u{ff53}cope", "view")]),
        ("# scope=view", Some("#"), VIEW),
        // In quotes.
        ("\"alice\"", Some("alice"), NOTHING),
        ("\"alice scope=view\"", Some("alice scope=view"), NOTHING),
        ("\"scope=view\"", Some("scope=view"), NOTHING),
        ("\"a -scope=view\" scope=view", Some("a -scope=view"), VIEW),
        ("\"a b=c\"\tscope=view", Some("a b=c"), VIEW),
        ("\" a \" scope=view", Some("a"), VIEW),
        ("\"\" scope=view", None, VIEW),
        // As before there were attributes.
        ("\"alice", Some("\"alice"), NOTHING),
        ("\"", Some("\""), NOTHING),
        ("\"a\" b", Some("\"a\" b"), NOTHING),
        ("\"a\"b", Some("\"a\"b"), NOTHING),
        ("12\" screen scope=view", Some("12\" screen"), VIEW),
        ("a \"b\" c", Some("a \"b\" c"), NOTHING),
        ("a #3 (x-1=y) v1.2=3 sc0pe=view", Some("a #3 (x-1=y) v1.2=3 sc0pe=view"), NOTHING),
        ("http://host/?a=b", Some("http://host/?a=b"), NOTHING),
        ("scope view", Some("scope view"), NOTHING),
        ("caf\u{e9} \u{2013} r\u{e9}seau", Some("caf\u{e9} \u{2013} r\u{e9}seau"), NOTHING),
        ("\u{ff21}\u{ff1d}\u{ff22}", Some("\u{ff21}\u{ff1d}\u{ff22}"), NOTHING),
    ] {
        assert_eq!(split(rest), Ok(Words { label, attributes: attributes.to_vec() }), "{rest}");
    }
}

#[test]
fn nothing_that_was_meant_as_an_attribute_is_part_of_a_label() {
    let (begins, looks, space) =
        ("a word begins with `=`", "a word looks like the attribute", "an attribute is next to");
    let (none, open, inside) = ("a word after the attributes", "the double quote before", "a label in double quotes");
    for (rest, expected) in [
        ("scope =view", begins),
        ("a scope = view", begins),
        ("a =", begins),
        ("a \u{ff1d}view", begins),
        ("a -scope=view", looks),
        ("a --scope=view", looks),
        ("a \"scope=view\"", looks),
        ("a 'scope=view'", looks),
        ("a \u{201c}scope=view\u{201d}", looks),
        ("a [scope=view]", looks),
        ("a,scope=view", looks),
        ("a;SCOPE=view", looks),
        ("a scope\u{ff1d}view", looks),
        ("a \u{ff33}\u{ff23}\u{ff2f}\u{ff30}\u{ff25}\u{ff1d}view", looks),
        ("a sco\u{301}pe=view", looks),
        ("a s-c-o-p-e=view", looks),
        ("a s-c-o-p-e=view=run", looks),
        ("a \u{200b}scope=view", looks),
        ("a\u{200b}scope=view", looks),
        ("a expires_at=2027-01-31", looks),
        ("a x-prompts=60/h", looks),
        ("a 1=2;scope=view", looks),
        ("a scope\u{a78a}view", looks),
        ("a\u{a0}scope=view", space),
        ("a \u{a0}scope=view", space),
        ("a\u{3000}scope=view", space),
        ("\u{2028}scope=view", space),
        ("a scope=view\u{a0}user=bob", space),
        ("a scope=view, run", none),
        ("a scope=view b", none),
        ("a scope=view # for now", none),
        ("a scope=view -user=bob", looks),
        ("scope=view \"a\"", none),
        ("scope=view \"a b=c\"", none),
        ("\"a\" b scope=view", none),
        ("\"a\" scope=view b", none),
        ("\"a b=c\" d", none),
        ("\"a\" -scope=view", looks),
        ("\"a scope=view", open),
        ("\"scope=view", open),
        ("\"a -scope=view", open),
        ("\"a\"s\" scope=view", inside),
        ("\"a\\\"s\" scope=view", inside),
        ("\"a\"scope=view", inside),
    ] {
        let fault = split(rest).unwrap_err();
        assert!(fault.starts_with(expected), "{rest}: {fault}");
        assert!(fault.contains("; "), "{rest}: no remedy in {fault}");
    }
}

#[test]
fn a_key_is_told_from_an_attribute() {
    for (word, expected) in [
        ("scope=view", true),
        ("Scope=view", true),
        ("role=admin", true),
        ("abcdefgh==", true),
        ("-scope=view", true),
        ("\"scope=view\"", true),
        ("--expires=never", true),
        ("scope", false),
        ("=scope", false),
        ("a1b2c3==", false),
        ("/uZ9user=", false),
        ("sha256:abc", false),
    ] {
        assert_eq!(is_attribute(word), expected, "{word}");
    }
}
