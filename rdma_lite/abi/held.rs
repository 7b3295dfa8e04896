// SPDX-License-Identifier: GPL-2.0

//! Regions, locks and barriers in include/linux/rdma_lite.h: thin steps from C to the rest.
//!
//! A `struct lite_region` is a [`Mapping`] with a reference of the caller's, a `struct lite_lock` a
//! [`Held`] in a box of its own.

use super::{code, node};
use crate::{
    core::{
        holder::Name,
        region::{shares::Payer, wire::Request, Rights},
        sync::wire::What,
        Class,
    },
    node::Node,
    region::mapping::{deadline, Mapping},
    sync::{Held, Wish},
};
use kernel::{prelude::*, sync::Arc};

const KEEP: u32 = 1;
const TRY: u32 = 1;
const FOREVER: u32 = u32::MAX;

/// # Safety
///
/// `name` must be a string or null.
unsafe fn name_of(name: *const c_char) -> Result<Name> {
    if name.is_null() {
        return Ok(Name::NONE);
    }
    // SAFETY: A string, by this function's requirement.
    Name::new(unsafe { CStr::from_char_ptr(name) }.to_bytes())
}

fn node_id(id: u32) -> Result<u16> {
    u16::try_from(id).map_err(|_| EHOSTDOWN)
}

/// # Safety
///
/// `this` must be a node that the caller has, `out` writable.
unsafe fn make(
    this: *const Node,
    at: u32,
    request: Result<Request>,
    timeout_ms: u32,
    out: *mut *const Mapping,
) -> c_int {
    // SAFETY: By this function's requirement.
    let host = unsafe { node(this) }.host();
    let made = host.and_then(|host| {
        let until = deadline(&host, timeout_ms);
        Mapping::new(&host, node_id(at)?, request?, until)
    });
    // SAFETY: As above.
    code(made.map(|mapping| unsafe { out.write(Arc::into_raw(mapping)) }))
}

/// # Safety
///
/// `this` must be a node that the caller has, `name` a string or null, `out` writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_malloc(
    this: *const Node,
    at: u32,
    len: u64,
    name: *const c_char,
    others: u32,
    flags: u32,
    timeout_ms: u32,
    out: *mut *const Mapping,
) -> c_int {
    // SAFETY: As the caller promises.
    let request = unsafe { name_of(name) }.and_then(|name| {
        if flags & !KEEP != 0 {
            return Err(EINVAL);
        }
        Ok(Request::Alloc {
            len,
            others: Rights::new(others)?,
            keep: flags & KEEP != 0,
            payer: Payer::KERNEL,
            name,
        })
    });
    // SAFETY: As the caller promises.
    unsafe { make(this, at, request, timeout_ms, out) }
}

/// # Safety
///
/// `this` must be a node that the caller has, `name` a string, `out` writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_map(
    this: *const Node,
    at: u32,
    name: *const c_char,
    rights: u32,
    timeout_ms: u32,
    out: *mut *const Mapping,
) -> c_int {
    // SAFETY: As the caller promises.
    let request = unsafe { name_of(name) }.and_then(|name| {
        Ok(Request::Map {
            want: Rights::new(rights)?,
            name,
        })
    });
    // SAFETY: As the caller promises.
    unsafe { make(this, at, request, timeout_ms, out) }
}

/// # Safety
///
/// `region` must be from [`lite_malloc`] or [`lite_map`], and is not used any more.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_unmap(region: *const Mapping, timeout_ms: u32) -> c_int {
    // SAFETY: The reference that the caller was given.
    let mapping = unsafe { Arc::from_raw(region) };
    code(mapping.unmap(deadline(&mapping.host, timeout_ms)))
}

/// # Safety
///
/// `region` must be from [`lite_malloc`] or [`lite_map`]; when this succeeds it is not used any more.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_free(region: *const Mapping, timeout_ms: u32) -> c_int {
    // SAFETY: As the caller promises.
    let mapping = unsafe { &*region };
    let freed = mapping.free(deadline(&mapping.host, timeout_ms));
    if freed.is_ok() {
        // SAFETY: The reference that the caller was given.
        drop(unsafe { Arc::from_raw(region) });
    }
    code(freed)
}

/// # Safety
///
/// `region` must be one that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_grant(
    region: *const Mapping,
    to: u32,
    rights: u32,
    timeout_ms: u32,
) -> c_int {
    // SAFETY: As the caller promises.
    let mapping = unsafe { &*region };
    let until = deadline(&mapping.host, timeout_ms);
    let to = u16::try_from(to).map_err(|_| EINVAL);
    code(to.and_then(|to| mapping.grant(to, Rights::new(rights)?, until)))
}

/// # Safety
///
/// `region` must be one that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_region_set_high(region: *const Mapping, high: bool) {
    // SAFETY: As the caller promises.
    let mapping = unsafe { &*region };
    mapping.set_class(match high {
        true => Class::High,
        false => Class::Normal,
    });
}

