// SPDX-License-Identifier: GPL-2.0

//! What the host's tests cannot show: that the core means the same thing in the
//! kernel.

use kernel::prelude::*;

#[kunit_tests(clio_cn)]
mod tests {
    use super::super::core::{
        cache::{Cache, Config, Policy, Touch},
        table::{Queue, Table},
        wire::{Header, Op, WireError, HEADER_LEN},
    };
    use kernel::{prelude::*, siphash::Key};

    #[test]
    fn a_sealed_packet_opens_with_its_key_only() -> Result {
        let header = Header {
            node: 1,
            incarnation: 1,
            ..Header::request(Op::Write, 7, 9, 1 << 40, 4)
        };
        let head = header.seal(&Key::new([1, 2]), b"word");
        let mut packet = KVec::with_capacity(HEADER_LEN + 4, GFP_KERNEL)?;
        packet.extend_from_slice(&head, GFP_KERNEL)?;
        packet.extend_from_slice(b"word", GFP_KERNEL)?;
        assert!(matches!(Header::parse(&packet), Ok((parsed, b"word")) if parsed == header));
        assert_eq!(Header::verify(&packet, &Key::new([1, 2])), Ok(()));
        assert_eq!(
            Header::verify(&packet, &Key::new([1, 3])),
            Err(WireError::Tag)
        );
        Ok(())
    }

    #[test]
    fn a_table_gives_back_what_it_has_no_room_for() -> Result {
        let mut table = Table::<u32, 1>::new(2)?;
        let first = table.insert(1).map_err(|_| ENOSPC)?;
        let second = table.insert(2).map_err(|_| ENOSPC)?;
        assert_eq!(table.insert(3), Err(3));
        let mut queue = Queue::<0>::default();
        queue.push(&mut table, second);
        queue.push(&mut table, first);
        assert_eq!(queue.pop(&mut table), Some(second));
        assert_eq!(table.remove(second), Some(2));
        assert_eq!(table.get(second), None);
        assert_eq!(queue.pop(&mut table), Some(first));
        Ok(())
    }

    #[test]
    fn the_page_that_came_first_goes_first() -> Result {
        let mut cache = Cache::new(Config {
            lines: 2,
            ways: 2,
            policy: Policy::Fifo,
        })?;
        for page in [1, 2] {
            let Touch::Fill(fill) = cache.touch(page, true) else {
                return Err(EINVAL);
            };
            cache.filled(&fill, true);
        }
        let Touch::Fill(fill) = cache.touch(3, false) else {
            return Err(EINVAL);
        };
        assert!(fill
            .victim
            .is_some_and(|victim| victim.page == 1 && victim.dirty));
        Ok(())
    }
}
