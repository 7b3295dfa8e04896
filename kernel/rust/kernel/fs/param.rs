// SPDX-License-Identifier: GPL-2.0

//! Mount options.
//!
//! C header: [`include/linux/fs_parser.h`](srctree/include/linux/fs_parser.h)

use super::context::{self, FsContext};
use super::FileSystem;
use crate::{bindings, error::to_result, prelude::*};

/// A mount option of a file system: its name, its type, and the function that stores its value.
///
/// A setter that fails makes the mount fail with its error and "Bad value for 'name'".
///
/// # Examples
///
/// ```
/// use kernel::{fs::Parameter, prelude::*};
///
/// #[derive(Default)]
/// struct Options {
///     replicas: u32,
///     log_size: u64,
///     scrub: bool,
/// }
///
/// const PARAMETERS: &[Parameter<Options>] = &[
///     Parameter::u32(c"replicas", |options, value| {
///         if value == 0 {
///             return Err(EINVAL);
///         }
///         options.replicas = value;
///         Ok(())
///     }),
///     Parameter::size(c"log_size", |options, value| {
///         options.log_size = value;
///         Ok(())
///     }),
///     Parameter::flag(c"scrub", |options| {
///         options.scrub = true;
///         Ok(())
///     }),
/// ];
/// # assert_eq!(PARAMETERS.len(), 3);
/// # assert_eq!(Options::default().log_size, 0);
/// ```
pub struct Parameter<O: 'static> {
    name: &'static CStr,
    kind: Kind<O>,
}

enum Kind<O: 'static> {
    Flag(fn(&mut O) -> Result),
    String(fn(&mut O, &CStr) -> Result),
    U32(fn(&mut O, u32) -> Result),
    U64(fn(&mut O, u64) -> Result),
    Size(fn(&mut O, u64) -> Result),
    Enum(&'static [(&'static CStr, u32)], fn(&mut O, u32) -> Result),
}

impl<O> Parameter<O> {
    /// An option without a value.
    pub const fn flag(name: &'static CStr, set: fn(&mut O) -> Result) -> Self {
        Self {
            name,
            kind: Kind::Flag(set),
        }
    }

    /// An option whose value is a string, not empty.
    pub const fn string(name: &'static CStr, set: fn(&mut O, &CStr) -> Result) -> Self {
        Self {
            name,
            kind: Kind::String(set),
        }
    }

    /// An option whose value is a number, decimal or with 0x or 0 in front.
    pub const fn u32(name: &'static CStr, set: fn(&mut O, u32) -> Result) -> Self {
        Self {
            name,
            kind: Kind::U32(set),
        }
    }

    /// An option whose value is a number of 64 bits.
    pub const fn u64(name: &'static CStr, set: fn(&mut O, u64) -> Result) -> Self {
        Self {
            name,
            kind: Kind::U64(set),
        }
    }

    /// An option whose value is a number of bytes, with a suffix of K, M, G, T, P or E if any.
    pub const fn size(name: &'static CStr, set: fn(&mut O, u64) -> Result) -> Self {
        Self {
            name,
            kind: Kind::Size(set),
        }
    }

