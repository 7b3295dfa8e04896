// SPDX-License-Identifier: GPL-2.0

//! What the host's tests cannot show: that the core means the same thing in the
//! kernel.

use kernel::prelude::*;

#[kunit_tests(hotpot)]
mod tests {
    use super::super::{
        core::{
            drive,
            format::{crc32c, Cid, Superblock, PAGE_SIZE},
        },
        uapi,
    };
    use kernel::prelude::*;

    #[test]
    fn checksums_are_those_of_every_other_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn a_device_of_zeros_has_no_superblock() -> Result {
        let zeros = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
        assert!(Superblock::decode(&zeros).is_err());
        Ok(())
    }

    #[test]
    fn a_commit_id_names_its_node_and_counts() {
        let cid = Cid::new(0xffff, Cid::MAX_COUNTER);
        assert_eq!(cid.node(), 0xffff);
        assert_eq!(cid.counter(), Cid::MAX_COUNTER);
    }

    #[test]
    fn an_operation_runs_to_its_end_in_the_calling_thread() -> Result {
        let mut operation = KBox::pin(async { 6 * 7 }, GFP_KERNEL)?;
        assert_eq!(drive(operation.as_mut())?, 42);
        Ok(())
    }

    #[test]
    fn an_operation_that_would_block_is_an_error_and_no_hang() -> Result {
        let mut operation = KBox::pin(::core::future::pending::<()>(), GFP_KERNEL)?;
        assert_eq!(drive(operation.as_mut()), Err(EIO));
        Ok(())
    }

    #[test]
    fn ioctl_numbers_are_those_of_the_header() {
        assert_eq!(uapi::IOC_COMMIT, 0xc030_b700);
        assert_eq!(uapi::IOC_SETUP, 0x4038_b701);
        assert_eq!(uapi::IOC_INFO, 0xc0a0_b702);
        assert_eq!(uapi::IOC_BARRIER, 0x4058_b703);
    }
}
