// SPDX-License-Identifier: GPL-2.0

//! As `kernel::error`.

use crate::alloc::AllocError;
use std::{fmt, num::NonZeroI32, num::TryFromIntError};

/// Error codes: those of the kernel crate, and those that
/// `kernel/patches/0010-rust-error-….patch` adds to it.
#[rustfmt::skip]
pub mod code {
    macro_rules! declare_err {
        ($err:ident, $errno:literal, $doc:literal) => {
            #[doc = $doc]
            pub const $err: super::Error = super::Error::new($errno);
            #[cfg(test)]
            const _: () = assert!($errno > 0 && $errno <= super::MAX_ERRNO);
        };
    }

    declare_err!(EPERM, 1, "Operation not permitted.");
    declare_err!(ENOENT, 2, "No such file or directory.");
    declare_err!(ESRCH, 3, "No such process.");
    declare_err!(EINTR, 4, "Interrupted system call.");
    declare_err!(EIO, 5, "I/O error.");
    declare_err!(ENXIO, 6, "No such device or address.");
    declare_err!(E2BIG, 7, "Argument list too long.");
    declare_err!(ENOEXEC, 8, "Exec format error.");
    declare_err!(EBADF, 9, "Bad file number.");
    declare_err!(ECHILD, 10, "No child processes.");
    declare_err!(EAGAIN, 11, "Try again.");
    declare_err!(ENOMEM, 12, "Out of memory.");
    declare_err!(EACCES, 13, "Permission denied.");
    declare_err!(EFAULT, 14, "Bad address.");
    declare_err!(ENOTBLK, 15, "Block device required.");
    declare_err!(EBUSY, 16, "Device or resource busy.");
    declare_err!(EEXIST, 17, "File exists.");
    declare_err!(EXDEV, 18, "Cross-device link.");
    declare_err!(ENODEV, 19, "No such device.");
    declare_err!(ENOTDIR, 20, "Not a directory.");
    declare_err!(EISDIR, 21, "Is a directory.");
    declare_err!(EINVAL, 22, "Invalid argument.");
    declare_err!(ENFILE, 23, "File table overflow.");
    declare_err!(EMFILE, 24, "Too many open files.");
    declare_err!(ENOTTY, 25, "Not a typewriter.");
    declare_err!(ETXTBSY, 26, "Text file busy.");
    declare_err!(EFBIG, 27, "File too large.");
    declare_err!(ENOSPC, 28, "No space left on device.");
    declare_err!(ESPIPE, 29, "Illegal seek.");
    declare_err!(EROFS, 30, "Read-only file system.");
    declare_err!(EMLINK, 31, "Too many links.");
    declare_err!(EPIPE, 32, "Broken pipe.");
    declare_err!(EDOM, 33, "Math argument out of domain of func.");
    declare_err!(ERANGE, 34, "Math result not representable.");
    declare_err!(EOVERFLOW, 75, "Value too large for defined data type.");
    declare_err!(EMSGSIZE, 90, "Message too long.");
    declare_err!(ETIMEDOUT, 110, "Connection timed out.");
    declare_err!(ERESTARTSYS, 512, "Restart the system call.");
    declare_err!(ERESTARTNOINTR, 513, "System call was interrupted by a signal and will be restarted.");
    declare_err!(ERESTARTNOHAND, 514, "Restart if no handler.");
    declare_err!(ENOIOCTLCMD, 515, "No ioctl command.");
    declare_err!(ERESTART_RESTARTBLOCK, 516, "Restart by calling sys_restart_syscall.");
    declare_err!(EPROBE_DEFER, 517, "Driver requests probe retry.");
    declare_err!(EOPENSTALE, 518, "Open found a stale dentry.");
    declare_err!(ENOPARAM, 519, "Parameter not supported.");
    declare_err!(EBADHANDLE, 521, "Illegal NFS file handle.");
    declare_err!(ENOTSYNC, 522, "Update synchronization mismatch.");
    declare_err!(EBADCOOKIE, 523, "Cookie is stale.");
    declare_err!(ENOTSUPP, 524, "Operation is not supported.");
    declare_err!(ETOOSMALL, 525, "Buffer or request is too small.");
    declare_err!(ESERVERFAULT, 526, "An untranslatable error occurred.");
    declare_err!(EBADTYPE, 527, "Type not supported by server.");
    declare_err!(EJUKEBOX, 528, "Request initiated, but will not complete before timeout.");
    declare_err!(EIOCBQUEUED, 529, "iocb queued, will get completion event.");
    declare_err!(ERECALLCONFLICT, 530, "Conflict with recalled state.");
    declare_err!(ENOGRACE, 531, "NFS file lock reclaim refused.");

