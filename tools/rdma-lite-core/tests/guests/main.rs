// SPDX-License-Identifier: GPL-2.0

//! Memory that several kernels share: who takes part, sessions, bells and accesses, whatever the others
//! write, wherever they are killed, and however their stores and loads fall together.

mod memory;

mod accesses;
mod bells;
mod control;
mod layout;
mod slots;
