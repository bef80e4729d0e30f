//! What is and is not a join token.

use std::sync::LazyLock;

use proptest::prelude::*;
use types::Timestamp;

use super::*;
use crate::RootCa;

static BUNDLE: LazyLock<RootBundle> =
    LazyLock::new(|| RootCa::generate(Timestamp::now()).unwrap().bundle().clone());

fn token(secret: [u8; 16]) -> JoinToken {
    JoinToken::new(&BUNDLE, secret)
}

#[test]
fn text_has_the_form_that_swarm_writes() {
    // Worked out with Python's big integers: SHA-256 of "abc", and the number 1.
    let digest: [u8; 32] = digest(b"abc");
    let mut secret = Zeroizing::new([0; 16]);
    secret[15] = 1;
    let token = JoinToken { digest, secret };
    assert_eq!(
        *token.reveal(),
        "SWMTKN-1-4nb7oofka9ml8nasnokxxc1unhmtpr1wxsuwhpd9km3vt5as31-0000000000000000000000001"
    );
    assert_eq!(token.reveal().len(), TOKEN_LEN);
    assert_eq!(TOKEN_LEN, 85);
}

#[test]
fn the_largest_numbers_fit_and_larger_ones_do_not() {
    let largest = JoinToken {
        digest: [0xff; 32],
        secret: Zeroizing::new([0xff; 16]),
    };
    let text = largest.reveal().to_string();
    assert_eq!(text.parse::<JoinToken>(), Ok(largest));
    let z50 = "z".repeat(DIGEST_LEN);
    let z25 = "z".repeat(SECRET_LEN);
    let zeros = "0".repeat(DIGEST_LEN);
    let too_large = |text: String| text.parse::<JoinToken>().unwrap_err();
    assert_eq!(
        too_large(format!("SWMTKN-1-{z50}-{}", "0".repeat(SECRET_LEN))),
        TokenError::OutOfRange { part: "digest" }
    );
    assert_eq!(
        too_large(format!("SWMTKN-1-{zeros}-{z25}")),
        TokenError::OutOfRange { part: "secret" }
    );
}

#[test]
fn a_wrong_beginning_is_said_precisely() {
    use TokenError::*;
    let (digest, secret) = ("a".repeat(DIGEST_LEN), "b".repeat(SECRET_LEN));
    refuse_all(vec![
        (String::new(), Empty),
        (" ".into(), WrongPrefix),
        ("hello".into(), WrongPrefix),
        (format!("swmtkn-1-{digest}-{secret}"), WrongPrefix),
        (format!(" SWMTKN-1-{digest}-{secret}"), WrongPrefix),
        ("SWMKEY-1-abc".into(), UnlockKey),
        (
            format!("SWMTKN-2-1-{digest}-{secret}"),
            UnsupportedVersion("2".into()),
        ),
        (
            format!("SWMTKN-{digest}-{secret}"),
            UnsupportedVersion("aaaaaaaa".into()),
        ),
        ("SWM".into(), Truncated { found: 3 }),
        ("SWMTKN".into(), Truncated { found: 6 }),
        ("SWMTKN-".into(), Truncated { found: 7 }),
        ("SWMTKN-1".into(), Truncated { found: 8 }),
        ("SWMTKN-1-".into(), Truncated { found: 9 }),
    ]);
}

#[test]
fn a_wrong_number_is_said_precisely() {
    use TokenError::*;
    let (digest, secret) = ("a".repeat(DIGEST_LEN), "b".repeat(SECRET_LEN));
    refuse_all(vec![
        (format!("SWMTKN-1-{digest}"), Truncated { found: 59 }),
        (format!("SWMTKN-1-{digest}-"), Truncated { found: 60 }),
        (
            format!("SWMTKN-1-{digest}-{}", &secret[1..]),
            Truncated { found: 84 },
        ),
        (
            format!("SWMTKN-1-{digest}-{secret}c"),
            TooLong { found: 86 },
        ),
        (
            format!("SWMTKN-1-{digest}-{secret}\n"),
            BadCharacter {
                at: 86,
                found: '\n',
            },
        ),
        (
            format!("SWMTKN-1-A{}-{secret}", &digest[1..]),
            BadCharacter { at: 10, found: 'A' },
        ),
        (
            format!("SWMTKN-1-{digest}-é{}", &secret[1..]),
            BadCharacter {
                at: 61, found: 'é'
            },
        ),
        (
            format!("SWMTKN-1-{digest}-b-{}", &secret[2..]),
            BadCharacter { at: 62, found: '-' },
        ),
        (
            format!("SWMTKN-1-{}-{secret}", &digest[1..]),
            PartLength {
                part: "digest",
                found: 49,
                expected: 50,
            },
        ),
        (
            format!("SWMTKN-1-{digest}{secret}"),
            PartLength {
                part: "digest",
                found: 75,
                expected: 50,
            },
        ),
    ]);
}