    // Added to the kernel crate by our patch.
    declare_err!(ENAMETOOLONG, 36, "File name too long.");
    declare_err!(ENOSYS, 38, "Invalid system call number.");
    declare_err!(ENOTEMPTY, 39, "Directory not empty.");
    declare_err!(ELOOP, 40, "Too many symbolic links encountered.");
    declare_err!(ENODATA, 61, "No data available.");
    declare_err!(EPROTO, 71, "Protocol error.");
    declare_err!(EBADMSG, 74, "Not a data message.");
    declare_err!(ENOTUNIQ, 76, "Name not unique on network.");
    declare_err!(EILSEQ, 84, "Illegal byte sequence.");
    declare_err!(EDESTADDRREQ, 89, "Destination address required.");
    declare_err!(EPROTONOSUPPORT, 93, "Protocol not supported.");
    declare_err!(EOPNOTSUPP, 95, "Operation not supported on transport endpoint.");
    declare_err!(EAFNOSUPPORT, 97, "Address family not supported by protocol.");
    declare_err!(EADDRINUSE, 98, "Address already in use.");
    declare_err!(EADDRNOTAVAIL, 99, "Cannot assign requested address.");
    declare_err!(ENETDOWN, 100, "Network is down.");
    declare_err!(ENETUNREACH, 101, "Network is unreachable.");
    declare_err!(ECONNABORTED, 103, "Software caused connection abort.");
    declare_err!(ECONNRESET, 104, "Connection reset by peer.");
    declare_err!(ENOBUFS, 105, "No buffer space available.");
    declare_err!(EISCONN, 106, "Transport endpoint is already connected.");
    declare_err!(ENOTCONN, 107, "Transport endpoint is not connected.");
    declare_err!(ESHUTDOWN, 108, "Cannot send after transport endpoint shutdown.");
    declare_err!(ECONNREFUSED, 111, "Connection refused.");
    declare_err!(EHOSTDOWN, 112, "Host is down.");
    declare_err!(EHOSTUNREACH, 113, "No route to host.");
    declare_err!(EALREADY, 114, "Operation already in progress.");
    declare_err!(EINPROGRESS, 115, "Operation now in progress.");
    declare_err!(ESTALE, 116, "Stale file handle.");
    declare_err!(EUCLEAN, 117, "Structure needs cleaning.");
    declare_err!(EREMOTEIO, 121, "Remote I/O error.");
    declare_err!(EDQUOT, 122, "Quota exceeded.");
    declare_err!(ENOMEDIUM, 123, "No medium found.");
    declare_err!(EMEDIUMTYPE, 124, "Wrong medium type.");
    declare_err!(ECANCELED, 125, "Operation Canceled.");
    declare_err!(ENOKEY, 126, "Required key not available.");
    declare_err!(EOWNERDEAD, 130, "Owner died.");
    declare_err!(EHWPOISON, 133, "Memory page has hardware error.");

