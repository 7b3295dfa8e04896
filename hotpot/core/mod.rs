// SPDX-License-Identifier: GPL-2.0

//! The protocol core of hotpot (under construction).
