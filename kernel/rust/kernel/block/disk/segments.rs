// SPDX-License-Identifier: GPL-2.0

//! The memory of a request.

use crate::{
    bindings,
    page::{PAGE_SHIFT, PAGE_SIZE},
};
use core::ptr::NonNull;

/// Calls `f` for each piece of the `len` bytes at `offset` of the data of a request, in their
/// order, with a pointer to its bytes and how many they are; they are within one page.
///
/// The caller has checked that the request has so many bytes.
///
/// # Safety
///
/// `rq` must be a read or a write that was not ended. The pointers are valid for reads and writes
/// while `f` runs, on this task only; user space may access the same bytes at any time.
pub(super) unsafe fn for_each_piece(
    rq: NonNull<bindings::request>,
    offset: usize,
    len: usize,
    mut f: impl FnMut(*mut u8, usize),
) {
    let (mut skip, mut left) = (offset, len);
    // SAFETY: The request is valid, and keeps its bios until it is ended.
    let mut bio = unsafe { (*rq.as_ptr()).bio };
    while left != 0 && !bio.is_null() {
        // SAFETY: A bio of the request.
        let (vectors, iter) = unsafe { ((*bio).bi_io_vec, (*bio).bi_iter) };
        let mut size = iter.bi_size as usize;
        let mut index = iter.bi_idx as usize;
        let mut done = iter.bi_bvec_done as usize;
        if skip >= size {
            skip -= size;
            size = 0;
        }
        while left != 0 && size != 0 {
            // SAFETY: The vectors from `bi_idx` on have `bi_size` bytes behind `bi_bvec_done`.
            let vector = unsafe { &*vectors.add(index) };
            let here = (vector.bv_len as usize - done).min(size);
            if skip < here {
                let want = (here - skip).min(left);
                // SAFETY: The vector has that many bytes there.
                unsafe { map_pages(vector, done + skip, want, &mut f) };
                left -= want;
                skip = 0;
            } else {
                skip -= here;
            }
            size -= here;
            index += 1;
            done = 0;
        }
        // SAFETY: A bio of the request.
        bio = unsafe { (*bio).bi_next };
    }
}

/// # Safety
///
/// `vector` must describe valid pages, with `len` bytes at `offset`.
unsafe fn map_pages(
    vector: &bindings::bio_vec,
    offset: usize,
    len: usize,
    f: &mut impl FnMut(*mut u8, usize),
) {
    let mut at = vector.bv_offset as usize + offset;
    let end = at + len;
    while at != end {
        let within = at & (PAGE_SIZE - 1);
        let here = (PAGE_SIZE - within).min(end - at);
        // SAFETY: The pages of a vector are contiguous, and so are their descriptors. What is
        // mapped last is unmapped first.
        unsafe {
            let mapped = bindings::kmap_local_page(vector.bv_page.add(at >> PAGE_SHIFT));
            f(mapped.cast::<u8>().add(within), here);
            bindings::kunmap_local(mapped);
        }
        at += here;
    }
}
