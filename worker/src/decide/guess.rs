//! Guesses the next tokens of an answer from what was said before (prompt lookup: Saxena, 2023).
//!
//! Guessed tokens are computed beside the next one. Those that turn out to be what is chosen anyway are a step saved; the
//! others cost a little time and change nothing. So a sequence guesses only as long as that pays.

/// Tokens that must have occurred before, in this order, for what followed them to be guessed again.
const CONTEXT: usize = 3;

/// Tokens that are guessed at most.
const MOST: usize = 4;

/// Of the last guesses, the newest counts this much.
const NEWEST: f32 = 0.2;

/// Guesses go on while this share of them is right.
const WORTH: f32 = 0.4;

/// Answer tokens after which a sequence that guessed badly tries again.
const PAUSE: usize = 64;

/// How well the guesses of one sequence do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Luck {
    /// The share of guesses that were right, newer ones counted more.
    share: f32,
    /// Answer tokens until it may guess again.
    pause: usize,
}

impl Default for Luck {
    fn default() -> Self {
        Self { share: 0.7, pause: 0 }
    }
}

impl Luck {
    /// Tells what became of a step that made `made` tokens: how many were guessed and how many of these were right.
    pub fn learn(&mut self, guessed: usize, right: usize, made: usize) {
        self.pause = self.pause.saturating_sub(made);
        if guessed == 0 {
            return;
        }
        self.share += NEWEST * (right as f32 / guessed as f32 - self.share);
        if self.share < WORTH {
            // One lucky guess after the pause is enough to go on.
            *self = Self { share: WORTH, pause: PAUSE };
        }
    }

    /// The tokens that may follow `tokens`, at most `room` of them.
    pub fn guess<'a>(&self, tokens: &'a [u32], room: usize) -> &'a [u32] {
        if self.pause > 0 || tokens.len() <= CONTEXT {
            return &[];
        }
        let last = &tokens[tokens.len() - CONTEXT..];
        let before = tokens[..tokens.len() - 1].windows(CONTEXT).rposition(|window| window == last);
        let Some(start) = before.map(|at| at + CONTEXT) else { return &[] };
        &tokens[start..tokens.len().min(start + MOST.min(room))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_last_time_is_guessed() {
        let luck = Luck::default();
        assert_eq!(luck.guess(&[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], 10), [4, 5, 6, 7]);
        assert_eq!(luck.guess(&[1, 2, 3, 4, 1, 2, 3, 9, 8, 1, 2, 3], 2), [9, 8], "the newest, as far as there is room");
        assert_eq!(luck.guess(&[7, 7, 7, 7], 10), [7]);
        for nothing in [&[][..], &[1, 2, 3], &[1, 2, 3, 4, 5]] {
            assert!(luck.guess(nothing, 10).is_empty());
        }
        assert!(luck.guess(&[7, 7, 7, 7], 0).is_empty());
    }

    #[test]
    fn bad_guesses_pause_and_good_ones_go_on() {
        let tokens = [7; 10];
        let mut luck = Luck::default();
        for _ in 0..100 {
            luck.learn(4, 4, 5);
            assert!(!luck.guess(&tokens, 1).is_empty());
        }
        let mut bad = 0;
        while !luck.guess(&tokens, 1).is_empty() {
            luck.learn(4, 0, 1);
            bad += 1;
        }
        assert!((3..8).contains(&bad), "{bad} bad guesses");
        for _ in 0..PAUSE {
            assert!(luck.guess(&tokens, 1).is_empty());
            luck.learn(0, 0, 1);
        }
        assert!(!luck.guess(&tokens, 1).is_empty(), "it tries again");
    }
}
