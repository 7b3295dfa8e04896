// SPDX-License-Identifier: GPL-2.0

//! What the host's tests cannot show: that the core means the same thing in the kernel, on its
//! real pages.

use kernel::prelude::*;

#[kunit_tests(legomem)]
mod tests {
    use super::super::{
        core::{
            board::{Board, Config},
            control::{Descriptor, Secret, VA_BASE},
            fast::Outcome,
            members::{Member, Members},
            pool::Pool,
            slow::{Fast, Slow, Stage},
            wire::{rights, Header, Op, Status},
        },
        pages::Pages,
        settings::Settings,
    };
    use kernel::{new_spinlock_bh, prelude::*, siphash::Key, sync::SpinLockBh};

    const SHIFT: u8 = 16;

    fn pages() -> Result<Pages> {
        let settings = Settings {
            size: 8 << SHIFT,
            page_shift: SHIFT,
            ..Settings::new()
        };
        Pages::new(c"kunit", &settings)
    }

    #[pin_data]
    struct Locked {
        #[pin]
        board: SpinLockBh<Board>,
    }

    impl Fast for Locked {
        fn fast<R>(&self, f: impl FnOnce(&mut Board) -> R) -> R {
            f(&mut self.board.lock())
        }
    }

    fn request(op: Op, id: u64, addr: u64, len: u32) -> Header {
        Header {
            node: 1,
            incarnation: 5,
            argument: 1024,
            ..Header::request(op, 7, id, addr, len)
        }
    }

    #[test]
    fn a_sealed_packet_verifies_with_its_key_only() {
        let key = Key::new([1, 2]);
        let packet = request(Op::Read, 1, VA_BASE, 16).seal(&key, &[]);
        assert!(Header::verify(&packet, &key).is_ok());
        assert!(Header::verify(&packet, &Key::new([2, 1])).is_err());
    }

    #[test]
    fn pages_are_zero_at_first_and_keep_what_is_written() -> Result {
        let pages = pages()?;
        let mut bytes = [1; 32];
        pages.read(7, 100, &mut bytes);
        assert_eq!(bytes, [0; 32]);
        pages.write(7, 100, &[9; 32]);
        pages.read(7, 100, &mut bytes);
        assert_eq!(bytes, [9; 32]);
        pages.zero(7, 0, 1 << SHIFT);
        pages.read(7, 100, &mut bytes);
        assert_eq!(bytes, [0; 32]);
        Ok(())
    }

    #[test]
    fn what_is_allocated_can_be_written_and_read_back() -> Result {
        let pages = pages()?;
        let config = Config {
            pages: pages.count(),
            page_shift: SHIFT,
            clean: pages.are_clean(),
            overcommit: 100,
            dedup: 64,
            spaces: 4,
            key: [3, 4],
        };
        let mut members = KVec::new();
        members.push(Member::new(1, 5), GFP_KERNEL)?;
        let mut board = Board::new(&config)?;
        drop(board.set_members(Members::new(0, members)));
        let fast = KBox::pin_init(
            pin_init!(Locked { board <- new_spinlock_bh!(board) }),
            GFP_KERNEL,
        )?;
        let mut slow = Slow::new(&config)?;
        let space = Descriptor {
            ras: 7,
            key: Secret([1, 2]),
            region_shift: 24,
            home: 1,
        };
        slow.grant(&*fast, &space, 0, 1 << 24, Stage::Live)?;
        let alloc = Header {
            argument: rights::ALL,
            operand: 4096,
            ..request(Op::Alloc, 1, VA_BASE, 0)
        };
        assert_eq!(slow.execute(&*fast, &pages, &alloc), (Status::Ok, VA_BASE));

        let mut reply = KVec::from_elem(0u8, 1024, GFP_KERNEL)?;
        let execute = |header: &Header, payload: &[u8], reply: &mut [u8]| match fast
            .fast(|board| board.execute(&pages, header, payload, 0, reply))
        {
            Outcome::Answer(answer) => Some((answer.header.status, answer.len)),
            Outcome::Worker(_) => None,
        };
        let write = request(Op::Write, 2, VA_BASE + 8, 5);
        assert_eq!(execute(&write, b"hello", &mut reply), Some((Status::Ok, 0)));
        let read = request(Op::Read, 3, VA_BASE + 7, 7);
        assert_eq!(execute(&read, &[], &mut reply), Some((Status::Ok, 7)));
        assert_eq!(reply.get(..7), Some(&b"\0hello\0"[..]));
        Ok(())
    }
}
