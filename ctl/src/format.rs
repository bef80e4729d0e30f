//! What `--format` says, and lists and objects shown as it says.

use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::output;
use crate::table::table;
use crate::template::{Template, TemplateError};

/// How to show things.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// `table`, or `table {{…}}\t{{…}}`.
    Table(Option<Template>),
    /// `json`: one object a line.
    Json,
    /// Any other text: a template, one line for each thing.
    Template(Template),
}

impl FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match text.strip_prefix("table") {
            Some("") => return Ok(Self::Table(None)),
            Some(rest) if rest.starts_with([' ', '\t', '\\']) => {
                return Ok(Self::Table(Some(Template::parse(rest.trim_start())?)));
            }
            Some(_) | None => {}
        }
        if text == "json" {
            Ok(Self::Json)
        } else {
            Template::parse(text).map(Self::Template)
        }
    }
}

/// One thing of a list: values by the names templates use.
pub(crate) type Row = Map<String, Value>;

/// A list's columns: the name in templates, the header, and where it appears.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) header: &'static str,
    place: Place,
}

/// Where a column appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    TableOnly,
    TemplatesOnly,
}

/// A column of the plain table and for templates.
pub(crate) const fn shown(name: &'static str, header: &'static str) -> Column {
    Column {
        name,
        header,
        place: Place::Everywhere,
    }
}

/// A column of the plain table, put together for people out of others.
pub(crate) const fn table_only(name: &'static str, header: &'static str) -> Column {
    Column {
        name,
        header,
        place: Place::TableOnly,
    }
}

/// A column for templates only.
pub(crate) const fn hidden(name: &'static str, header: &'static str) -> Column {
    Column {
        name,
        header,
        place: Place::TemplatesOnly,
    }
}

/// A row out of columns and their values, in the same order.
pub(crate) fn row<const N: usize>(columns: &[Column; N], values: [Value; N]) -> Row {
    let mut pairs: Vec<_> = columns
        .iter()
        .map(|column| column.name.to_owned())
        .zip(values)
        .collect();
    // As Docker's: the keys of a row in JSON are sorted.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.into_iter().collect()
}

/// Prints a list: only the ids, or as the format says, or as a plain table.
pub(crate) fn print_list(
    columns: &[Column],
    rows: Vec<Row>,
    format: Option<&Format>,
    quiet: bool,
) -> Result<(), Error> {
    Ok(output::write(&list(columns, rows, format, quiet)?)?)
}

/// The text of a list.
pub(crate) fn list(
    columns: &[Column],
    mut rows: Vec<Row>,
    format: Option<&Format>,
    quiet: bool,
) -> Result<String, Error> {
    if !matches!(format, None | Some(Format::Table(None))) {
        for column in columns
            .iter()
            .filter(|column| column.place == Place::TableOnly)
        {
            rows.iter_mut()
                .for_each(|row| drop(row.shift_remove(column.name)));
        }
    }
    let cell = |row: &Row, name: &str| match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect();
    if quiet {
        return Ok(lines(rows.iter().map(|row| cell(row, "ID")).collect()));
    }
    match format {
        None | Some(Format::Table(None)) => {
            let shown = || {
                columns
                    .iter()
                    .filter(|column| column.place != Place::TemplatesOnly)
            };
            let mut cells = vec![shown().map(|column| column.header.to_owned()).collect()];
            for row in &rows {
                cells.push(shown().map(|column| cell(row, column.name)).collect());
            }
            Ok(table(&cells))
        }
        Some(Format::Table(Some(template))) => {
            let headers: Row = columns
                .iter()
                .map(|column| (column.name.to_owned(), Value::from(column.header)))
                .collect();
            let mut cells = vec![];
            for row in std::iter::once(headers).chain(rows) {
                let line = template.fill(&Value::Object(row))?;
                cells.push(line.split('\t').map(str::to_owned).collect());
            }
            Ok(table(&cells))
        }
        Some(Format::Json) => Ok(lines(
            rows.into_iter()
                .map(|row| Value::Object(row).to_string())
                .collect(),
        )),
        Some(Format::Template(template)) => {
            let filled = rows
                .into_iter()
                .map(|row| template.fill(&Value::Object(row)));
            Ok(lines(filled.collect::<Result<_, _>>()?))
        }
    }
}

