//! Tables of Docker's reference grammar, and the round trip through the short form.

use proptest::prelude::*;

use super::{ParseError, Reference};

const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn parse(text: &str) -> Result<Reference, ParseError> {
    text.parse()
}

#[test]
fn names_are_normalized_and_shown_short() {
    let long_path = format!("docker.io/library/web@sha256:{HEX}");
    let with_digest = format!("web@sha256:{HEX}");
    // (input, canonical, shown)
    let table = [
        ("web", "docker.io/library/web", "web"),
        ("web:1.2", "docker.io/library/web:1.2", "web:1.2"),
        ("docker.io/web", "docker.io/library/web", "web"),
        ("index.docker.io/web:a", "docker.io/library/web:a", "web:a"),
        ("library/web", "docker.io/library/web", "web"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("team/web", "docker.io/team/web", "team/web"),
        ("localhost/web", "localhost/web", "localhost/web"),
        (
            "localhost:5000/a/b:c",
            "localhost:5000/a/b:c",
            "localhost:5000/a/b:c",
        ),
        ("HOST/web", "HOST/web", "HOST/web"),
        ("ghcr.io/a/b", "ghcr.io/a/b", "ghcr.io/a/b"),
        ("[::1]:5000/web", "[::1]:5000/web", "[::1]:5000/web"),
        ("[fe80::1]/web", "[fe80::1]/web", "[fe80::1]/web"),
        ("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c"),
        (
            "a__b-----c.d_e",
            "docker.io/library/a__b-----c.d_e",
            "a__b-----c.d_e",
        ),
        ("web:_x.-Y", "docker.io/library/web:_x.-Y", "web:_x.-Y"),
        (&with_digest, &long_path, &with_digest),
    ];
    for (input, canonical, shown) in table {
        let reference = parse(input).unwrap_or_else(|e| panic!("{input}: {e}"));
        assert_eq!(reference.canonical(), canonical, "{input}");
        assert_eq!(reference.to_string(), shown, "{input}");
    }
}

#[test]
fn wrong_names_say_what_is_wrong() {
    let too_long = format!("{}/web", "a".repeat(260));
    let long_tag = format!("web:{}", "a".repeat(129));
    let short_digest = format!("web@sha256:{}", &HEX[1..]);
    let upper_digest = format!("web@sha256:{}", HEX.to_uppercase());
    let table = [
        ("", ParseError::Empty),
        (HEX, ParseError::LooksLikeId),
        ("Web", ParseError::Uppercase),
        ("team/Web", ParseError::Uppercase),
        (":tag", ParseError::BadPath),
        ("/web", ParseError::BadPath),
        ("web/", ParseError::BadPath),
        ("a//b", ParseError::BadPath),
        ("-web", ParseError::BadPath),
        ("web-", ParseError::BadPath),
        ("a..b", ParseError::BadPath),
        ("a___b", ParseError::BadPath),
        ("a._b", ParseError::BadPath),
        ("wéb", ParseError::BadPath),
        ("we b", ParseError::BadPath),
        ("-h.io/web", ParseError::BadDomain),
        ("h..io/web", ParseError::BadDomain),
        ("h.io:/web", ParseError::BadDomain),
        ("h.io:5a/web", ParseError::BadDomain),
        ("[::1/web", ParseError::BadDomain),
        ("[::1]x/web", ParseError::BadDomain),
        ("web:", ParseError::BadTag),
        ("web:.a", ParseError::BadTag),
        ("web:a b", ParseError::BadTag),
        ("web:a:b", ParseError::BadTag),
        (&long_tag, ParseError::BadTag),
        (&too_long, ParseError::TooLong),
        ("web@", ParseError::BadDigest),
        ("web@md5:abc", ParseError::BadDigest),
        (&short_digest, ParseError::BadDigest),
        (&upper_digest, ParseError::BadDigest),
    ];
    for (input, expected) in table {
        assert_eq!(parse(input), Err(expected), "{input}");
    }
}

#[test]
fn only_a_bare_name_gets_the_default_tag() {
    let digest = format!("web@sha256:{HEX}");
    let table = [
        ("web", "web:latest"),
        ("web:1", "web:1"),
        (digest.as_str(), digest.as_str()),
    ];
    for (input, expected) in table {
        let shown = parse(input).map(|r| r.with_default_tag().to_string());
        assert_eq!(shown.as_deref(), Ok(expected));
    }
}

proptest! {
    #[test]
    fn what_is_shown_parses_to_the_same(
        domain in prop_oneof![
            Just(String::new()),
            "[a-z0-9]{1,8}(\\.[a-z0-9]{1,5}){0,2}(:[0-9]{1,5})?/",
            "localhost/",
            "docker\\.io/",
        ],
        path in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}(\\.[a-z0-9]{1,3})?){0,3}",
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        digest in proptest::option::of("[0-9a-f]{64}"),
    ) {
        // A first component with a dot would be read as the registry.
        let first = path.split('/').next().unwrap_or_default();
        let is_read_as_domain = domain.is_empty() && path.contains('/') && first.contains('.');
        let domain = if is_read_as_domain { "docker.io/".to_owned() } else { domain };
        let mut text = format!("{domain}{path}");
        if let Some(tag) = tag { text.push(':'); text.push_str(&tag); }
        if let Some(digest) = digest { text.push_str("@sha256:"); text.push_str(&digest); }
        let reference = parse(&text).expect("made by the grammar");
        prop_assert_eq!(parse(&reference.to_string()), Ok(reference.clone()));
        prop_assert_eq!(parse(&reference.canonical()), Ok(reference));
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,40}") {
        if let Ok(reference) = parse(&text) {
            prop_assert_eq!(parse(&reference.to_string()), Ok(reference));
        }
    }
}
