//! Where words go, so that they cover neither each other nor what they are about.

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) left: i32,
    pub(super) top: i32,
    pub(super) right: i32,
    pub(super) bottom: i32,
}

impl Rect {
    pub(super) const fn around((x, y): (i32, i32), half: i32) -> Self {
        Self { left: x - half, top: y - half, right: x + half, bottom: y + half }
    }

    /// Pixels that both cover.
    pub(super) fn common(&self, other: &Self) -> i32 {
        let across = self.right.min(other.right) - self.left.max(other.left);
        let down = self.bottom.min(other.bottom) - self.top.max(other.top);
        across.max(0) * down.max(0)
    }

    fn is_within(&self, outer: &Self) -> bool {
        self.left >= outer.left
            && self.top >= outer.top
            && self.right <= outer.right
            && self.bottom <= outer.bottom
    }

    /// The point of it that is nearest to `point`.
    pub(super) fn nearest(&self, (x, y): (i32, i32)) -> (i32, i32) {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }
}

/// Something to be placed: where it may be, the best place first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Want {
    pub(super) places: Vec<Rect>,
    /// It is placed even where it covers something.
    pub(super) needed: bool,
}

/// Worse than covering any lines.
const WORDS: i64 = 100_000;
/// Worse than covering any words.
const OUTSIDE: i64 = 1_000_000_000;
/// What is not needed may cover so much.
const LITTLE: i64 = 12;
/// What a place costs more than the one before it; covering a piece of a line costs its weight.
const LATER: i64 = 1;

/// Places each want in turn; `busy` is what should not be covered, with what covering it costs.
pub(super) fn place(wants: &[Want], busy: &[(Rect, i64)], bounds: Rect) -> Vec<Option<Rect>> {
    let mut placed: Vec<Option<Rect>> = Vec::new();
    for want in wants {
        let cost = |place: &Rect| {
            let words = placed.iter().flatten().filter(|other| other.common(place) > 0).count();
            let lines: i64 =
                busy.iter().filter(|(rect, _)| rect.common(place) > 0).map(|(_, cost)| cost).sum();
            let outside = if place.is_within(&bounds) { 0 } else { OUTSIDE };
            words as i64 * WORDS + lines + outside
        };
        let costs = want.places.iter().enumerate();
        let best = costs
            .map(|(index, place)| (cost(place), LATER * index as i64, *place))
            .min_by_key(|(covered, later, _)| covered + later)
            .filter(|(covered, ..)| want.needed || *covered <= LITTLE)
            .map(|(.., place)| place);
        placed.push(best);
    }
    placed
}

/// Places around a point for words of a size, the nearest first.
pub(super) fn beside((x, y): (i32, i32), (width, height): (i32, i32), gaps: &[i32]) -> Vec<Rect> {
    let at = |left: i32, top: i32| Rect { left, top, right: left + width, bottom: top + height };
    let mut places = Vec::new();
    for &gap in gaps {
        let slant = gap * 7 / 10;
        places.extend([
            at(x + slant, y - slant - height),
            at(x + slant, y + slant),
            at(x + gap, y - height / 2),
            at(x - width / 2, y - gap - height),
            at(x - width / 2, y + gap),
            at(x - slant - width, y - slant - height),
            at(x - slant - width, y + slant),
            at(x - gap - width, y - height / 2),
        ]);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Rect = Rect { left: 0, top: 0, right: 200, bottom: 100 };

    fn want(at: (i32, i32), needed: bool) -> Want {
        Want { places: beside(at, (60, 20), &[10, 30, 60]), needed }
    }

    #[test]
    fn words_of_one_point_do_not_cover_each_other() {
        let placed = place(&vec![want((100, 50), true); 6], &[], BOUNDS);
        for (index, one) in placed.iter().flatten().enumerate() {
            assert!(one.is_within(&BOUNDS), "{one:?}");
            for other in placed[..index].iter().flatten() {
                assert_eq!(one.common(other), 0, "{one:?} {other:?}");
            }
        }
        assert_eq!(placed.iter().flatten().count(), 6);
    }

    #[test]
    fn words_keep_off_lines_or_are_left_out() {
        let line: Vec<(Rect, i64)> = (0..40).map(|i| (Rect::around((5 * i, 40), 3), 30)).collect();
        let placed = place(&[want((100, 50), true)], &line, BOUNDS);
        assert!(placed[0].is_some_and(|one| line.iter().all(|(piece, _)| piece.common(&one) == 0)));
        let all = [(BOUNDS, 30)];
        assert_eq!(place(&[want((100, 50), false)], &all, BOUNDS), [None]);
        assert!(place(&[want((100, 50), true)], &all, BOUNDS)[0].is_some());
    }

    #[test]
    fn leaders_end_at_the_nearest_edge() {
        let rect = Rect { left: 10, top: 10, right: 20, bottom: 20 };
        assert_eq!(rect.nearest((0, 15)), (10, 15));
        assert_eq!(rect.nearest((30, 40)), (20, 20));
    }
}
