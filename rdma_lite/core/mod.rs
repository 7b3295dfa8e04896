// SPDX-License-Identifier: GPL-2.0

//! The protocol core of rdma_lite (under construction).