fn refuse_all(cases: Vec<(String, TokenError)>) {
    for (text, expected) in cases {
        let found = text.parse::<JoinToken>().unwrap_err();
        assert_eq!(found, expected, "{text:?}");
        let words = found.to_string();
        assert!(words.contains("valid join token"), "{words}");
        assert!(!words.contains("bbb"), "{words} repeats the secret");
    }
}

#[test]
fn the_digest_covers_the_exact_bytes() {
    let token = token([7; 16]);
    assert!(token.matches_bundle(BUNDLE.pem()));
    let mut with_another_root = BUNDLE.pem().to_vec();
    with_another_root.extend_from_slice(RootCa::generate(Timestamp::now()).unwrap().bundle().pem());
    assert!(!token.matches_bundle(&with_another_root));
    let mut with_a_line_break = BUNDLE.pem().to_vec();
    with_a_line_break.push(b'\n');
    assert!(!token.matches_bundle(&with_a_line_break));
    assert!(!token.matches_bundle(b""));
}

#[test]
fn rotation_changes_one_part_and_keeps_the_other() {
    let old = token([7; 16]);
    let new_secret = JoinToken::generate(&BUNDLE).unwrap();
    assert_ne!(old, new_secret);
    assert_eq!(old.reveal()[..60], new_secret.reveal()[..60]);
    let new_root = old.with_bundle(RootCa::generate(Timestamp::now()).unwrap().bundle());
    assert_ne!(old, new_root);
    assert_eq!(old.reveal()[60..], new_root.reveal()[60..]);
}

#[test]
fn debug_does_not_show_the_secret() {
    let token = token([7; 16]);
    let secret = token.reveal()[60..].to_owned();
    assert!(!format!("{token:?}").contains(&secret));
    assert!(format!("{token:?}").contains(&token.reveal()[..59]));
}

proptest! {
    #[test]
    fn every_token_reads_back(digest in any::<[u8; 32]>(), secret in any::<[u8; 16]>()) {
        let token = JoinToken { digest, secret: Zeroizing::new(secret) };
        prop_assert_eq!(token.reveal().len(), TOKEN_LEN);
        prop_assert_eq!(token.reveal().parse::<JoinToken>(), Ok(token));
    }

    #[test]
    fn every_prefix_is_reported_as_cut_off(secret in any::<[u8; 16]>(), len in 1..TOKEN_LEN) {
        let text = token(secret).reveal();
        prop_assert_eq!(
            text[..len].parse::<JoinToken>(),
            Err(TokenError::Truncated { found: len })
        );
    }

    #[test]
    fn one_wrong_character_never_gives_the_same_token(
        secret in any::<[u8; 16]>(),
        at in 0..TOKEN_LEN,
        c in any::<char>(),
    ) {
        let token = token(secret);
        let text = token.reveal();
        prop_assume!(text.chars().nth(at) != Some(c));
        let changed: String =
            text.chars().enumerate().map(|(i, old)| if i == at { c } else { old }).collect();
        prop_assert_ne!(changed.parse::<JoinToken>(), Ok(token));
    }

    #[test]
    fn any_text_is_answered_without_panic(text in "(SWMTKN-)?(1-)?[0-9a-zA-Z-]{0,90}|.{0,100}") {
        if let Ok(token) = text.parse::<JoinToken>() {
            prop_assert_eq!(&*token.reveal(), &text);
        }
    }
}
