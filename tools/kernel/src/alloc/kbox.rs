// SPDX-License-Identifier: GPL-2.0

//! As `kernel::alloc::kbox`, without unsized contents.

use super::{allocator::*, inject, AllocError, Flags};
use std::{fmt, marker::PhantomData, mem::MaybeUninit, ops, pin::Pin};

/// A value in memory of its own.
pub struct Box<T, A>(std::boxed::Box<T>, PhantomData<A>);

/// In `kmalloc` memory.
pub type KBox<T> = Box<T, Kmalloc>;
/// In `vmalloc` memory.
pub type VBox<T> = Box<T, Vmalloc>;
/// In `kvmalloc` memory.
pub type KVBox<T> = Box<T, KVmalloc>;

impl<T, A> Box<T, A> {
    /// Moves `x` into new memory.
    pub fn new(x: T, _flags: Flags) -> Result<Self, AllocError> {
        inject::check()?;
        Ok(Self(std::boxed::Box::new(x), PhantomData))
    }

    /// New memory with nothing in it yet.
    pub fn new_uninit(_flags: Flags) -> Result<Box<MaybeUninit<T>, A>, AllocError> {
        inject::check()?;
        Ok(Box(std::boxed::Box::new(MaybeUninit::uninit()), PhantomData))
    }

    /// The value is not moved any more.
    pub fn into_pin(this: Self) -> Pin<std::boxed::Box<T>> {
        std::boxed::Box::into_pin(this.0)
    }

    /// Moves the value out.
    pub fn into_inner(b: Self) -> T {
        *b.0
    }
}

impl<T, A> Box<MaybeUninit<T>, A> {
    /// Puts a value in.
    pub fn write(self, value: T) -> Box<T, A> {
        Box(std::boxed::Box::new(value), PhantomData)
    }
}

impl<T, A> ops::Deref for Box<T, A> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, A> ops::DerefMut for Box<T, A> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: fmt::Debug, A> fmt::Debug for Box<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
