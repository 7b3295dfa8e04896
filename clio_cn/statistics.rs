// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/clio_cn/<node id>: what the engine of a node does, and how it sees the memory
//! nodes.

use crate::station::Station;
use kernel::{debugfs, fmt, prelude::*, str::CString, sync::Arc};

/// The file, until this is dropped.
pub(crate) type Statistics = debugfs::File<Arc<Station>>;

fn show(station: &Arc<Station>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (stats, outstanding, dropped) = station.figures();
    writeln!(f, "operations_submitted {}", stats.submitted)?;
    writeln!(f, "operations_done {}", stats.done)?;
    writeln!(f, "operations_failed {}", stats.failed)?;
    writeln!(f, "operations_blocked {}", stats.blocked)?;
    writeln!(f, "operations_outstanding {outstanding}")?;
    writeln!(f, "packets {}", stats.packets)?;
    writeln!(f, "packets_retried {}", stats.retries)?;
    writeln!(f, "packets_dropped {dropped}")?;
    writeln!(f, "answers_stray {}", stats.stray)?;
    writeln!(f, "requests_moved {}", stats.moved)?;
    writeln!(f, "requests_paused {}", stats.paused)?;
    // One after the other, so that no lock is held over printing.
    for at in 0.. {
        let Some(peer) = station.peer_figures(at) else {
            break;
        };
        writeln!(
            f,
            "node {} up {} rtt_ns {} rtt_shortest_ns {} window_milli {} outstanding {}",
            peer.id,
            u8::from(peer.up),
            peer.rtt,
            peer.shortest,
            peer.window,
            peer.outstanding
        )?;
    }
    Ok(())
}

/// Makes the file of a station in a directory.
pub(crate) fn publish(
    directory: &debugfs::Dir,
    station: &Arc<Station>,
) -> Result<Pin<KBox<Statistics>>> {
    let name = CString::try_from_fmt(fmt!("{}", station.node.id()))?;
    let file = directory.read_callback_file(&name, Ok::<_, Error>(station.clone()), &show);
    KBox::pin_init(file, GFP_KERNEL)
}
