//! How long changes take: histograms with a bucket for each power of two of microseconds.

use std::ops::Range;

use crate::error::ReadError;
use crate::latch::{Load, Store};
use crate::layout::{Layout, latency};
use crate::reader::Reader;
use crate::word::WordsMut;

/// A histogram of latencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many there were of each bucket: bucket 0 is less than a microsecond, bucket n from
    /// 2^(n-1) to less than 2^n microseconds, the last one everything above.
    pub buckets: [u64; latency::BUCKETS],
    /// All together, in microseconds.
    pub sum_us: u64,
    /// The longest, in microseconds.
    pub longest_us: u64,
}

impl Histogram {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        let add = |sum: u64, bucket: &u64| sum.saturating_add(*bucket);
        self.buckets.iter().fold(0, add)
    }

    /// The microseconds of a bucket; the last one ends with the longest there can be.
    #[must_use]
    pub fn bounds_us(bucket: usize) -> Range<u64> {
        let last = latency::BUCKETS - 1;
        let from = if bucket == 0 {
            0
        } else {
            1 << (bucket.min(last) - 1)
        };
        from..if bucket >= last {
            u64::MAX
        } else {
            1 << bucket
        }
    }

    /// Microseconds that `share` (0 to 1) of them did not take longer than, as well as buckets tell:
    /// never more than the longest. `None` when there was none.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut sum = 0u64;
        let bucket = self.buckets.iter().position(|bucket| {
            sum = sum.saturating_add(*bucket);
            sum >= rank
        })?;
        Some(Self::bounds_us(bucket).end.min(self.longest_us))
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Histogram) {
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.wrapping_add(*more);
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
        self.longest_us = self.longest_us.max(other.longest_us);
    }

    fn parse(load: impl Fn(usize) -> u64) -> Self {
        Histogram {
            buckets: std::array::from_fn(&load),
            sum_us: load(latency::SUM),
            longest_us: load(latency::LONGEST),
        }
    }
}

/// How long changes took on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// From the last byte of a source's answer to the publish.
    pub published: Histogram,
    /// From the publish until a worker routed by it, for each worker that there is, by slot.
    pub used: Vec<(u32, Histogram)>,
    /// The same of workers that are no more.
    pub gone: Histogram,
}

/// The bucket of a latency.
fn bucket(us: u64) -> usize {
    let bits = (u64::BITS - us.leading_zeros()) as usize;
    bits.min(latency::BUCKETS - 1)
}

/// Counts a latency in the histogram that begins at `first`, which this process alone writes.
pub(crate) fn note(words: &WordsMut, first: usize, ns: u64) {
    let us = ns / 1000;
    words.add_own(first + bucket(us), 1);
    words.add_own(first + latency::SUM, us);
    if us > words.load(first + latency::LONGEST) {
        words.store(first + latency::LONGEST, us);
    }
}

/// Empties a worker's histogram.
pub(crate) fn clear(words: &WordsMut, first: usize) {
    for word in 0..latency::WORDS {
        words.store(first + word, 0);
    }
}

/// Adds a dead worker's histogram to that of all dead ones, and clears it.
pub(crate) fn fold(words: &WordsMut, layout: &Layout, slot: u32) {
    let (from, to) = (layout.latency(slot), layout.latency(layout.folded()));
    carry((words, from), (words, to));
}

/// Adds a histogram to another one, and clears it.
pub(crate) fn carry((source, from): (&WordsMut, usize), (words, to): (&WordsMut, usize)) {
    let more = Histogram::parse(|word| source.load(from + word));
    clear(source, from);
    for (word, more) in more.buckets.iter().enumerate() {
        words.add_own(to + word, *more);
    }
    words.add_own(to + latency::SUM, more.sum_us);
    let longest = words.load(to + latency::LONGEST).max(more.longest_us);
    words.store(to + latency::LONGEST, longest);
}

impl Reader {
    /// How long changes took until they were published, and until each worker routed by them.
    pub fn latencies(&self) -> Result<Latencies, ReadError> {
        let histogram = |first: usize| {
            let words = self.words(first, latency::WORDS)?;
            Ok::<_, ReadError>(Histogram::parse(|word| words[word]))
        };
        let layout = self.layout();
        let mut used = Vec::new();
        for row in self.workers()? {
            used.push((row.slot, histogram(layout.latency(row.slot))?));
        }
        Ok(Latencies {
            published: histogram(layout.publishing())?,
            used,
            gone: histogram(layout.latency(layout.folded()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_latency_has_the_bucket_whose_bounds_hold_it() {
        for us in (0..70_000).chain([1 << 29, (1 << 30) - 1, 1 << 30, 1 << 40, u64::MAX - 1]) {
            assert!(Histogram::bounds_us(bucket(us)).contains(&us), "{us}");
        }
        assert_eq!(bucket(u64::MAX), latency::BUCKETS - 1);
    }

    #[test]
    fn a_quantile_is_the_end_of_its_bucket_but_never_beyond_the_longest() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), None);
        histogram.buckets[3] = 99;
        histogram.buckets[10] = 1;
        histogram.longest_us = 600;
        assert_eq!(histogram.count(), 100);
        for (share, us) in [(0.0, 8), (0.5, 8), (0.99, 8), (0.995, 600), (1.0, 600)] {
            assert_eq!(histogram.quantile_us(share), Some(us), "{share}");
        }
    }
}
