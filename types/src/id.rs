//! Typed object ids: 25 characters of base 36, as Swarm's users know them.

use std::fmt;
use std::str::FromStr;

/// Length of an id in characters (SwarmKit's `identity` package).
pub const ID_LEN: usize = 25;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: an id has {ID_LEN} characters out of 0-9 and a-z")]
pub struct ParseIdError(pub String);

/// Where new ids come from: the operating system in a daemon, a counter in a simulation.
pub trait IdSource {
    /// Sixteen fresh bytes.
    fn bytes(&mut self) -> [u8; 16];
}

/// Ids from the operating system's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel's random source answers once booted");
        bytes
    }
}

fn encode(bytes: [u8; 16]) -> [u8; ID_LEN] {
    // 36^24 < 2^128 < 36^25: every value fits 25 digits.
    let mut value = u128::from_be_bytes(bytes);
    let mut text = [b'0'; ID_LEN];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(value % 36) as usize];
        value /= 36;
    }
    text
}

fn parse(text: &str) -> Result<[u8; ID_LEN], ParseIdError> {
    let bytes: [u8; ID_LEN] = text
        .as_bytes()
        .try_into()
        .map_err(|_| ParseIdError(text.to_owned()))?;
    if bytes.iter().all(|b| DIGITS.contains(b)) {
        Ok(bytes)
    } else {
        Err(ParseIdError(text.to_owned()))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_LEN]);

        impl $name {
            /// A fresh id out of `source`.
            pub fn generate(source: &mut (impl IdSource + ?Sized)) -> Self {
                Self(encode(source.bytes()))
            }

            /// The id with this number: for tests and simulations that want readable ids.
            #[must_use]
            pub fn from_number(number: u128) -> Self {
                Self(encode(number.to_be_bytes()))
            }

            /// The id's 25 characters.
            #[must_use]
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).expect("an id holds only ASCII digits and letters")
            }

            /// Smallest possible id, the lower end of range queries.
            pub const MIN: Self = Self([b'0'; ID_LEN]);
            /// Largest possible id, the upper end of range queries.
            pub const MAX: Self = Self([b'z'; ID_LEN]);
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(d)?;
                parse(&text).map(Self).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// Names a machine of the cluster; the CN of its certificate.
    NodeId
);
id!(
    /// Names a service.
    ServiceId
);
id!(
    /// Names a task; its container carries the same name.
    TaskId
);
id!(
    /// Names a network.
    NetworkId
);
id!(
    /// Names a secret.
    SecretId
);
id!(
    /// Names a config.
    ConfigId
);
id!(
    /// Names the cluster; the O of every certificate.
    ClusterId
);
id!(
    /// Names a user of another machine; the CN of its certificate.
    ClientId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_text() {
        for number in [0, 1, 35, 36, u128::MAX] {
            let id = TaskId::from_number(number);
            assert_eq!(id.to_string().len(), ID_LEN);
            assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        }
        assert_eq!(
            TaskId::from_number(36).to_string(),
            "0000000000000000000000010"
        );
        assert_ne!(
            TaskId::generate(&mut RandomIds),
            TaskId::generate(&mut RandomIds)
        );
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in [
            "",
            "abc",
            "ABCDEFGHIJKLMNOPQRSTUVWXY",
            &"z".repeat(26),
            "é23456789012345678901234",
        ] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }
}
