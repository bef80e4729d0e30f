//! Amounts of memory and processors.

/// Bytes with a binary unit: `512`, `64m`, `1.5GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "it must be a size like 512, 64m or 1.5g (units b, k, m, g, t)".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit = unit.trim_start();
    let letter = match unit {
        "" | "b" => "",
        _ => unit
            .strip_suffix("ib")
            .or_else(|| unit.strip_suffix('b'))
            .unwrap_or(unit),
    };
    let shift = match letter {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(wrong()),
    };
    let too_large = || "it is too large".to_owned();
    match number.split_once('.') {
        None => {
            let number: u64 = number.parse().map_err(|_| wrong())?;
            number.checked_mul(1 << shift).ok_or_else(too_large)
        }
        Some(_) => {
            let number: f64 = number.parse().map_err(|_| wrong())?;
            #[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
            let bytes = number * (1_u64 << shift) as f64;
            if bytes >= 9e18 {
                return Err(too_large());
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "in range and without a sign, parts of a byte are dropped"
            )]
            Ok(bytes as u64)
        }
    }
}

/// Processors as a decimal number, in billionths: `0.5`, `2`.
pub(crate) fn nano_cpus(text: &str) -> Result<u64, String> {
    const DECIMALS: usize = 9;
    let wrong = || "it must be a decimal number of processors like 0.5 or 2".to_owned();
    if text.starts_with('-') {
        return Err("it cannot be negative".to_owned());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(wrong());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > DECIMALS {
        return Err(format!(
            "it is too precise: at most {DECIMALS} decimals count"
        ));
    }
    let parse = |text: &str| {
        if text.is_empty() {
            Ok(0)
        } else {
            text.parse::<u64>()
        }
    };
    let whole = parse(whole).map_err(|_| wrong())?;
    let nanos = parse(&format!("{fraction:0<DECIMALS$}")).map_err(|_| wrong())?;
    whole
        .checked_mul(1_000_000_000)
        .and_then(|whole| whole.checked_add(nanos))
        .ok_or_else(|| "it is too large".to_owned())
}
