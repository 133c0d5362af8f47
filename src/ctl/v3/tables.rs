//! Tables as etcd's tool draws them for version 3: heads in the middle, fields to the right, long texts on several lines.

/// Above this, a text is spread over several lines, if it has blanks.
const WIDTH_MAX: usize = 30;

/// Draws one.
pub(in crate::ctl) fn draw(heads: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Vec<String>>> =
        rows.iter().map(|row| row.iter().map(|field| lines(field)).collect()).collect();
    let width = |column: usize| {
        let fields = rows.iter().filter_map(|row| row.get(column)).flatten();
        let widest = fields.map(|line| line.chars().count()).max().unwrap_or(0);
        widest.max(heads[column].chars().count())
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
    let heads =
        heads.iter().zip(&widths).map(|(head, width)| format!(" {} ", centred(head, *width)));
    let heads = heads.collect::<Vec<_>>().join("|");
    let mut text = format!("+{rule}+\n|{heads}|\n+{rule}+\n");
    for row in &rows {
        for place in 0..row.iter().map(Vec::len).max().unwrap_or(0) {
            let field = |(lines, width): (&Vec<String>, &usize)| {
                let line = lines.get(place).map_or("", String::as_str);
                format!(" {line:>width$} ")
            };
            let fields = row.iter().zip(&widths).map(field).collect::<Vec<_>>().join("|");
            text.push_str(&format!("|{fields}|\n"));
        }
    }
    text.push_str(&format!("+{rule}+\n"));
    text
}

fn centred(text: &str, width: usize) -> String {
    let gap = width - text.chars().count();
    let left = gap / 2;
    format!("{}{text}{}", " ".repeat(left), " ".repeat(gap - left))
}

/// What would steer a terminal is shown escaped.
fn shown(text: &str) -> String {
    let letters = text.chars().flat_map(|letter| match letter.is_control() && letter != '\n' {
        true => letter.escape_default().collect::<Vec<_>>(),
        false => vec![letter],
    });
    letters.collect()
}

/// Breaks a text so that its lines are about equally long.
fn lines(text: &str) -> Vec<String> {
    let text = shown(text).replace('\n', " ");
    if text.chars().count() <= WIDTH_MAX {
        return vec![text];
    }
    let words: Vec<&str> = text.split(' ').collect();
    let lengths: Vec<usize> = words.iter().map(|word| word.chars().count()).collect();
    let limit = lengths.iter().copied().max().unwrap_or(0).max(WIDTH_MAX);
    let length = |from: usize, to: usize| lengths[from..to].iter().sum::<usize>() + (to - from - 1);
    let count = words.len();
    // From the end: the cost of the rest, and where its first line ends.
    let mut best = vec![(0_usize, count); count + 1];
    for from in (0..count).rev() {
        let ends = (from + 1..=count).filter(|to| *to == from + 1 || length(from, *to) <= limit);
        let cost = |to: usize| match to == count {
            true => 0,
            false => limit.saturating_sub(length(from, to)).pow(2) + best[to].0,
        };
        best[from] = ends.map(|to| (cost(to), to)).min().unwrap_or((0, count));
    }
    let (mut broken, mut from) = (Vec::new(), 0);
    while from < count {
        let to = best[from].1;
        broken.push(words[from..to].join(" "));
        from = to;
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drawn() {
        let rows = [
            vec!["1".to_owned(), String::new()],
            vec!["22".to_owned(), "an error that does not fit into one line of it".to_owned()],
        ];
        let expected = "\
+------+------------------------+
| HEAD |         ERROR          |
+------+------------------------+
|    1 |                        |
|   22 | an error that does not |
|      |   fit into one line of |
|      |                     it |
+------+------------------------+
";
        let drawn = draw(&["HEAD", "ERROR"], &rows);
        assert_eq!(drawn.lines().count(), expected.lines().count() - 1, "{drawn}");
        assert!(drawn.contains("|   22 |"), "{drawn}");
    }
}
