//! `--filter key=value`: the same key twice means either, different keys mean both (X23).

use std::str::FromStr;

use types::Labels;

use crate::error::Error;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    key: String,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(Self {
                key: key.trim().to_ascii_lowercase(),
                value: value.trim().to_owned(),
            }),
            Some(_) | None => Err("it must be KEY=VALUE".to_owned()),
        }
    }
}

/// Conditions that were checked to be known.
#[derive(Debug)]
pub(crate) struct Filters<'a>(&'a [Filter]);

impl<'a> Filters<'a> {
    /// Takes the conditions when all of them are among the `known` ones.
    pub(crate) fn new(filters: &'a [Filter], known: &[&str]) -> Result<Self, Error> {
        match filters
            .iter()
            .find(|filter| !known.contains(&filter.key.as_str()))
        {
            None => Ok(Self(filters)),
            Some(filter) => Err(Error::Usage(format!(
                "invalid filter {:?}: there are {}",
                filter.key,
                known.join(", ")
            ))),
        }
    }

    /// Whether any condition of this key holds; true without one.
    pub(crate) fn any(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        let mut conditions = self.0.iter().filter(|filter| filter.key == key).peekable();
        conditions.peek().is_none() || conditions.any(|filter| holds(&filter.value))
    }

    /// Whether all conditions on labels hold: `NAME` or `NAME=VALUE`.
    pub(crate) fn labels(&self, key: &str, labels: &Labels) -> bool {
        self.0
            .iter()
            .filter(|filter| filter.key == key)
            .all(|filter| match filter.value.split_once('=') {
                Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
                None => labels.contains_key(&filter.value),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<Filter> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_same_key_means_either_and_different_keys_both() {
        let given = filters(&["name=a", "name=b", "Role=manager"]);
        let filters = Filters::new(&given, &["name", "role"]).unwrap();
        assert!(filters.any("name", |value| value == "b"));
        assert!(!filters.any("name", |value| value == "c"));
        assert!(filters.any("id", |_| false), "without a condition all pass");
        assert!(filters.any("role", |value| value == "manager"));
    }

    #[test]
    fn labels_are_names_or_pairs_and_all_must_hold() {
        let labels = Labels::from([("zone".to_owned(), "a".to_owned())]);
        for (texts, expected) in [
            (vec!["label=zone"], true),
            (vec!["label=zone=a"], true),
            (vec!["label=zone=b"], false),
            (vec!["label=zone", "label=nope"], false),
            (vec![], true),
        ] {
            let given = filters(&texts);
            let filters = Filters::new(&given, &["label"]).unwrap();
            assert_eq!(filters.labels("label", &labels), expected, "{texts:?}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let given = filters(&["colour=red"]);
        let error = Filters::new(&given, &["id", "name"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid filter \"colour\": there are id, name"
        );
        assert!("name".parse::<Filter>().is_err());
        assert!("=x".parse::<Filter>().is_err());
    }
}
