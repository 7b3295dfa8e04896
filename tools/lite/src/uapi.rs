// SPDX-License-Identifier: GPL-2.0

//! include/uapi/linux/rdma_lite.h, field by field, as far as this crate uses it. A test compares sizes, places of
//! fields and numbers with what a C compiler makes of the header, which says what they mean.

#![allow(missing_docs)]

use nix::{request_code_read, request_code_readwrite, request_code_write};

pub const REGION_KEEP: u32 = 1;
pub const CALL_NOTIFY: u32 = 2;
pub const FETCH_ADD: u32 = 1;
pub const COMPARE_SWAP: u32 = 2;
pub const OP_READ: u32 = 1;
pub const OP_WRITE: u32 = 2;
/// Set bytes to a value.
pub const OP_FILL: u32 = 3;
/// Copy to another region.
pub const OP_COPY: u32 = 4;
/// Add to a word.
pub const OP_FETCH_ADD: u32 = 5;
/// Replace a word that is as expected.
pub const OP_COMPARE_SWAP: u32 = 6;
pub const ASYNC: u32 = 1;
pub const TRY: u32 = 1;
pub const FOREVER: u32 = u32::MAX;

macro_rules! structs {
    ($($name:ident = $c:literal { $($field:ident: $type:ty),* $(,)? })*) => {
        $(
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            pub struct $name {
                $(pub $field: $type),*
            }

            impl Default for $name {
                fn default() -> Self {
                    // SAFETY: Integers and arrays of them: zeroes are a value.
                    unsafe { std::mem::zeroed() }
                }
            }
        )*

        /// What the header calls the structs, their sizes, and the fields and where they are.
        #[cfg(test)]
        const STRUCTS: &[(&str, usize, &[(&str, usize)])] = &[$((
            $c,
            size_of::<$name>(),
            &[$((stringify!($field), std::mem::offset_of!($name, $field))),*],
        )),*];
    };
}

structs! {
    Info = "rdma_lite_info" {
        abi_version: u32,
        id: u32,
        epoch: u64,
        incarnation: u64,
        name: [u8; 64],
        cluster: [u8; 16],
        reserved: [u64; 4],
    }
    Port = "rdma_lite_port" {
        port: u32,
        flags: u32,
        requests: u32,
        reserved0: u32,
        bytes: u64,
        reserved: [u64; 2],
    }
    Receive = "rdma_lite_receive" {
        port: u32,
        flags: u32,
        timeout_ms: u32,
        status: i32,
        token: u64,
        reply: u64,
        reply_len: u64,
        buf: u64,
        len: u64,
        src: u32,
        reply_room: u32,
        src_incarnation: u64,
        epoch: u64,
        reserved: [u64; 2],
    }
    Reply = "rdma_lite_reply" {
        port: u32,
        status: i32,
        token: u64,
        buf: u64,
        len: u64,
        reserved: [u64; 2],
    }
    Call = "rdma_lite_call" {
        node: u32,
        port: u32,
        flags: u32,
        timeout_ms: u32,
        request: u64,
        request_len: u64,
        reply: u64,
        reply_len: u64,
        status: i32,
        err: i32,
        reserved: [u64; 2],
    }
    Region = "rdma_lite_region" {
        node: u32,
        rights: u32,
        flags: u32,
        timeout_ms: u32,
        len: u64,
        handle: u64,
        name: [u8; 64],
        reserved: [u64; 2],
    }
    Lend = "rdma_lite_lend" {
        addr: u64,
        len: u64,
        handle: u64,
        rights: u32,
        flags: u32,
        name: [u8; 64],
        reserved: [u64; 2],
    }
    Handle = "rdma_lite_handle" {
        handle: u64,
        timeout_ms: u32,
        flags: u32,
    }
    Grant = "rdma_lite_grant" {
        handle: u64,
        node: u32,
        rights: u32,
        timeout_ms: u32,
        flags: u32,
    }
    Io = "rdma_lite_io" {
        handle: u64,
        offset: u64,
        len: u64,
        buf: u64,
        done: u64,
        timeout_ms: u32,
        flags: u32,
    }
    Fill = "rdma_lite_fill" {
        handle: u64,
        offset: u64,
        len: u64,
        value: u32,
        timeout_ms: u32,
        reserved: u64,
    }
    Copying = "rdma_lite_copy" {
        from: u64,
        from_offset: u64,
        to: u64,
        to_offset: u64,
        len: u64,
        timeout_ms: u32,
        flags: u32,
    }
    Atomic = "rdma_lite_atomic" {
        handle: u64,
        offset: u64,
        operand: u64,
        expected: u64,
        old: u64,
        op: u32,
        timeout_ms: u32,
    }
    RegionInfo = "rdma_lite_region_info" {
        handle: u64,
        timeout_ms: u32,
        node: u32,
        rights: u32,
        others: u32,
        flags: u32,
        chunk_size: u32,
        len: u64,
        handles: u64,
        mmap_offset: u64,
        reserved: u64,
    }
    Op = "rdma_lite_op" {
        opcode: u32,
        segments: u32,
        handle: u64,
        offset: u64,
        len: u64,
        buf: u64,
        cookie: u64,
        done: u64,
        error: i32,
        flags: u32,
    }
    Submit = "rdma_lite_submit" {
        ops: u64,
        nr: u32,
        flags: u32,
        timeout_ms: u32,
        done: u32,
        reserved: [u64; 2],
    }
    Completion = "rdma_lite_completion" {
        cookie: u64,
        done: u64,
        error: i32,
        opcode: u32,
    }
    Poll = "rdma_lite_poll" {
        completions: u64,
        nr: u32,
        min: u32,
        timeout_ms: u32,
        flags: u32,
        reserved: [u64; 2],
    }
    Lock = "rdma_lite_lock" {
        node: u32,
        flags: u32,
        timeout_ms: u32,
        reserved: u32,
        handle: u64,
        grant: u64,
        name: [u8; 64],
    }
    Barrier = "rdma_lite_barrier" {
        node: u32,
        count: u32,
        timeout_ms: u32,
        flags: u32,
        name: [u8; 64],
    }
}

