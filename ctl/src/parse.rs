//! The small grammars of flags, as Docker's command line reads them.

pub(crate) mod amount;
pub(crate) mod csv;
pub(crate) mod duration;
pub(crate) mod env;
pub(crate) mod host;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod time;
pub(crate) mod ulimit;
pub(crate) mod words;

/// `KEY=VALUE`, or `KEY` for an empty value, as labels are given.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err("it must be KEY=VALUE or KEY".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `spread=node.labels.X`: what is spread over.
pub(crate) fn placement_preference(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((strategy, over)) if strategy.eq_ignore_ascii_case("spread") && !over.is_empty() => {
            Ok(over.to_owned())
        }
        Some((strategy, _)) if !strategy.eq_ignore_ascii_case("spread") => Err(format!(
            "strategy {strategy:?} is not known: only spread=node.labels.NAME and \
                         spread=engine.labels.NAME are"
        )),
        Some(_) | None => Err("it must be spread=node.labels.NAME".to_owned()),
    }
}

/// A number that counts something, told apart from a negative one.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        if text
            .strip_prefix('-')
            .is_some_and(|rest| rest.parse::<u64>().is_ok())
        {
            "it cannot be negative".to_owned()
        } else {
            "it must be a whole number".to_owned()
        }
    })
}

#[cfg(test)]
mod tests;
