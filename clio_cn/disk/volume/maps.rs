// SPDX-License-Identifier: GPL-2.0

//! What maps say of the nodes of copies: one that is not there, or lives another life than the one
//! in which the copy was found there, has no copy any more.

use super::{super::copies::Place, Volume};
use crate::lite::{self, MapNotify, MapNotifyRegistration, Peer};
use kernel::{prelude::*, sync::Arc};

/// Hears of maps for a disk.
pub(in crate::disk) struct Watch(Arc<Volume>);

impl MapNotify for Watch {
    fn new_map(&self, epoch: u64) {
        if let Err(e) = self.0.take_map() {
            self.0.settings.warn(fmt!(
                "map {epoch} is not looked at ({e:?}): copies are left out when they do not answer"
            ));
        }
    }
}

impl Place {
    /// Whether the node is there, in the life in which the copy was found there.
    fn is_at(&self, peers: &[Peer]) -> bool {
        let known = |life: u64| life != 0 && self.incarnation != 0;
        peers.iter().any(|peer| {
            let same = peer.incarnation == self.incarnation || !known(peer.incarnation);
            peer.id == self.node && peer.state == lite::NODE_UP && same
        })
    }
}

impl Volume {
    /// Listens to maps, from the present one on.
    pub(in crate::disk) fn watch(self: &Arc<Self>) -> Result<MapNotifyRegistration<Watch>> {
        let watch = Arc::new(Watch(self.clone()), GFP_KERNEL)?;
        let registration = MapNotifyRegistration::new(self.station.node.clone(), watch)?;
        self.take_map()?;
        Ok(registration)
    }

    /// Leaves the copies out that the present map does not have.
    fn take_map(self: &Arc<Self>) -> Result {
        let (_, peers) = self.station.node.peers()?;
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            for place in state.places.iter().flatten() {
                if !place.is_at(&peers) {
                    state.core.node_down(place.node.into());
                }
            }
        }
        self.drive();
        self.station.go_on();
        Ok(())
    }
}
