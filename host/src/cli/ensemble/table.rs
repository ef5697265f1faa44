//! Columns for people.

/// Rows under their headings. The last column is not padded; trailing blanks are none.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, &width) in cells.iter().zip(&widths) {
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    };
    line(headings);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["1", "leader", ""].map(str::to_owned),
            ["12", "observer", "down"].map(str::to_owned),
        ];
        let expected = "ID  ROLE      NOTE\n1   leader\n12  observer  down\n";
        assert_eq!(table(["ID", "ROLE", "NOTE"], &rows), expected);
    }
}
