// SPDX-License-Identifier: GPL-2.0

//! A page on its way between the cache and a memory node.

use super::PAGE;
use crate::{
    core::{
        op::{Kind, NewOp},
        table::Key,
    },
    job::{Half, Job},
    session::Shared,
    station::Station,
};
use kernel::{
    mm::device_area::AreaPage,
    new_spinlock_bh,
    prelude::*,
    sync::{Arc, SpinLockBh, UniqueArc},
};

struct Back {
    /// Where the page that is read goes.
    read: Option<UniqueArc<AreaPage>>,
    result: Option<Result<u64>>,
}

#[pin_data]
pub(super) struct Transfer {
    shared: Arc<Shared>,
    kind: Kind,
    sent: KVVec<u8>,
    #[pin]
    back: SpinLockBh<Back>,
}

impl Transfer {
    /// `page` is written back; a page is read into `read`.
    pub(super) fn new(
        shared: Arc<Shared>,
        kind: Kind,
        page: Option<&[u8]>,
        read: Option<UniqueArc<AreaPage>>,
    ) -> Result<Arc<Self>> {
        let mut sent = KVVec::new();
        if let Some(page) = page {
            // It stays as it is until nobody sends it any more, whatever becomes of the page.
            sent.extend_from_slice(page, GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                shared,
                kind,
                sent,
                back <- new_spinlock_bh!(Back { read, result: None }, "clio_transfer"),
            }),
            GFP_KERNEL,
        )
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        station: &Arc<Station>,
        stream: Key,
        space: Key,
        addr: u64,
        until: u64,
    ) -> Result {
        station.submit(NewOp {
            stream,
            space,
            kind: self.kind,
            addr,
            len: PAGE,
            until,
            data: Half(self.clone()),
        })?;
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        self.back.lock().result.is_some()
    }

    /// What was read, once it is over.
    pub(super) fn finish(&self) -> Result<Option<UniqueArc<AreaPage>>> {
        let mut back = self.back.lock();
        back.result.unwrap_or(Err(EIO))?;
        Ok(back.read.take())
    }
}

impl Job for Transfer {
    fn bytes(&self) -> &[u8] {
        &self.sent
    }

    fn store(&self, offset: usize, bytes: &[u8]) {
        let mut back = self.back.lock();
        let end = offset.saturating_add(bytes.len());
        let room = back.read.as_mut();
        if let Some(to) = room.and_then(|frame| frame.bytes().get_mut(offset..end)) {
            to.copy_from_slice(bytes);
        }
    }

    fn done(&self, result: Result<u64>) {
        self.back.lock().result = Some(result);
        self.shared.ended();
    }
}
