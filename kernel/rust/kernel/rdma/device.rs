// SPDX-License-Identifier: GPL-2.0

//! Devices, protection domains and completion queues.

use crate::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        Arc, //
    },
    types::Opaque,
};
use core::ptr::{self, NonNull};

/// An RDMA device.
///
/// A reference keeps the device registered: its removal waits until all references are gone.
#[repr(transparent)]
pub struct Device(Opaque<bindings::ib_device>);

// SAFETY: The reference count is atomic, and any thread may drop a reference.
unsafe impl Send for Device {}
// SAFETY: Only attributes that do not change after registration are read through `&Device`.
unsafe impl Sync for Device {}

impl Device {
    /// Takes a reference to a device that is registered now; [`ENODEV`] when it is being removed.
    ///
    /// # Safety
    ///
    /// `raw` must point to an `ib_device` that is not freed during the call.
    pub(super) unsafe fn get(raw: *mut bindings::ib_device) -> Result<ARef<Self>> {
        let raw = NonNull::new(raw).ok_or(ENODEV)?;
        // SAFETY: The caller promises that the device is there.
        if !unsafe { bindings::ib_device_try_get(raw.as_ptr()) } {
            return Err(ENODEV);
        }
        // SAFETY: The reference that was just taken goes to the `ARef`.
        Ok(unsafe { ARef::from_raw(raw.cast()) })
    }

    #[inline]
    pub(super) fn as_raw(&self) -> *mut bindings::ib_device {
        self.0.get()
    }

    /// Whether this is the device's name at present.
    pub fn is_named(&self, name: &[u8]) -> bool {
        // SAFETY: The name is a NUL-terminated array inside the device. A device that is renamed
        // at the same time has either name or neither, and the array stays terminated.
        let own = unsafe { CStr::from_char_ptr((&raw const (*self.as_raw()).name).cast()) };
        own.to_bytes() == name
    }

    fn attrs(&self) -> &bindings::ib_device_attr {
        // SAFETY: Attributes are set before a device is registered and stay as they are.
        unsafe { &(*self.as_raw()).attrs }
    }

    /// The most work requests that one queue of a queue pair can hold.
    pub fn max_work_requests(&self) -> u32 {
        self.attrs().max_qp_wr.max(0) as u32
    }

    /// The most entries that a completion queue can hold.
    pub fn max_completions(&self) -> u32 {
        self.attrs().max_cqe.max(0) as u32
    }

    /// The most pages that one [`FastRegMr`](super::FastRegMr) can cover.
    pub fn max_fast_reg_pages(&self) -> u32 {
        self.attrs().max_fast_reg_page_list_len
    }

    /// The most RDMA reads and atomics that may be outstanding at a queue pair as a responder.
    pub fn max_responder_resources(&self) -> u8 {
        self.attrs().max_qp_rd_atom.clamp(0, 255) as u8
    }

    /// The most RDMA reads and atomics that a queue pair may have outstanding as an initiator.
    pub fn max_initiator_depth(&self) -> u8 {
        self.attrs().max_qp_init_rd_atom.clamp(0, 255) as u8
    }
}

// SAFETY: A device stays registered, and hence allocated, while its count is not zero.
unsafe impl AlwaysRefCounted for Device {
    fn inc_ref(&self) {
        // SAFETY: A shared reference means that the count is not zero, so this succeeds.
        unsafe { bindings::ib_device_try_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference that it owns.
        unsafe { bindings::ib_device_put(obj.cast().as_ptr()) };
    }
}

/// A protection domain: queue pairs and memory regions work together only inside one.
///
/// # Invariants
///
/// `raw` is a protection domain of `device` that nobody else frees.
pub struct Pd {
    raw: NonNull<bindings::ib_pd>,
    device: ARef<Device>,
}

// SAFETY: Verbs on a protection domain may be called by any thread.
unsafe impl Send for Pd {}
// SAFETY: As above, and concurrently.
unsafe impl Sync for Pd {}

impl Pd {
    /// Allocates a protection domain; `owner` names its user in `rdma resource show`.
    pub fn new(device: &Device, owner: &'static CStr) -> Result<Arc<Self>> {
        Self::with_flags(device, 0, owner)
    }

