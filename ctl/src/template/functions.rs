//! The functions of templates, and how values become text.

use std::cmp::Ordering;

use serde_json::Value;

/// A value as Go prints it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut items: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", text(value)))
                .collect();
            items.sort();
            format!("map[{}]", items.join(" "))
        }
    }
}

/// What kind of value it is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Go's truth: everything but false, zero and what is empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

type Called = Result<Value, String>;

/// Calls a function; the problem in words when that cannot be done.
pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let count = arguments.len();
    let exactly = |wanted: usize| {
        if count == wanted {
            Ok(())
        } else {
            Err(format!("{name} takes {wanted}, not {count} values"))
        }
    };
    let at_least = |wanted: usize| {
        if count >= wanted {
            Ok(())
        } else {
            Err(format!("{name} needs {wanted} values or more"))
        }
    };
    match name {
        "json" => exactly(1).map(|()| Value::from(arguments[0].to_string())),
        "lower" => exactly(1).and_then(|()| map_text(name, &arguments[0], str::to_lowercase)),
        "upper" => exactly(1).and_then(|()| map_text(name, &arguments[0], str::to_uppercase)),
        "title" => exactly(1).and_then(|()| map_text(name, &arguments[0], title)),
        "join" => exactly(2).and_then(|()| join(&arguments[0], &arguments[1])),
        "split" => exactly(2).and_then(|()| split(&arguments[0], &arguments[1])),
        "pad" => exactly(3).and_then(|()| pad(arguments)),
        "truncate" => exactly(2).and_then(|()| truncate(&arguments[0], &arguments[1])),
        "print" => Ok(Value::from(
            arguments.iter().map(text).collect::<Vec<_>>().join(""),
        )),
        "println" => {
            let words: Vec<String> = arguments.iter().map(text).collect();
            Ok(Value::from(format!("{}\n", words.join(" "))))
        }
        "printf" => at_least(1).and_then(|()| printf(arguments)),
        "len" => exactly(1).and_then(|()| len(&arguments[0])),
        "index" => at_least(1).and_then(|()| index(arguments)),
        "not" => exactly(1).map(|()| Value::from(!is_true(&arguments[0]))),
        "and" => at_least(1).map(|()| pick(arguments, |value| !is_true(value))),
        "or" => at_least(1).map(|()| pick(arguments, is_true)),
        "eq" => at_least(2).map(|()| {
            Value::from(
                arguments[1..]
                    .iter()
                    .any(|other| same(&arguments[0], other)),
            )
        }),
        "ne" => exactly(2).map(|()| Value::from(!same(&arguments[0], &arguments[1]))),
        "lt" => exactly(2).and_then(|()| order(name, arguments, Ordering::is_lt)),
        "le" => exactly(2).and_then(|()| order(name, arguments, Ordering::is_le)),
        "gt" => exactly(2).and_then(|()| order(name, arguments, Ordering::is_gt)),
        "ge" => exactly(2).and_then(|()| order(name, arguments, Ordering::is_ge)),
        _ => Err(format!(
            "function {name:?} is not known: there are and, eq, ge, gt, index, join, json, le, \
             len, lower, lt, ne, not, or, pad, print, printf, println, split, title, truncate \
             and upper"
        )),
    }
}

fn map_text(name: &str, value: &Value, change: impl Fn(&str) -> String) -> Called {
    match value {
        Value::String(text) => Ok(Value::from(change(text))),
        other => Err(format!("{name} takes a text, not {}", kind(other))),
    }
}

fn title(text: &str) -> String {
    let mut first = true;
    let raise = |c: char| {
        let raised = if first {
            c.to_uppercase().to_string()
        } else {
            c.to_string()
        };
        first = !c.is_alphanumeric();
        raised
    };
    text.chars().map(raise).collect()
}

fn join(list: &Value, separator: &Value) -> Called {
    match (list, separator) {
        (Value::Array(items), Value::String(separator)) => {
            let items: Vec<String> = items.iter().map(text).collect();
            Ok(Value::from(items.join(separator)))
        }
        _ => Err(format!(
            "join takes a list and a text, not {} and {}",
            kind(list),
            kind(separator)
        )),
    }
}

fn split(whole: &Value, separator: &Value) -> Called {
    match (whole, separator) {
        (Value::String(whole), Value::String(separator)) => Ok(Value::from(
            whole.split(separator.as_str()).collect::<Vec<_>>(),
        )),
        _ => Err("split takes two texts".to_owned()),
    }
}

fn amount(value: &Value) -> Result<usize, String> {
    value
        .as_u64()
        .and_then(|amount| usize::try_from(amount).ok())
        // More than any terminal is wide would only fill the memory.
        .filter(|amount| *amount <= 10_000)
        .ok_or_else(|| format!("{value} is not a number of characters"))
}

