// SPDX-License-Identifier: GPL-2.0

//! The `pr_*` macros: they check their arguments and print nothing, except
//! when the environment has `POTLUCK_PRINTK`.

#[doc(hidden)]
pub fn printk(level: &str, args: std::fmt::Arguments<'_>) {
    static ON: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *ON.get_or_init(|| std::env::var_os("POTLUCK_PRINTK").is_some()) {
        eprint!("[{level}] {args}");
    }
}

/// As the kernel's macro of the same name.
#[macro_export]
macro_rules! pr_emerg {
    ($($arg:tt)*) => {
        $crate::print::printk("emerg", ::core::format_args!($($arg)*))
    };
}

/// As the kernel's macro of the same name.
#[macro_export]
macro_rules! pr_alert {
    ($($arg:tt)*) => {
        $crate::print::printk("alert", ::core::format_args!($($arg)*))
    };
}

/// As the kernel's macro of the same name.
#[macro_export]
macro_rules! pr_crit {
    ($($arg:tt)*) => {
        $crate::print::printk("crit", ::core::format_args!($($arg)*))
    };
}

/// As the kernel's macro of the same name.
#[macro_export]
macro_rules! pr_err {
    ($($arg:tt)*) => {
        $crate::print::printk("err", ::core::format_args!($($arg)*))
    };
}

/// As the kernel's macro of the same name.
#[macro_export]
macro_rules! pr_warn {
    ($($arg:tt)*) => {
        $crate::print::printk("warn", ::core::format_args!($($arg)*))
    };
}

/// As the kernel's macro of the same name.
#[macro_export]
macro_rules! pr_notice {
    ($($arg:tt)*) => {
        $crate::print::printk("notice", ::core::format_args!($($arg)*))
    };
}

/// As the kernel's macro of the same name.
#[macro_export]
macro_rules! pr_info {
    ($($arg:tt)*) => {
        $crate::print::printk("info", ::core::format_args!($($arg)*))
    };
}

/// As the kernel's macro of the same name.
#[macro_export]
macro_rules! pr_debug {
    ($($arg:tt)*) => {
        $crate::print::printk("debug", ::core::format_args!($($arg)*))
    };
}
