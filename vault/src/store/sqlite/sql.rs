//! SQL for several rows at once: four fixed texts of one statement, so that nothing is put together at run time.

/// The sizes a statement has texts for, largest first.
pub(super) const SIZES: [usize; 4] = [64, 16, 4, 1];

/// One statement's texts for 64, 16, 4 and 1 rows.
pub(super) type Texts = [&'static str; 4];

/// Texts of `head`, then the row once or several times with commas between, then `tail`.
macro_rules! texts {
    ($head:expr, $row:expr, $tail:expr) => {
        [
            concat!(
                $head,
                sql::sixteen!($row),
                ",",
                sql::sixteen!($row),
                ",",
                sql::sixteen!($row),
                ",",
                sql::sixteen!($row),
                $tail
            ),
            concat!($head, sql::sixteen!($row), $tail),
            concat!($head, sql::four!($row), $tail),
            concat!($head, $row, $tail),
        ]
    };
}

/// The text four times.
macro_rules! four {
    ($row:expr) => {
        concat!($row, ",", $row, ",", $row, ",", $row)
    };
}

/// The text sixteen times.
macro_rules! sixteen {
    ($row:expr) => {
        concat!(sql::four!($row), ",", sql::four!($row), ",", sql::four!($row), ",", sql::four!($row))
    };
}

pub(super) use {four, sixteen, texts};

/// Cuts rows into parts for which there is a text: as many of the largest as fit, then the next.
pub(super) fn parts<'a, T>(texts: &'a Texts, mut rows: &'a [T]) -> impl Iterator<Item = (&'static str, &'a [T])> + 'a {
    std::iter::from_fn(move || {
        let place = SIZES.iter().position(|size| *size <= rows.len())?;
        let (part, rest) = rows.split_at(SIZES[place]);
        rows = rest;
        Some((texts[place], part))
    })
}

/// Cuts keys into parts for look-ups: the smallest text that holds them all, else the largest. What a part lacks is for
/// the caller to fill with NULL, which no key equals.
pub(super) fn look_ups<'a, T>(
    texts: &'a Texts,
    mut keys: &'a [T],
) -> impl Iterator<Item = (&'static str, &'a [T], usize)> + 'a {
    std::iter::from_fn(move || {
        if keys.is_empty() {
            return None;
        }
        let place = SIZES.iter().rposition(|size| *size >= keys.len()).unwrap_or(0);
        let (part, rest) = keys.split_at(SIZES[place].min(keys.len()));
        keys = rest;
        Some((texts[place], part, SIZES[place] - part.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::sql;

    #[test]
    fn rows_are_cut_into_parts_that_have_a_text() {
        let texts: Texts = texts!("INSERT ", "(?)", "");
        let rows: Vec<u32> = (0..87).collect();
        let sizes: Vec<usize> = parts(&texts, &rows)
            .map(|(text, part)| {
                assert_eq!(text.matches("(?)").count(), part.len());
                part.len()
            })
            .collect();
        assert_eq!(sizes, [64, 16, 4, 1, 1, 1]);
        let looked: Vec<(usize, usize)> = look_ups(&texts, &rows).map(|(_, part, fill)| (part.len(), fill)).collect();
        assert_eq!(looked, [(64, 0), (23, 41)]);
    }
}
