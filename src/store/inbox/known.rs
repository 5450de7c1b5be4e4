//! Which deliveries came not long ago: those may come again, and then their sender is told what became of them. To all others
//! the answer needs no look into the database.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::super::model::DeliveryKey;

/// Deliveries that are remembered; a new one takes the place of the oldest.
const REMEMBERED: usize = 16 * 1024;

/// Hashes of ids, with a seed of its own. Two ids with one hash cost a look into the database, nothing else.
#[derive(Debug, Default)]
pub(super) struct Known {
    hasher: RandomState,
    memory: Mutex<(HashSet<u64>, VecDeque<u64>)>,
}

impl Known {
    pub(super) fn add(&self, key: &DeliveryKey) {
        let hash = self.hash(key);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (hashes, order) = &mut *memory;
        if hashes.insert(hash) {
            order.push_back(hash);
            if order.len() > REMEMBERED
                && let Some(oldest) = order.pop_front()
            {
                hashes.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, key: &DeliveryKey) -> bool {
        let hash = self.hash(key);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).0.contains(&hash)
    }

    fn hash(&self, key: &DeliveryKey) -> u64 {
        self.hasher.hash_one(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let key = |n: usize| DeliveryKey { forge: "github".into(), id: n.to_string() };
        let known = Known::default();
        (0..=REMEMBERED).for_each(|n| known.add(&key(n)));
        assert_eq!(
            (known.contains(&key(0)), known.contains(&key(1)), known.contains(&key(REMEMBERED))),
            (false, true, true)
        );
        known.add(&key(1));
        assert_eq!(known.memory.lock().map(|memory| memory.1.len()).unwrap_or_default(), REMEMBERED);
    }
}
