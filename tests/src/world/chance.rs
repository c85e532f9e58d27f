//! Every choice of a run, from one seed.

use martlet::entropy::Entropy;
use martlet_proto::{Incarnation, Secret};

/// A stream of choices.
pub(super) struct Chance(Entropy);

impl Chance {
    /// The choices of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(Entropy::from_seed(&Secret::new(bytes)))
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let wide = u64::from_le_bytes(self.0.bytes());
        usize::try_from(wide % u64::try_from(bound).unwrap()).unwrap()
    }

    /// Whether something happens that happens so many times in a hundred.
    pub(super) fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    /// One of some values; `None` if there are none.
    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        match from.len() {
            0 => None,
            len => Some(from[self.below(len)].clone()),
        }
    }

    /// Randomness for one turn of a core.
    pub(super) fn entropy(&mut self) -> Entropy {
        Entropy::from_seed(&self.0.secret())
    }

    /// The name of a channel's next life.
    pub(super) fn incarnation(&mut self) -> Incarnation {
        Incarnation::new(self.0.bytes())
    }
}
