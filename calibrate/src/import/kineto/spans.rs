//! Stretches of time, in whole nanoseconds: from `.0` until before `.1`.

/// A stretch of time.
pub(super) type Span = (i64, i64);

/// How long it is from `from` to `to`; nothing if that is backwards.
pub(super) fn between(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// The stretches that any of `spans` covers within `bounds`, in order, none touching another.
pub(super) fn union(spans: impl IntoIterator<Item = Span>, bounds: Span) -> Vec<Span> {
    let mut clipped: Vec<Span> = spans
        .into_iter()
        .map(|(from, to)| (from.max(bounds.0), to.min(bounds.1)))
        .filter(|(from, to)| from < to)
        .collect();
    clipped.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (from, to) in clipped {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// What of `spans` no hole covers; both in order, as [`union`] gives them.
pub(super) fn without(spans: &[Span], holes: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    let mut first_hole = 0;
    for &(mut from, to) in spans {
        while holes.get(first_hole).is_some_and(|hole| hole.1 <= from) {
            first_hole += 1;
        }
        for hole in holes[first_hole..].iter().take_while(|hole| hole.0 < to) {
            if hole.0 > from {
                left.push((from, hole.0));
            }
            from = from.max(hole.1);
        }
        if from < to {
            left.push((from, to));
        }
    }
    left
}

/// How long all are together.
pub(super) fn length(spans: &[Span]) -> u64 {
    spans.iter().map(|span| between(span.0, span.1)).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_by_hand() {
        let joined = union([(5, 9), (0, 2), (8, 12), (2, 3), (20, 30), (4, 4)], (1, 25));
        assert_eq!(joined, [(1, 3), (5, 12), (20, 25)]);
        assert_eq!(length(&joined), 14);
        let left = without(&joined, &[(0, 2), (6, 7), (8, 9), (11, 22)]);
        assert_eq!(left, [(2, 3), (5, 6), (7, 8), (9, 11), (22, 25)]);
        assert_eq!(without(&[(0, 4), (6, 8)], &[(3, 7)]), [(0, 3), (7, 8)]);
        assert_eq!(between(5, 3), 0);
    }
}
