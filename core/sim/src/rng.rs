//! Keyed randomness: every decision is a function of the seed, a stream and a counter.
//!
//! Nothing draws from a generator that others share, so leaving out one operation or fault of a
//! plan leaves all other decisions as they were. That is what makes a failing seed shrink.

/// What a stream of decisions is about. The discriminants are part of the meaning of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// The shape of the run: number of clients, weights, which faults.
    Plan = 1,
    /// What a client does; counted per client and operation.
    Client = 2,
    /// How bytes travel on a link.
    Link = 3,
    /// How long the store takes.
    Store = 4,
    /// What a power cut leaves.
    Disk = 5,
    /// When the server is given its turn.
    Server = 6,
    /// Faults.
    Fault = 7,
    /// Choices that a client makes when it connects.
    Connect = 8,
}

/// A generator for one place in a run.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator for the `counter`-th decision of the `index`-th thing of this stream.
    #[must_use]
    pub const fn keyed(seed: u64, stream: Stream, index: u64, counter: u64) -> Self {
        let mut state = mix(seed ^ 0x5a41_4252_415f_5349);
        state = mix(state ^ stream as u64);
        state = mix(state ^ index);
        state = mix(state ^ counter);
        Self { state }
    }

    /// The next 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a 128-bit product; the bias is irrelevant at our bounds.
        let product = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// An index into something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// True in `percent` of a hundred times.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these, or `None` if there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// The index of one of these weights, in proportion to them.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut rest = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if rest < *weight {
                return index;
            }
            rest -= weight;
        }
        0
    }
}

/// The finaliser of splitmix64.
const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Rng, Stream};

    #[test]
    fn a_decision_depends_on_its_key_only() {
        let draw = |counter| Rng::keyed(7, Stream::Client, 3, counter).bits();
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        assert_ne!(
            Rng::keyed(7, Stream::Client, 3, 5).bits(),
            Rng::keyed(7, Stream::Link, 3, 5).bits()
        );
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut seen = [false; 10];
        let mut rng = Rng::keyed(1, Stream::Plan, 0, 0);
        for _ in 0..1000 {
            let drawn = rng.index(10);
            if let Some(slot) = seen.get_mut(drawn) {
                *slot = true;
            }
        }
        assert_eq!(seen, [true; 10]);
        assert_eq!(rng.below(0), 0);
    }
}
