//! Names for services whose users named none: an adjective and somebody remembered in computing.

use types::id::IdSource;

const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "ample", "apt", "avid", "bold", "brave", "breezy", "bright", "brisk",
    "calm", "candid", "clear", "clever", "cosy", "crisp", "daring", "deft", "eager", "early",
    "earnest", "fair", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "happy",
    "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow",
    "merry", "mighty", "modest", "neat", "nimble", "noble", "patient", "placid", "polite", "proud",
    "quick", "quiet", "ready", "sharp", "silent", "smooth", "steady", "sunny", "swift", "tidy",
    "vivid", "warm", "witty",
];

const PEOPLE: [&str; 64] = [
    "aiken",
    "allen",
    "antonelli",
    "babbage",
    "backus",
    "bartik",
    "bell",
    "boole",
    "brooks",
    "cerf",
    "church",
    "cocke",
    "codd",
    "cook",
    "corbato",
    "dahl",
    "dijkstra",
    "eckert",
    "engelbart",
    "floyd",
    "goldberg",
    "gray",
    "haibt",
    "hamilton",
    "hamming",
    "hoare",
    "hopper",
    "iverson",
    "johnson",
    "kahn",
    "karp",
    "kay",
    "kernighan",
    "kilburn",
    "kleene",
    "knuth",
    "lamport",
    "liskov",
    "lovelace",
    "mauchly",
    "mccarthy",
    "meitner",
    "milner",
    "minsky",
    "naur",
    "noether",
    "nygaard",
    "perlis",
    "perlman",
    "postel",
    "rabin",
    "ritchie",
    "scott",
    "shannon",
    "shaw",
    "spaerck",
    "tarjan",
    "thompson",
    "turing",
    "vaughan",
    "wilkes",
    "wing",
    "wirth",
    "zuse",
];

/// A name like `brave_hopper`; from the third try on with a number, so that tries never run out.
pub(crate) fn random(ids: &mut impl IdSource, tries: usize) -> String {
    let bytes = ids.bytes();
    let adjective = ADJECTIVES[usize::from(bytes[0]) % ADJECTIVES.len()];
    let person = PEOPLE[usize::from(bytes[1]) % PEOPLE.len()];
    if tries < 2 {
        format!("{adjective}_{person}")
    } else {
        let number = u32::from_be_bytes([0, bytes[2], bytes[3], bytes[4]]);
        format!("{adjective}_{person}{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u8);
    impl IdSource for Counter {
        fn bytes(&mut self) -> [u8; 16] {
            self.0 = self.0.wrapping_add(1);
            [self.0; 16]
        }
    }

    #[test]
    fn every_name_is_valid() {
        let mut ids = Counter(0);
        for tries in 0..600 {
            let name = random(&mut ids, tries % 5);
            assert_eq!(crate::validate::name("Name", &name), Ok(()), "{name}");
        }
    }
}