    pub(super) const NAMES: &[(super::Error, &str)] = &[
        (EPERM, "EPERM"),
        (ENOENT, "ENOENT"),
        (ESRCH, "ESRCH"),
        (EINTR, "EINTR"),
        (EIO, "EIO"),
        (ENXIO, "ENXIO"),
        (E2BIG, "E2BIG"),
        (ENOEXEC, "ENOEXEC"),
        (EBADF, "EBADF"),
        (ECHILD, "ECHILD"),
        (EAGAIN, "EAGAIN"),
        (ENOMEM, "ENOMEM"),
        (EACCES, "EACCES"),
        (EFAULT, "EFAULT"),
        (ENOTBLK, "ENOTBLK"),
        (EBUSY, "EBUSY"),
        (EEXIST, "EEXIST"),
        (EXDEV, "EXDEV"),
        (ENODEV, "ENODEV"),
        (ENOTDIR, "ENOTDIR"),
        (EISDIR, "EISDIR"),
        (EINVAL, "EINVAL"),
        (ENFILE, "ENFILE"),
        (EMFILE, "EMFILE"),
        (ENOTTY, "ENOTTY"),
        (ETXTBSY, "ETXTBSY"),
        (EFBIG, "EFBIG"),
        (ENOSPC, "ENOSPC"),
        (ESPIPE, "ESPIPE"),
        (EROFS, "EROFS"),
        (EMLINK, "EMLINK"),
        (EPIPE, "EPIPE"),
        (EDOM, "EDOM"),
        (ERANGE, "ERANGE"),
        (EOVERFLOW, "EOVERFLOW"),
        (EMSGSIZE, "EMSGSIZE"),
        (ETIMEDOUT, "ETIMEDOUT"),
        (ERESTARTSYS, "ERESTARTSYS"),
        (ERESTARTNOINTR, "ERESTARTNOINTR"),
        (ERESTARTNOHAND, "ERESTARTNOHAND"),
        (ENOIOCTLCMD, "ENOIOCTLCMD"),
        (ERESTART_RESTARTBLOCK, "ERESTART_RESTARTBLOCK"),
        (EPROBE_DEFER, "EPROBE_DEFER"),
        (EOPENSTALE, "EOPENSTALE"),
        (ENOPARAM, "ENOPARAM"),
        (EBADHANDLE, "EBADHANDLE"),
        (ENOTSYNC, "ENOTSYNC"),
        (EBADCOOKIE, "EBADCOOKIE"),
        (ENOTSUPP, "ENOTSUPP"),
        (ETOOSMALL, "ETOOSMALL"),
        (ESERVERFAULT, "ESERVERFAULT"),
        (EBADTYPE, "EBADTYPE"),
        (EJUKEBOX, "EJUKEBOX"),
        (EIOCBQUEUED, "EIOCBQUEUED"),
        (ERECALLCONFLICT, "ERECALLCONFLICT"),
        (ENOGRACE, "ENOGRACE"),
        (ENAMETOOLONG, "ENAMETOOLONG"),
        (ENOSYS, "ENOSYS"),
        (ENOTEMPTY, "ENOTEMPTY"),
        (ELOOP, "ELOOP"),
        (ENODATA, "ENODATA"),
        (EPROTO, "EPROTO"),
        (EBADMSG, "EBADMSG"),
        (ENOTUNIQ, "ENOTUNIQ"),
        (EILSEQ, "EILSEQ"),
        (EDESTADDRREQ, "EDESTADDRREQ"),
        (EPROTONOSUPPORT, "EPROTONOSUPPORT"),
        (EOPNOTSUPP, "EOPNOTSUPP"),
        (EAFNOSUPPORT, "EAFNOSUPPORT"),
        (EADDRINUSE, "EADDRINUSE"),
        (EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (ENETDOWN, "ENETDOWN"),
        (ENETUNREACH, "ENETUNREACH"),
        (ECONNABORTED, "ECONNABORTED"),
        (ECONNRESET, "ECONNRESET"),
        (ENOBUFS, "ENOBUFS"),
        (EISCONN, "EISCONN"),
        (ENOTCONN, "ENOTCONN"),
        (ESHUTDOWN, "ESHUTDOWN"),
        (ECONNREFUSED, "ECONNREFUSED"),
        (EHOSTDOWN, "EHOSTDOWN"),
        (EHOSTUNREACH, "EHOSTUNREACH"),
        (EALREADY, "EALREADY"),
        (EINPROGRESS, "EINPROGRESS"),
        (ESTALE, "ESTALE"),
        (EUCLEAN, "EUCLEAN"),
        (EREMOTEIO, "EREMOTEIO"),
        (EDQUOT, "EDQUOT"),
        (ENOMEDIUM, "ENOMEDIUM"),
        (EMEDIUMTYPE, "EMEDIUMTYPE"),
        (ECANCELED, "ECANCELED"),
        (ENOKEY, "ENOKEY"),
        (EOWNERDEAD, "EOWNERDEAD"),
        (EHWPOISON, "EHWPOISON"),
    ];
}

const MAX_ERRNO: i32 = 4095;

/// A kernel error: an errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(NonZeroI32);

impl Error {
    const fn new(errno: i32) -> Self {
        match NonZeroI32::new(-errno) {
            Some(errno) => Self(errno),
            None => panic!("errno 0"),
        }
    }

    /// From a negative errno; out of range is a bug and gives `EINVAL`.
    pub fn from_errno(errno: crate::ffi::c_int) -> Error {
        match NonZeroI32::new(errno) {
            Some(value) if (-MAX_ERRNO..0).contains(&errno) => Self(value),
            _ => code::EINVAL,
        }
    }

    /// The negative errno.
    pub fn to_errno(self) -> crate::ffi::c_int {
        self.0.get()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match code::NAMES.iter().find(|(error, _)| error == self) {
            Some((_, name)) => f.write_str(name),
            None => f.debug_tuple("Error").field(&-self.0.get()).finish(),
        }
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Error {
        code::ENOMEM
    }
}

impl From<TryFromIntError> for Error {
    fn from(_: TryFromIntError) -> Error {
        code::EINVAL
    }
}

impl From<std::str::Utf8Error> for Error {
    fn from(_: std::str::Utf8Error) -> Error {
        code::EINVAL
    }
}

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Error {
        code::EINVAL
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(e: std::convert::Infallible) -> Error {
        match e {}
    }
}

/// As `kernel::error::Result`.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// A C return value: an error when negative.
pub fn to_result(err: crate::ffi::c_int) -> Result {
    if err < 0 {
        Err(Error::from_errno(err))
    } else {
        Ok(())
    }
}
