//! `name=soft[:hard]`.

use types::container_spec::Ulimit;

/// One resource limit; without a hard one the soft one counts for both.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let wrong = || "it must be NAME=SOFT or NAME=SOFT:HARD, with -1 for unlimited".to_owned();
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    if name.is_empty() {
        return Err(wrong());
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft: number(soft)?,
        hard: number(hard)?,
    })
}