/// Prints objects: an array with four blanks of indent, or each as the format says.
pub(crate) fn print_objects(objects: &[Value], format: Option<&Format>) -> Result<(), Error> {
    Ok(output::write(&self::objects(objects, format)?)?)
}

/// The text of objects.
pub(crate) fn objects(objects: &[Value], format: Option<&Format>) -> Result<String, Error> {
    let mut out = String::new();
    match format {
        None => {
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut bytes = vec![];
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, indent);
            objects
                .serialize(&mut serializer)
                .expect("JSON values are always written");
            out.push_str(&String::from_utf8_lossy(&bytes));
            out.push('\n');
        }
        Some(Format::Json) => {
            for object in objects {
                out.push_str(&object.to_string());
                out.push('\n');
            }
        }
        Some(Format::Template(template)) => {
            for object in objects {
                out.push_str(&template.fill(object)?);
                out.push('\n');
            }
        }
        Some(Format::Table(_)) => {
            return Err(Error::Usage(
                "objects cannot be shown as a table: use json or a template".to_owned(),
            ));
        }
    }
    Ok(out)
}

/// An object as Docker's JSON.
pub(crate) fn json(object: impl Serialize) -> Value {
    serde_json::to_value(object).expect("our objects have only texts as keys")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 3] = [
        shown("ID", "ID"),
        shown("Name", "NAME"),
        hidden("Leader", "LEADER"),
    ];

    fn rows() -> Vec<Row> {
        vec![
            row(&COLUMNS, ["a1".into(), "web".into(), true.into()]),
            row(&COLUMNS, ["b2".into(), "api".into(), false.into()]),
        ]
    }

    fn show(format: &str) -> String {
        let format = (!format.is_empty()).then(|| format.parse::<Format>());
        match format.transpose() {
            Ok(format) => list(&COLUMNS, rows(), format.as_ref(), false)
                .unwrap_or_else(|error| format!("! {error}")),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn lists_are_shown_as_asked() {
        let plain = "ID        NAME\na1        web\nb2        api\n";
        for (format, expected) in [
            ("", plain),
            ("table", plain),
            (
                "table {{.Name}}\\t{{.Leader}}",
                "NAME      LEADER\nweb       true\napi       false\n",
            ),
            (
                "json",
                "{\"ID\":\"a1\",\"Leader\":true,\"Name\":\"web\"}\n\
                 {\"ID\":\"b2\",\"Leader\":false,\"Name\":\"api\"}\n",
            ),
            ("{{.Name}}: {{.ID}}", "web: a1\napi: b2\n"),
            (
                "{{.Nope}}",
                "! template: no field .Nope: there are ID, Leader, Name (at character 3)",
            ),
            (
                "{{",
                "! template: \"{{\" is not closed by \"}}\" (at character 1)",
            ),
        ] {
            assert_eq!(show(format), expected, "{format}");
        }
        assert_eq!(list(&COLUMNS, rows(), None, true).unwrap(), "a1\nb2\n");
    }

    #[test]
    fn objects_keep_the_order_of_their_fields() {
        let object = [json!({"ID": "a", "Agent": {"B": 1, "A": []}})];
        assert_eq!(
            objects(&object, None).unwrap(),
            "[\n    {\n        \"ID\": \"a\",\n        \"Agent\": {\n            \"B\": 1,\n            \
             \"A\": []\n        }\n    }\n]\n"
        );
        let format = "{{.Agent.B}}".parse().unwrap();
        assert_eq!(objects(&object, Some(&format)).unwrap(), "1\n");
        assert_eq!(
            objects(&object, Some(&Format::Json)).unwrap(),
            "{\"ID\":\"a\",\"Agent\":{\"B\":1,\"A\":[]}}\n"
        );
        assert!(objects(&object, Some(&Format::Table(None))).is_err());
    }
}
