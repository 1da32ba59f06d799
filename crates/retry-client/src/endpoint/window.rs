//! How many requests may be in flight at an endpoint that has come back.

/// A window as in TCP (RFC 5681, section 3.1). It grows by one for each response, so it doubles in a round of as many requests
/// as it allows. When more than a fifth of a round has failed, it was too large for the server: it is half of that, and then
/// grows by one in each round. Otherwise all that waited would fail one after the other, as quickly as the server can reject
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    size: u32,
    /// Its size at the beginning of the round.
    round: u32,
    responses: u32,
    failures: u32,
    was_too_large: bool,
}

/// How many requests may be in flight in the first round.
pub(crate) const INITIAL_WINDOW: u32 = 10;

impl Window {
    pub(crate) fn new() -> Self {
        Self { size: INITIAL_WINDOW, round: INITIAL_WINDOW, responses: 0, failures: 0, was_too_large: false }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Whether the server has rejected a part of a round.
    pub(crate) fn was_too_large(&self) -> bool {
        self.was_too_large
    }

    pub(crate) fn record_response(&mut self) {
        self.responses += 1;
        if !self.was_too_large {
            self.size = self.size.saturating_add(1);
        }
        self.end_round();
    }

    pub(crate) fn record_failure(&mut self) {
        self.failures += 1;
        self.end_round();
    }

    fn end_round(&mut self) {
        if self.responses + self.failures < self.round {
            return;
        }
        if self.failures > self.round / 5 {
            self.was_too_large = true;
            self.size = (self.round / 2).max(1);
        } else if self.was_too_large {
            self.size = self.size.saturating_add(1);
        }
        (self.round, self.responses, self.failures) = (self.size, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Passes rounds to a window, each with a number of failures, and compares its size after each.
    fn check(rounds: &[(u32, u32)]) {
        let mut window = Window::new();
        for &(failures, expected) in rounds {
            let size = window.size();
            (0..failures).for_each(|_| window.record_failure());
            (failures..size).for_each(|_| window.record_response());
            assert_eq!(window.size(), expected, "{failures} failures of {size} in {rounds:?}");
        }
    }

    #[test]
    fn the_window_doubles_until_more_than_a_fifth_fails_and_then_grows_by_one() {
        check(&[(0, 20), (0, 40), (8, 72), (0, 144)]);
        check(&[(2, 18), (4, 9), (0, 10), (2, 11), (3, 5), (0, 6)]);
        check(&[(10, 5), (5, 2), (2, 1), (1, 1), (1, 1), (0, 2), (0, 3)]);
    }

    proptest! {
        #[test]
        fn the_window_is_at_least_one_and_grows_by_at_most_one_for_each_response(
            outcomes in prop::collection::vec(any::<bool>(), 0..500),
        ) {
            let (mut window, mut responses) = (Window::new(), 0);
            for responded in outcomes {
                if responded {
                    responses += 1;
                    window.record_response();
                } else {
                    window.record_failure();
                }
                prop_assert!((1..=INITIAL_WINDOW + responses).contains(&window.size()));
            }
        }
    }
}
