//! Columns of text, spaced as Docker's tables are.

/// Blanks between columns at least.
const PADDING: usize = 3;
/// Width of a column at least, padding included.
const WIDTH_MIN: usize = 10;

/// A table of rows, the first of which are the headers. Every line ends with a line end and has no
/// blanks before it.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default();
        (longest + PADDING).max(WIDTH_MIN)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}"));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            ["ID", "NAME", "PORTS"],
            ["abc", "a-long-name…", ""],
            ["x", "b", "80"],
        ]
        .map(|row| row.map(String::from).to_vec());
        assert_eq!(
            table(&rows),
            "ID        NAME           PORTS\n\
             abc       a-long-name…\n\
             x         b              80\n"
        );
        assert_eq!(table(&[]), "");
    }
}
