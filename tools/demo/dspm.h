/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the demo's programs need of distributed shared persistent memory: a
 * dataset mapped at its own address, commit, and a barrier. Every function
 * ends the program with a message when it fails.
 */
#ifndef DSPM_H
#define DSPM_H

#include <linux/hotpot.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dspm {
	const char *name;	/* of the dataset */
	void *base;		/* the same on every node, after every restart */
	size_t size;
	int rank;		/* POTLUCK_RANK */
	int nr;			/* POTLUCK_SIZE */
	const char *node;	/* POTLUCK_NODE */
	uint64_t commits;	/* done by us */
	uint64_t conflicts;	/* EAGAIN met, and tried again */
	bool plain;		/* a plain file instead, to test the program itself */
	int fd;
	void *plain_barrier;
};

/* Opens and maps a dataset that exists, below POTLUCK_MNT. */
void dspm_open(struct dspm *d, const char *name, bool plain);

/*
 * Publishes exactly these bytes, all or nothing, in @replicas persistent
 * copies (0: as the dataset says). A conflict with another node's commit that
 * is in flight is tried again: right where nobody else writes these bytes.
 */
void dspm_commit(struct dspm *d, const struct hotpot_area *areas, uint32_t nr,
		 uint32_t replicas);

/* Waits until all nodes are here. */
void dspm_barrier(struct dspm *d, const char *where);

/* Whether @len bytes at @p are in the dataset. */
bool dspm_holds(const struct dspm *d, const void *p, size_t len);

/* Prints a message that bears errno's text, if errno is not 0, and exits. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

#endif /* DSPM_H */
