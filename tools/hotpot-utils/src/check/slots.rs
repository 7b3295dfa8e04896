// SPDX-License-Identifier: GPL-2.0

//! Slots and the data pages that they describe.

use super::{records::Dataset, Failure, Part, Pass};
use crate::format::{
    crc32c,
    slot::{Slot, State},
    superblock::Chosen,
    word::StateWord,
    Geometry, LINE_SIZE, PAGE_BYTES, PAGE_SIZE,
};
use std::collections::{BTreeMap, BTreeSet};

const FREE: &str = "free the page; copies on other nodes stay";

/// For whom pages are staged, as far as their slots tell.
fn told(stagers: &BTreeSet<u16>) -> String {
    let known: Vec<String> = stagers
        .iter()
        .filter(|id| **id != 0)
        .map(u16::to_string)
        .collect();
    let others = if stagers.contains(&0) {
        " and others"
    } else {
        ""
    };
    match known.len() {
        0 => String::new(),
        1 => format!(", staged for node {}{others}", known[0]),
        _ => format!(", staged for nodes {}{others}", known.join(", ")),
    }
}

/// A slot in use.
struct Used {
    pm_page: u64,
    state: State,
    slot: Slot,
}

impl Pass<'_, '_> {
    /// Gives the highest counter of this node's CIDs.
    pub(super) fn slots(
        &mut self,
        chosen: &Chosen,
        datasets: &BTreeMap<u64, Dataset>,
    ) -> Result<u64, Failure> {
        let geometry = &chosen.superblock.geometry;
        let mut used = self.used_slots(geometry)?;
        let highest = used
            .iter()
            .filter(|used| used.slot.of.cid.node() == chosen.superblock.node)
            .map(|used| used.slot.of.cid.counter())
            .max()
            .unwrap_or(0);
        // Pages that belong nowhere any more, by dataset and reason.
        let mut outside: BTreeMap<(u64, &'static str), u64> = BTreeMap::new();
        let mut kept = Vec::with_capacity(used.len());
        for used in used.drain(..) {
            let of = &used.slot.of;
            let reason = match datasets.get(&of.dataset) {
                None => "no record here",
                Some(dataset) if dataset.removed => "removed",
                Some(dataset) if of.page >= dataset.nr_pages => "end",
                Some(_) => {
                    kept.push(used);
                    continue;
                }
            };
            let unfinished = !chosen.superblock.clean || used.state == State::Staged;
            if reason == "no record here" || unfinished {
                *outside.entry((of.dataset, reason)).or_default() += 1;
                kept.push(used);
                continue;
            }
            let name = datasets
                .get(&of.dataset)
                .map_or("", |dataset| dataset.name.as_str());
            let message = match reason {
                "removed" => format!(
                    "holds page {} of dataset {} ({name}), which was removed",
                    of.page, of.dataset
                ),
                _ => format!(
                    "holds page {} of dataset {} ({name}), beyond its end",
                    of.page, of.dataset
                ),
            };
            if self.repairable(Part::Page, Some(used.pm_page), message, "free it", false) {
                self.set_word(geometry.slot(used.pm_page), StateWord::FREE)?;
            } else {
                kept.push(used);
            }
        }
        for ((dataset, reason), pages) in outside {
            let message = match reason {
                "no record here" => format!(
                    "{pages} pages of dataset {dataset}, which has no record here: \
                     kept, mount asks the central dispatcher"
                ),
                "removed" => {
                    format!("{pages} pages of removed dataset {dataset}: mount frees them")
                }
                _ => format!("{pages} pages beyond the end of dataset {dataset}: mount frees them"),
            };
            self.note(Part::Page, None, message);
        }
        self.copies(chosen, kept)?;
        Ok(highest)
    }

    fn used_slots(&mut self, geometry: &Geometry) -> Result<Vec<Used>, Failure> {
        let mut used = Vec::new();
        let mut piece = vec![0; PAGE_SIZE * 16];
        let mut pm_page = 0;
        while pm_page < geometry.nr_pages() {
            let offset = geometry.slot(pm_page);
            let len = piece.len().min((geometry.slots.end() - offset) as usize);
            self.device.read(offset, &mut piece[..len])?;
            for line in piece[..len].chunks_exact(LINE_SIZE) {
                if pm_page == geometry.nr_pages() {
                    break;
                }
                match Slot::decode(pm_page, line) {
                    Ok(None) => {}
                    Ok(Some((state, slot))) => used.push(Used {
                        pm_page,
                        state,
                        slot,
                    }),
                    Err(damage) => {
                        let message = format!("its slot is damaged: {damage}");
                        self.damaged_slot(geometry, pm_page, message)?;
                    }
                }
                pm_page += 1;
            }
        }
        Ok(used)
    }

    fn damaged_slot(
        &mut self,
        geometry: &Geometry,
        pm_page: u64,
        message: String,
    ) -> Result<(), Failure> {
        let offset = geometry.slot(pm_page);
        let line = self.line(offset)?;
        let mut words = vec![StateWord::FREE];
        if let Ok(slot) = Slot::decode_body(pm_page, &line) {
            words.push(slot.of.word(pm_page, State::Staged));
            words.push(slot.of.word(pm_page, State::Committed));
        }
        let (word, repair, safe) = match Self::nearest(&line, &words) {
            Some(word) => (word, "set the flipped bits of the state word right", true),
            None => (StateWord::FREE, FREE, false),
        };
        if self.repairable(Part::Page, Some(pm_page), message, repair, safe) {
            self.set_word(offset, word)?;
        }
        Ok(())
    }

    /// Data of each page, and pages with more than one committed copy.
    fn copies(&mut self, chosen: &Chosen, mut used: Vec<Used>) -> Result<(), Failure> {
        let geometry = &chosen.superblock.geometry;
        // The copy that counts comes first: the highest version, and of two equal
        // ones the lower PM page.
        used.sort_unstable_by_key(|used| {
            let of = &used.slot.of;
            (
                of.dataset,
                of.page,
                used.state == State::Staged,
                std::cmp::Reverse(of.version),
                used.pm_page,
            )
        });
        let mut newest: Option<Used> = None;
        // Owners for which pages are staged; 0 for one that is not known.
        let mut stagers: BTreeSet<u16> = BTreeSet::new();
        for used in used {
            if used.state == State::Committed {
                if let Some(newest) = newest.as_ref().filter(|newest| {
                    newest.slot.of.dataset == used.slot.of.dataset
                        && newest.slot.of.page == used.slot.of.page
                }) {
                    self.superseded(chosen, newest, &used)?;
                    continue;
                }
            }
            let intact = self.data_is_intact(geometry, &used)?;
            let of = &used.slot.of;
            let mut freed = false;
            if !intact {
                let message = format!(
                    "data of page {} of dataset {}, version {}, do not match their checksum",
                    of.page, of.dataset, of.version
                );
                if self.repairable(Part::Page, Some(used.pm_page), message, FREE, false) {
                    self.set_word(geometry.slot(used.pm_page), StateWord::FREE)?;
                    freed = true;
                }
            }
            match used.state {
                _ if freed => {}
                State::Staged => {
                    self.report.summary.staged += 1;
                    stagers.insert(used.slot.stager.map_or(0, |of| of.owner));
                }
                State::Committed => self.report.summary.committed += 1,
            }
            if used.state == State::Committed {
                newest = Some(used);
            }
        }
        if self.report.summary.staged > 0 {
            let staged = self.report.summary.staged;
            self.note(
                Part::Page,
                None,
                format!(
                    "{staged} pages of commits in doubt{}: mount asks their owner nodes",
                    told(&stagers)
                ),
            );
        }
        Ok(())
    }

    /// `old` is a committed copy of the page of which `newest` counts.
    fn superseded(&mut self, chosen: &Chosen, newest: &Used, old: &Used) -> Result<(), Failure> {
        let (new, of) = (&newest.slot, &old.slot.of);
        let twice = new.of.version == of.version;
        // Who had it staged is no difference: one of them may have been fetched.
        let differs = twice && (new.of, new.data_crc) != (old.slot.of, old.slot.data_crc);
        if !chosen.superblock.clean && !twice {
            let message = format!(
                "version {} of page {} of dataset {}, superseded by version {} in page {}: \
                 mount frees it",
                of.version, of.page, of.dataset, new.of.version, newest.pm_page
            );
            self.note(Part::Page, Some(old.pm_page), message);
            return Ok(());
        }
        let message = format!(
            "version {} of page {} of dataset {}; version {} in page {} counts{}",
            of.version,
            of.page,
            of.dataset,
            new.of.version,
            newest.pm_page,
            if differs { ", and differs" } else { "" }
        );
        // A superseded version is of no use, whatever it holds.
        if self.repairable(
            Part::Page,
            Some(old.pm_page),
            message,
            "free the copy that does not count",
            !differs,
        ) {
            let offset = chosen.superblock.geometry.slot(old.pm_page);
            self.set_word(offset, StateWord::FREE)?;
        }
        Ok(())
    }

    fn data_is_intact(&self, geometry: &Geometry, used: &Used) -> Result<bool, Failure> {
        let mut data = [0; PAGE_BYTES as usize];
        self.device.read(geometry.page(used.pm_page), &mut data)?;
        Ok(crc32c(&data) == used.slot.data_crc)
    }
}
