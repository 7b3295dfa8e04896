// SPDX-License-Identifier: GPL-2.0

//! Pages that were allocated here and never written back: they are zeros at the
//! memory node, so their first touch needs no round trip.

use kernel::prelude::*;

#[derive(Debug)]
struct Extent {
    first: u64,
    count: u64,
    /// A bit for each page that is fresh.
    bits: KVVec<u64>,
}

impl Extent {
    fn bit(&self, page: u64) -> Option<(usize, u64)> {
        let at = page.checked_sub(self.first)?;
        (at < self.count).then_some(((at / 64) as usize, 1 << (at % 64)))
    }
}

#[derive(Debug)]
pub(super) struct Fresh(KVec<Extent>);

impl Fresh {
    pub(super) const fn new() -> Self {
        Self(KVec::new())
    }

    /// `EINVAL` if there is no such range.
    pub(super) fn add(&mut self, first: u64, count: u64) -> Result {
        if count == 0 || first.checked_add(count).is_none() {
            return Err(EINVAL);
        }
        let words = usize::try_from(count.div_ceil(64)).map_err(|_| EINVAL)?;
        self.clear(first, count);
        self.0
            .retain(|extent| extent.bits.iter().any(|word| *word != 0));
        let mut bits = KVVec::from_elem(u64::MAX, words, GFP_KERNEL)?;
        if let (Some(last), rest @ 1..) = (bits.last_mut(), count % 64) {
            *last = (1 << rest) - 1;
        }
        self.0.push(Extent { first, count, bits }, GFP_KERNEL)?;
        Ok(())
    }

    pub(super) fn contains(&self, page: u64) -> bool {
        self.0.iter().any(|extent| {
            extent.bit(page).is_some_and(|(word, bit)| {
                extent.bits.get(word).is_some_and(|bits| bits & bit != 0)
            })
        })
    }

    pub(super) fn clear(&mut self, first: u64, count: u64) {
        let end = first.saturating_add(count);
        for extent in self.0.iter_mut() {
            let from = first.max(extent.first);
            let to = end.min(extent.first.saturating_add(extent.count));
            for page in from..to.max(from) {
                if let Some((word, bit)) = extent.bit(page) {
                    if let Some(bits) = extent.bits.get_mut(word) {
                        *bits &= !bit;
                    }
                }
            }
        }
    }
}