/// `pad TEXT BEFORE AFTER`: blanks around a text that is not empty.
fn pad(arguments: &[Value]) -> Called {
    let (before, after) = (amount(&arguments[1])?, amount(&arguments[2])?);
    map_text("pad", &arguments[0], |text| {
        if text.is_empty() {
            return String::new();
        }
        format!("{}{text}{}", " ".repeat(before), " ".repeat(after))
    })
}

fn truncate(value: &Value, len: &Value) -> Called {
    let len = amount(len)?;
    map_text("truncate", value, |text| text.chars().take(len).collect())
}

fn len(value: &Value) -> Called {
    match value {
        Value::String(text) => Ok(Value::from(text.len())),
        Value::Array(items) => Ok(Value::from(items.len())),
        Value::Object(map) => Ok(Value::from(map.len())),
        Value::Null => Ok(Value::from(0)),
        Value::Bool(_) | Value::Number(_) => Err(format!("{} has no length", kind(value))),
    }
}

fn index(arguments: &[Value]) -> Called {
    let mut value = &arguments[0];
    for key in &arguments[1..] {
        value = match (value, key) {
            (Value::Object(map), Value::String(key)) => map.get(key).unwrap_or(&Value::Null),
            (Value::Array(items), Value::Number(number)) => number
                .as_u64()
                .and_then(|at| items.get(usize::try_from(at).ok()?))
                .ok_or_else(|| format!("index {number} is outside a list of {}", items.len()))?,
            (Value::Null, _) => &Value::Null,
            (value, key) => {
                return Err(format!("{} has no index {}", kind(value), text(key)));
            }
        };
    }
    Ok(value.clone())
}

/// The first argument that decides, or the last.
fn pick(arguments: &[Value], decides: impl Fn(&Value) -> bool) -> Value {
    let decided = arguments.iter().find(|value| decides(value));
    decided.or(arguments.last()).cloned().unwrap_or(Value::Null)
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn order(name: &str, arguments: &[Value], wanted: impl Fn(Ordering) -> bool) -> Called {
    let order = match (&arguments[0], &arguments[1]) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a
            .as_f64()
            .zip(b.as_f64())
            .and_then(|(a, b)| a.partial_cmp(&b)),
        _ => None,
    };
    order
        .map(|order| Value::from(wanted(order)))
        .ok_or_else(|| {
            format!(
                "{name} compares two numbers or two texts, not {} and {}",
                kind(&arguments[0]),
                kind(&arguments[1])
            )
        })
}

/// `%s %v %d %q %t %x %f %%` with `-`, width and precision.
fn printf(arguments: &[Value]) -> Called {
    let Value::String(pattern) = &arguments[0] else {
        return Err("printf takes a text first".to_owned());
    };
    let mut values = arguments[1..].iter();
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '.')) {
            spec.push(c);
        }
        let verb = chars.next().ok_or("printf: the text ends after %")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values
            .next()
            .ok_or_else(|| format!("printf: a value for %{verb} is missing"))?;
        out.push_str(&aligned(&spec, verb, value)?);
    }
    Ok(Value::from(out))
}

fn aligned(spec: &str, verb: char, value: &Value) -> Result<String, String> {
    let (left, spec) = spec
        .strip_prefix('-')
        .map_or((false, spec), |spec| (true, spec));
    let (width, precision) = spec
        .split_once('.')
        .map_or((spec, None), |(w, p)| (w, Some(p)));
    let number = |text: &str| -> Result<usize, String> {
        if text.is_empty() {
            Ok(0)
        } else {
            amount(&Value::from(text.parse::<u64>().ok()))
        }
    };
    let precision = precision.map(number).transpose()?;
    let shown = match (verb, value) {
        ('s' | 'v', _) => {
            let text = text(value);
            precision.map_or(text.clone(), |len| text.chars().take(len).collect())
        }
        ('q', _) => format!("{:?}", text(value)),
        ('d', Value::Number(number)) => number.to_string(),
        ('t', Value::Bool(value)) => value.to_string(),
        ('x', Value::Number(number)) => format!("{:x}", number.as_i64().unwrap_or_default()),
        ('f', Value::Number(number)) => {
            let number = number.as_f64().unwrap_or_default();
            format!("{number:.*}", precision.unwrap_or(6))
        }
        _ => return Err(format!("printf: %{verb} cannot show {}", kind(value))),
    };
    let width = number(width)?;
    Ok(if left {
        format!("{shown:<width$}")
    } else {
        format!("{shown:>width$}")
    })
}
