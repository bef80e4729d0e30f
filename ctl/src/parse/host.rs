//! Names containers know by themselves, as `NAME:IP`.

use types::container_spec::HostAlias;

/// Reads `NAME:IP`; an IPv6 address may stand in brackets.
pub(crate) fn host(text: &str) -> Result<HostAlias, String> {
    let malformed = || "it must be NAME:IP, like db:10.0.0.5 or db:[fd00::5]".to_owned();
    let (name, address) = text.split_once(':').ok_or_else(malformed)?;
    let address = address.strip_prefix('[').map_or(Some(address), |rest| {
        // Only both brackets make sense.
        rest.strip_suffix(']')
    });
    let address = address.and_then(|address| address.parse().ok());
    match (name.trim(), address) {
        ("", _) | (_, None) => Err(malformed()),
        (name, Some(address)) => Ok(HostAlias {
            address,
            name: name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn a_name_and_an_address() {
        for (text, expected) in [
            ("db:10.0.0.5", "10.0.0.5 db"),
            ("db:fd00::5", "fd00::5 db"),
            ("db:[fd00::5]", "fd00::5 db"),
        ] {
            assert_eq!(host(text).map(|it| it.to_string()), Ok(expected.to_owned()));
        }
        for text in [
            "db",
            "db:",
            ":10.0.0.5",
            "db:[fd00::5",
            "db:10.0.0",
            "db:10.0.0.5:80",
        ] {
            assert!(host(text).unwrap_err().contains("NAME:IP"), "{text}");
        }
    }
}