    /// An option whose value is one of several words, each with the number handed to `set`.
    pub const fn one_of(
        name: &'static CStr,
        words: &'static [(&'static CStr, u32)],
        set: fn(&mut O, u32) -> Result,
    ) -> Self {
        Self {
            name,
            kind: Kind::Enum(words, set),
        }
    }

    fn type_(&self) -> bindings::fs_param_type {
        match self.kind {
            Kind::Flag(_) => None,
            Kind::U32(_) => Some(bindings::fs_param_is_u32),
            Kind::U64(_) => Some(bindings::fs_param_is_u64),
            Kind::String(_) | Kind::Size(_) | Kind::Enum(..) => Some(bindings::fs_param_is_string),
        }
    }

    /// Hands the value to the setter.
    ///
    /// # Safety
    ///
    /// `param` and `result` must be what `__fs_parse` accepted for [`Self::type_`].
    unsafe fn set(
        &self,
        options: &mut O,
        param: &bindings::fs_parameter,
        result: &bindings::fs_parse_result,
    ) -> Result {
        let string = || {
            // SAFETY: Called only for those kinds whose type is a string, so `__fs_parse` has
            // checked that the union holds a string, which is valid while `param` is.
            unsafe { CStr::from_char_ptr(param.__bindgen_anon_1.string) }
        };
        match self.kind {
            Kind::Flag(set) => set(options),
            Kind::String(set) => set(options, string()),
            // SAFETY: `__fs_parse` initialises all bytes of the union, and any are a valid `u32`.
            Kind::U32(set) => set(options, unsafe { result.__bindgen_anon_1.uint_32 }),
            // SAFETY: As above.
            Kind::U64(set) => set(options, unsafe { result.__bindgen_anon_1.uint_64 }),
            Kind::Size(set) => set(options, parse_size(string().to_bytes())?),
            Kind::Enum(words, set) => match words.iter().find(|(word, _)| *word == string()) {
                Some((_, number)) => set(options, *number),
                None => Err(EINVAL),
            },
        }
    }
}

/// Parses a number of bytes: decimal digits or 0x and hexadecimal ones, then a suffix if any.
fn parse_size(text: &[u8]) -> Result<u64> {
    let (text, shift) = match text.last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(b'T') => (&text[..text.len() - 1], 40),
        Some(b'P') => (&text[..text.len() - 1], 50),
        // In hexadecimal an E at the end is a digit.
        Some(b'E') if !text.starts_with(b"0x") => (&text[..text.len() - 1], 60),
        _ => (text, 0),
    };
    let (digits, radix) = match text.strip_prefix(b"0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign, which a size has not.
    if digits.first() == Some(&b'+') {
        return Err(EINVAL);
    }
    let digits = core::str::from_utf8(digits)?;
    let number = u64::from_str_radix(digits, radix).map_err(|_| EINVAL)?;
    number.checked_mul(1 << shift).ok_or(ERANGE)
}

/// `fs_context_operations::parse_param`.
///
/// # Safety
///
/// The VFS calls this with a context that `context::init_fs_context::<T>` set up.
pub(super) unsafe extern "C" fn parse_param<T: FileSystem>(
    fc: *mut bindings::fs_context,
    param: *mut bindings::fs_parameter,
) -> c_int {
    // SAFETY: The VFS serialises the calls for a context by its `uapi_mutex`.
    let state = unsafe { context::state::<T>(fc) };

    for parameter in T::PARAMETERS {
        let spec = [
            bindings::fs_parameter_spec {
                name: parameter.name.as_char_ptr(),
                type_: parameter.type_(),
                ..pin_init::zeroed()
            },
            pin_init::zeroed(),
        ];
        let mut result: bindings::fs_parse_result = pin_init::zeroed();

        // SAFETY: The VFS passes a valid context and parameter; `spec` ends with an empty entry.
        let ret =
            unsafe { bindings::__fs_parse(&raw mut (*fc).log, spec.as_ptr(), param, &mut result) };
        if ret == ENOPARAM.to_errno() {
            continue;
        }
        if let Err(error) = to_result(ret) {
            return error.to_errno();
        }

        // SAFETY: `__fs_parse` accepted the parameter just now.
        return match unsafe { parameter.set(&mut state.options, &*param, &result) } {
            Ok(()) => 0,
            Err(error) => {
                // SAFETY: The VFS passes a context of a file system of type `T`.
                unsafe { FsContext::<T>::from_raw(fc) }.error(fmt!(
                    "{}: Bad value for '{}'",
                    T::NAME,
                    parameter.name
                ));
                error.to_errno()
            }
        };
    }

    // The VFS goes on with "source", and complains of what is unknown.
    ENOPARAM.to_errno()
}