    /// Allocates a protection domain that has one key over all memory that the device reaches: see
    /// [`DmaBuffer::unsafe_remote_addr`]. [`EOPNOTSUPP`] when the device has no such keys.
    ///
    /// # Safety
    ///
    /// A peer that is connected to a queue pair of this domain, and knows or guesses the key, can
    /// read and write all of the kernel's memory. Each of them must be trusted to access only what
    /// it was told of, and only as long as that is meant for it.
    ///
    /// [`DmaBuffer::unsafe_remote_addr`]: super::DmaBuffer::unsafe_remote_addr
    pub unsafe fn with_unsafe_global_rkey(
        device: &Device,
        owner: &'static CStr,
    ) -> Result<Arc<Self>> {
        // SAFETY: Operations are set before a device is registered and stay as they are.
        if unsafe { (*device.as_raw()).ops.get_dma_mr }.is_none() {
            return Err(EOPNOTSUPP);
        }
        let flags = bindings::ib_pd_flags_IB_PD_UNSAFE_GLOBAL_RKEY;
        let this = Self::with_flags(device, flags, owner)?;
        // 0 is what it is without that flag: no key that peers could use.
        this.unsafe_global_rkey().ok_or(EOPNOTSUPP)?;
        Ok(this)
    }

    fn with_flags(device: &Device, flags: c_uint, owner: &'static CStr) -> Result<Arc<Self>> {
        // SAFETY: The device is registered, and the name is never freed.
        let raw = from_err_ptr(unsafe {
            bindings::__ib_alloc_pd(device.as_raw(), flags, owner.as_char_ptr())
        })?;
        // INVARIANT: Just allocated.
        let this = Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            device: device.into(),
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    /// The device it belongs to.
    pub fn device(&self) -> &Device {
        &self.device
    }

    #[inline]
    pub(super) fn as_raw(&self) -> *mut bindings::ib_pd {
        self.raw.as_ptr()
    }

    /// Key by which the device reaches memory that it was given the DMA address of.
    pub(super) fn local_dma_lkey(&self) -> u32 {
        // SAFETY: Valid by the type invariant; set when it was allocated and constant since.
        unsafe { (*self.as_raw()).local_dma_lkey }
    }

    /// Key by which peers reach all memory, if it was made with one.
    pub(super) fn unsafe_global_rkey(&self) -> Option<u32> {
        // SAFETY: Valid by the type invariant; set when it was allocated and constant since.
        let key = unsafe { (*self.as_raw()).unsafe_global_rkey };
        (key != 0).then_some(key)
    }
}

impl Drop for Pd {
    fn drop(&mut self) {
        // SAFETY: Queue pairs and memory regions hold an `Arc<Pd>`, so none are left.
        unsafe { bindings::ib_dealloc_pd_user(self.as_raw(), ptr::null_mut()) };
    }
}

/// Where completions are handled.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum PollContext {
    /// In softirq context: quickest, but handlers may not sleep and locks must cope with it.
    Softirq,
    /// In process context, on the processor that got the interrupt.
    Workqueue,
    /// In process context, on any processor.
    UnboundWorkqueue,
}

/// A completion queue.
///
/// # Invariants
///
/// `raw` is a completion queue of `_device` that nobody else frees, in use only by queue pairs that
/// hold an `Arc` of it.
pub struct CompletionQueue {
    raw: NonNull<bindings::ib_cq>,
    capacity: u32,
    _device: ARef<Device>,
}

// SAFETY: Verbs on a completion queue may be called by any thread.
unsafe impl Send for CompletionQueue {}
// SAFETY: As above, and concurrently.
unsafe impl Sync for CompletionQueue {}

impl CompletionQueue {
    /// Allocates a queue for `capacity` completions.
    pub fn new(
        device: &Device,
        capacity: u32,
        context: PollContext,
        owner: &'static CStr,
    ) -> Result<Arc<Self>> {
        if capacity == 0 || capacity > device.max_completions() {
            return Err(EINVAL);
        }
        let context = match context {
            PollContext::Softirq => bindings::ib_poll_context_IB_POLL_SOFTIRQ,
            PollContext::Workqueue => bindings::ib_poll_context_IB_POLL_WORKQUEUE,
            PollContext::UnboundWorkqueue => bindings::ib_poll_context_IB_POLL_UNBOUND_WORKQUEUE,
        };
        // SAFETY: The device is registered, the size fits it, and the name is never freed.
        let raw = from_err_ptr(unsafe {
            bindings::__ib_alloc_cq_any(
                device.as_raw(),
                ptr::null_mut(),
                capacity as c_int,
                context,
                owner.as_char_ptr(),
            )
        })?;
        // INVARIANT: Just allocated.
        let this = Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            capacity,
            _device: device.into(),
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    /// How many completions it was made for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    #[inline]
    pub(super) fn as_raw(&self) -> *mut bindings::ib_cq {
        self.raw.as_ptr()
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: Its queue pairs are gone, as they hold an `Arc` of it; this waits for polling.
        unsafe { bindings::ib_free_cq(self.as_raw()) };
    }
}