/// # Safety
///
/// `region` must be one that the caller has, `buf` writable for `len` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_read(
    region: *const Mapping,
    offset: u64,
    buf: *mut u8,
    len: usize,
    timeout_ms: u32,
) -> c_int {
    // SAFETY: As the caller promises.
    let mapping = unsafe { &*region };
    let until = deadline(&mapping.host, timeout_ms);
    let mut to = buf;
    code(mapping.read(offset, len as u64, until, |bytes| {
        // SAFETY: All parts together are as long as the buffer.
        unsafe {
            ::core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            to = to.add(bytes.len());
        }
        Ok(())
    }))
}

/// # Safety
///
/// `region` must be one that the caller has, `buf` readable for `len` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_write(
    region: *const Mapping,
    offset: u64,
    buf: *const u8,
    len: usize,
    timeout_ms: u32,
) -> c_int {
    // SAFETY: As the caller promises.
    let mapping = unsafe { &*region };
    let until = deadline(&mapping.host, timeout_ms);
    let mut from = buf;
    code(mapping.write(offset, len as u64, until, |bytes| {
        // SAFETY: All parts together are as long as the buffer.
        unsafe {
            ::core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len());
            from = from.add(bytes.len());
        }
        Ok(())
    }))
}

/// # Safety
///
/// `region` must be one that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_memset(
    region: *const Mapping,
    offset: u64,
    value: u8,
    len: u64,
    timeout_ms: u32,
) -> c_int {
    // SAFETY: As the caller promises.
    let mapping = unsafe { &*region };
    let until = deadline(&mapping.host, timeout_ms);
    code(mapping.set(offset, len, value, until))
}

/// # Safety
///
/// Both regions must be such that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_memmove(
    to: *const Mapping,
    to_offset: u64,
    from: *const Mapping,
    from_offset: u64,
    len: u64,
    timeout_ms: u32,
) -> c_int {
    // SAFETY: As the caller promises.
    let (to, from) = unsafe { (&*to, &*from) };
    let until = deadline(&from.host, timeout_ms);
    code(from.copy_to(from_offset, to, to_offset, len, until))
}

/// # Safety
///
/// `region` must be one that the caller has, `old` writable or null.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_fetch_add(
    region: *const Mapping,
    offset: u64,
    add: u64,
    old: *mut u64,
    timeout_ms: u32,
) -> c_int {
    // SAFETY: As the caller promises.
    let mapping = unsafe { &*region };
    let until = deadline(&mapping.host, timeout_ms);
    code(mapping.fetch_add(offset, add, until).map(|was| {
        if !old.is_null() {
            // SAFETY: As the caller promises.
            unsafe { old.write(was) };
        }
    }))
}

/// # Safety
///
/// `region` must be one that the caller has, `expected` readable and writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_compare_swap(
    region: *const Mapping,
    offset: u64,
    expected: *mut u64,
    new: u64,
    timeout_ms: u32,
) -> c_int {
    // SAFETY: As the caller promises.
    let (mapping, expected) = unsafe { (&*region, &mut *expected) };
    let until = deadline(&mapping.host, timeout_ms);
    let swapped = mapping.compare_swap(offset, *expected, new, until);
    code(swapped.map(|was| *expected = was))
}

/// # Safety
///
/// `this` must be a node that the caller has, `name` a string.
unsafe fn enter(
    this: *const Node,
    at: u32,
    what: What,
    name: *const c_char,
    flags: u32,
    timeout_ms: u32,
) -> Result<Option<Held>> {
    // SAFETY: As the caller promises.
    let (host, name) = unsafe { (node(this).host()?, name_of(name)?) };
    if name.is_none() || flags & !TRY != 0 {
        return Err(EINVAL);
    }
    host.enter(Wish {
        owner: node_id(at)?,
        what,
        name,
        now_or_never: flags & TRY != 0,
        deadline: match timeout_ms {
            FOREVER => u64::MAX,
            ms => deadline(&host, ms),
        },
        class: Class::Normal,
    })
}

/// # Safety
///
/// `this` must be a node that the caller has, `name` a string, `out` writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_lock(
    this: *const Node,
    at: u32,
    name: *const c_char,
    flags: u32,
    timeout_ms: u32,
    out: *mut *mut Held,
) -> c_int {
    // SAFETY: As the caller promises.
    let entered = unsafe { enter(this, at, What::Lock, name, flags, timeout_ms) };
    let boxed = entered.and_then(|held| Ok(KBox::new(held.ok_or(EIO)?, GFP_KERNEL)?));
    // SAFETY: As the caller promises.
    code(boxed.map(|held| unsafe { out.write(KBox::into_raw(held)) }))
}

/// # Safety
///
/// `lock` must be from [`lite_lock`], and is not used any more.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_unlock(lock: *mut Held, timeout_ms: u32) -> c_int {
    // SAFETY: The box that the caller was given.
    let held = unsafe { KBox::from_raw(lock) };
    code(KBox::into_inner(held).leave(timeout_ms))
}

/// # Safety
///
/// `this` must be a node that the caller has, `name` a string.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_barrier(
    this: *const Node,
    at: u32,
    name: *const c_char,
    count: u32,
    timeout_ms: u32,
) -> c_int {
    let what = What::Barrier { count };
    // SAFETY: As the caller promises.
    code(unsafe { enter(this, at, what, name, 0, timeout_ms) }.map(|_| ()))
}
