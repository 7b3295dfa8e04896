// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/legomem/<name>: what a memory node holds and counts.

use crate::{
    core::{
        slow::Fast,
        wire::{Op, Status},
    },
    node::MemoryNode,
};
use kernel::{debugfs, fmt, prelude::*, sync::Arc};

/// The file, until this is dropped.
pub(crate) type Statistics = debugfs::File<Arc<MemoryNode>>;

impl MemoryNode {
    fn show(node: &Arc<MemoryNode>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stat = node.slow.lock().stat(node);
        let (stats, prepared, dirty, entries, table, dedup, spaces) = node.fast(|board| {
            (
                board.stats,
                board.free_pages().prepared(),
                board.free_pages().dirty(),
                board.table().len(),
                board.table().bytes(),
                board.dedup_bytes(),
                board.spaces().len(),
            )
        });
        writeln!(f, "page_size {}", 1u64 << stat.page_shift)?;
        writeln!(f, "pages {}", stat.pages)?;
        writeln!(f, "pages_free {}", stat.free)?;
        writeln!(f, "pages_prepared {prepared}")?;
        writeln!(f, "pages_dirty {dirty}")?;
        writeln!(f, "pages_promised {}", stat.promised)?;
        writeln!(f, "pages_limit {}", stat.limit)?;
        writeln!(f, "page_table_entries {entries}")?;
        writeln!(f, "page_table_bytes {table}")?;
        writeln!(f, "dedup_bytes {dedup}")?;
        // There is nothing of them.
        writeln!(f, "client_bytes 0")?;
        writeln!(f, "spaces {spaces}")?;
        writeln!(f, "regions {}", stat.regions)?;
        writeln!(f, "allowance_bytes {}", stat.allowance)?;
        writeln!(f, "draining {}", u8::from(stat.draining))?;
        for (name, count) in stats.named() {
            writeln!(f, "{name} {count}")?;
        }
        for (op, count) in Op::ALL.iter().zip(stats.ops) {
            writeln!(f, "op_{op:?} {count}")?;
        }
        for ((status, ..), count) in Status::TABLE.iter().zip(stats.statuses) {
            writeln!(f, "status_{status:?} {count}")?;
        }
        Ok(())
    }

    fn directory(&self) -> &debugfs::Dir {
        &self.queues.statistics
    }
}

/// Makes the file of a memory node.
pub(crate) fn publish(node: &Arc<MemoryNode>) -> Result<Pin<KBox<Statistics>>> {
    let file = node.directory().read_callback_file(
        node.name(),
        Ok::<_, Error>(node.clone()),
        &MemoryNode::show,
    );
    KBox::pin_init(file, GFP_KERNEL)
}
