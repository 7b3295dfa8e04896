// SPDX-License-Identifier: GPL-2.0

//! Regions.

/// See the module.
pub struct RegionWorld;
