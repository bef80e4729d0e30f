//! One line of comma-separated values, where `"` quotes and `""` is a quote.

/// The values of a line.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![];
    let mut chars = line.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err("a '\"' is not closed".to_owned()),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                if c == '"' {
                    return Err("a '\"' may only stand around a whole value".to_owned());
                }
                field.push(c);
            }
        }
        fields.push(field);
        match chars.next() {
            None => return Ok(fields),
            Some(',') => {}
            Some(c) => return Err(format!("after a closing '\"' comes a ',', not {c:?}")),
        }
    }
}
