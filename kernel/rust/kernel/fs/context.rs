// SPDX-License-Identifier: GPL-2.0

//! Contexts in which file systems are mounted.
//!
//! C header: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h)

use super::{param, super_block, FileSystem, SuperBlock};
use crate::{
    bindings,
    error::{from_result, to_result},
    fmt,
    prelude::*,
    types::Opaque,
};
use core::marker::PhantomData;

/// A mount in the making, or a change of one.
///
/// # Invariants
///
/// The content is a valid `fs_context` of a file system of type `T`.
#[repr(transparent)]
pub struct FsContext<T: FileSystem> {
    inner: Opaque<bindings::fs_context>,
    _t: PhantomData<T>,
}

impl<T: FileSystem> FsContext<T> {
    /// # Safety
    ///
    /// `fc` must point at a valid `fs_context` of a file system of type `T`, for `'a`.
    pub(super) unsafe fn from_raw<'a>(fc: *mut bindings::fs_context) -> &'a Self {
        // SAFETY: By the requirements; the type is transparent.
        unsafe { &*fc.cast() }
    }

    /// Returns the device to mount, as the user named it.
    pub fn source(&self) -> Option<&CStr> {
        // SAFETY: By the type invariants; the source is set before the callbacks that get a
        // `&FsContext` are called, and stays until the context is freed.
        unsafe {
            let source = (*self.inner.get()).source;
            (!source.is_null()).then(|| CStr::from_char_ptr(source))
        }
    }

    fn log(&self, level: u8, args: fmt::Arguments<'_>) {
        // SAFETY: By the type invariants the log is valid or null, and both are allowed.
        // `%pA` takes a pointer to `fmt::Arguments`.
        unsafe {
            bindings::logfc(
                (*self.inner.get()).log.log,
                core::ptr::null(),
                level as c_char,
                c"%pA".as_char_ptr(),
                core::ptr::from_ref(&args).cast::<c_void>(),
            )
        };
    }

    /// Tells the user why the mount fails: in the context's log, or in the kernel's for mount(2).
    ///
    /// The message is one line, without a newline.
    pub fn error(&self, args: fmt::Arguments<'_>) {
        self.log(b'e', args);
    }

    /// Tells the user of something odd that does not stop the mount.
    pub fn warn(&self, args: fmt::Arguments<'_>) {
        self.log(b'w', args);
    }

    /// Tells the user something about the mount.
    pub fn info(&self, args: fmt::Arguments<'_>) {
        self.log(b'i', args);
    }

    /// Tells the user what is wrong with the arguments of the mount, and returns `EINVAL`.
    pub fn invalid(&self, args: fmt::Arguments<'_>) -> Error {
        self.error(args);
        EINVAL
    }
}

/// What `fs_context::fs_private` points at.
pub(super) struct State<T: FileSystem> {
    pub(super) options: T::Options,
    /// Set once a super block was filled from this context, so none was shared.
    pub(super) filled: bool,
}

/// Returns the state of a context.
///
/// # Safety
///
/// [`init_fs_context`] of the same `T` must have set up `fc`, and nobody else may use the state
/// during `'a`.
pub(super) unsafe fn state<'a, T: FileSystem>(fc: *mut bindings::fs_context) -> &'a mut State<T> {
    // SAFETY: By the requirements `fs_private` is the state, and we have it for ourselves.
    unsafe { &mut *(*fc).fs_private.cast() }
}

/// `file_system_type::init_fs_context`.
///
/// # Safety
///
/// Called by the VFS only, with a new context of a file system of type `T`.
pub(super) unsafe extern "C" fn init_fs_context<T: FileSystem>(
    fc: *mut bindings::fs_context,
) -> c_int {
    from_result(|| {
        let state = KBox::new(
            State::<T> {
                options: T::Options::default(),
                filled: false,
            },
            GFP_KERNEL,
        )?;
        // SAFETY: The VFS hands us a new context to fill.
        unsafe {
            (*fc).fs_private = KBox::into_raw(state).cast();
            (*fc).ops = &Operations::<T>::TABLE;
        }
        Ok(0)
    })
}

struct Operations<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    const TABLE: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(param::parse_param::<T>),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the VFS only, with a context that [`init_fs_context`] of the same `T` set up.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: The VFS calls this once for a context, as the last callback, so the state comes
        // from `init_fs_context` and nobody uses it.
        drop(unsafe { KBox::<State<T>>::from_raw((*fc).fs_private.cast()) });
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a context that [`init_fs_context`] of the same `T` set up.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a valid context; `fill_super` is for the same `T`.
            to_result(unsafe { bindings::get_tree_bdev(fc, Some(super_block::fill_super::<T>)) })?;

            // SAFETY: The VFS serialises the callbacks of a context.
            let state = unsafe { state::<T>(fc) };
            if state.filled {
                return Ok(0);
            }

            // SAFETY: `get_tree_bdev` succeeded, so the root is set, and its super block is live
            // and locked.
            let raw_sb = unsafe { (*(*fc).root).d_sb };
            // SAFETY: The super block is one of type `T`, as only those have our key, and it has
            // been filled, as it has a root.
            let sb = unsafe { SuperBlock::<T>::from_raw(raw_sb) };
            // SAFETY: The context is valid and for `T`.
            let context = unsafe { FsContext::from_raw(fc) };
            if let Err(error) = T::reuse(sb, &state.options, context) {
                // SAFETY: We give back what `get_tree_bdev` got for us: a reference to the root,
                // and the locked super block.
                unsafe {
                    bindings::dput((*fc).root);
                    (*fc).root = core::ptr::null_mut();
                    bindings::deactivate_locked_super(raw_sb);
                }
                return Err(error);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a context that [`init_fs_context`] of the same `T` set up.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> c_int {
        from_result(|| {
            // SAFETY: The VFS serialises the callbacks of a context.
            let state = unsafe { state::<T>(fc) };
            // SAFETY: A context for reconfiguration begins with the root of a live super block.
            let sb = unsafe { SuperBlock::<T>::from_raw((*(*fc).root).d_sb) };
            // SAFETY: The context is valid and for `T`.
            T::reconfigure(sb, &state.options, unsafe { FsContext::from_raw(fc) })?;
            Ok(0)
        })
    }
}
