use super::*;

#[test]
fn finds_every_key_under_both_names() {
    for (query, expected) in [
        ("", vec![]),
        ("api_key=", vec![]),
        ("api_key", vec![]),
        ("api_key=K", vec!["K"]),
        ("token=K", vec!["K"]),
        ("a=1&token=T&api_key=K&b", vec!["T", "K"]),
        ("api_key=a%2Bb", vec!["a+b"]),
        ("api_key=a+b/c=", vec!["a+b/c="]),
        ("api_key=a%20b", vec!["a+b"]),
        ("%61pi_key=K", vec!["K"]),
        ("api_key[]=K&API_KEY=K&xapi_key=K", vec![]),
    ] {
        let found: Vec<_> = parse(query).map(|plain| plain.expose_secret().to_owned()).collect();
        assert_eq!(found, expected, "{query:?}");
    }
}

#[test]
fn leaves_the_rest_of_the_query_as_it_was() {
    assert_eq!(without_credentials("a=%20&api_key=K&b=1+2&%74oken=T"), "a=%20&b=1+2");
    assert_eq!(without_credentials("token=T"), "");
}