const MAGIC: u8 = 0xB6;

macro_rules! requests {
    ($($name:ident = $code:ident($nr:literal, $type:ty);)*) => {
        $(pub const $name: u64 = $code!(MAGIC, $nr, size_of::<$type>());)*

        /// By their names in the header, without the prefix.
        #[cfg(test)]
        const REQUESTS: &[(&str, u64)] = &[$((stringify!($name), $name)),*];
    };
}

requests! {
    INFO = request_code_read(0, Info);
    PORT_OPEN = request_code_write(16, Port);
    PORT_CLOSE = request_code_write(17, Port);
    RECEIVE = request_code_readwrite(18, Receive);
    REPLY = request_code_write(19, Reply);
    CALL = request_code_readwrite(20, Call);
    ALLOC = request_code_readwrite(32, Region);
    MAP = request_code_readwrite(33, Region);
    UNMAP = request_code_write(34, Handle);
    FREE = request_code_write(35, Handle);
    GRANT = request_code_write(36, Grant);
    READ = request_code_readwrite(37, Io);
    WRITE = request_code_readwrite(38, Io);
    FILL = request_code_write(39, Fill);
    COPY = request_code_write(40, Copying);
    ATOMIC = request_code_readwrite(41, Atomic);
    REGION = request_code_readwrite(42, RegionInfo);
    SUBMIT = request_code_readwrite(43, Submit);
    POLL = request_code_readwrite(44, Poll);
    LEND = request_code_readwrite(45, Lend);
    LOCK = request_code_readwrite(48, Lock);
    UNLOCK = request_code_write(49, Handle);
    BARRIER = request_code_write(50, Barrier);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fmt::Write, process::Command};

    #[test]
    fn structs_and_numbers_are_those_of_the_header() {
        let mut source = String::from(
            "#include <stddef.h>\n#include <linux/rdma_lite.h>\n\
             #define IS(a, b) _Static_assert((a) == (b), #a)\n",
        );
        for (name, size, fields) in STRUCTS {
            writeln!(source, "IS(sizeof(struct {name}), {size});").unwrap();
            for (field, at) in *fields {
                writeln!(source, "IS(offsetof(struct {name}, {field}), {at});").unwrap();
            }
        }
        for (name, number) in REQUESTS {
            writeln!(source, "IS(RDMA_LITE_IOC_{name}, {number}u);").unwrap();
        }
        let dir = std::env::temp_dir().join(format!("lite-uapi-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("header.c");
        std::fs::write(&file, source).unwrap();
        let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../../include/uapi");
        let built = Command::new("cc")
            .args(["-fsyntax-only", "-I", include])
            .arg(&file)
            .output();
        let _ = std::fs::remove_dir_all(&dir);
        match built {
            Ok(built) => assert!(
                built.status.success(),
                "{}",
                String::from_utf8_lossy(&built.stderr)
            ),
            Err(_) => eprintln!("no C compiler here: not compared"),
        }
    }
}
