// SPDX-License-Identifier: GPL-2.0
pub mod cache;
pub mod rtt;
pub mod table;
pub mod window;
