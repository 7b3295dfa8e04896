// SPDX-License-Identifier: GPL-2.0
/*
 * The log program of Figure 2.5 (chapter 2 of the dissertation): node 1 appends
 * to a log in shared persistent memory; each append is one commit of two areas,
 * the entry and the size, in two persistent copies. Node 2 reads meanwhile; all
 * other nodes check the log at the end.
 *
 *	potluck run -- logappend DATASET ENTRIES
 *
 * What a reader may rely on, and what is checked here, while the log grows over
 * more than one page: a commit is seen whole or not at all. So the size never
 * runs ahead of an entry, and no entry is seen before the size counts it.
 *
 * Two lines differ from the figure. It maps with MAP_PRIVATE, which means
 * copy-on-write to everybody else; a dataset is mapped with MAP_SHARED. And it
 * takes the address of the entry after it raised the size, which is the address
 * of the next one.
 */
#define _GNU_SOURCE
#include "dspm.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct dspm d;
static int *log_size;
static int *log_entries;

/* Entry @n; never 0. */
static int entry(int n)
{
	return (int)((unsigned int)n * 2654435761u | 1);
}

static int load(const int *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

/* Figure 2.5, lines 12 to 26 */
static void append(int new_data)
{
	struct hotpot_area areas[2];

	areas[0].addr = (uintptr_t)log_size;
	areas[0].len = sizeof(int);
	areas[1].addr = (uintptr_t)&log_entries[*log_size];
	areas[1].len = sizeof(int);

	log_entries[*log_size] = new_data;
	__atomic_store_n(log_size, *log_size + 1, __ATOMIC_RELEASE);

	/* Commit the two areas, each with two replicas */
	dspm_commit(&d, areas, 2, 2);
}

static void check_prefix(int size)
{
	errno = 0;
	for (int n = 0; n < size; n++) {
		int found = load(&log_entries[n]);

		if (found != entry(n))
			die("the size is %d, but entry %d is %#x instead of %#x", size, n,
			    (unsigned int)found, (unsigned int)entry(n));
	}
}

static void read_while_it_grows(int entries)
{
	int size = 0, states = 0;

	while (size < entries) {
		int next = load(&log_entries[size]);
		int now = load(log_size);

		errno = 0;
		if (now < size || now > entries)
			die("the size went from %d to %d", size, now);
		if (next && now == size && !d.plain)
			die("entry %d is there, but the size is still %d", size, now);
		if (now != size) {
			check_prefix(now);
			states++;
		}
		size = now;
		sched_yield();
	}
	printf("read while it grew: %d states of the log, each of them whole\n", states);
}

int main(int argc, char **argv)
{
	bool plain = argc > 1 && !strcmp(argv[1], "--plain");
	int entries;

	argc -= plain;
	argv += plain;
	entries = argc == 3 ? atoi(argv[2]) : 0;
	if (entries < 1) {
		fprintf(stderr, "usage: logappend [--plain] DATASET ENTRIES\n");
		return 2;
	}
	dspm_open(&d, argv[1], plain);
	log_size = d.base;
	log_entries = (int *)((char *)d.base + sizeof(int));
	errno = 0;
	if (!dspm_holds(&d, &log_entries[entries], sizeof(int)))
		die("%s is too small for %d entries", d.name, entries);
	if (load(log_size))
		die("%s holds a log of %d entries already", d.name, load(log_size));

	dspm_barrier(&d, "begin");
	if (d.rank == 0) {
		for (int n = 0; n < entries; n++)
			append(entry(n));
		printf("appended %d entries, each with a commit of two areas in two copies\n",
		       entries);
	} else if (d.rank == 1) {
		read_while_it_grows(entries);
	}
	fflush(stdout);
	dspm_barrier(&d, "end");
	if (load(log_size) != entries)
		die("the size is %d instead of %d", load(log_size), entries);
	check_prefix(entries);
	if (d.rank > 1)
		printf("read it at the end: %d entries, all as they should be\n", entries);
	fflush(stdout);
	/* Nobody leaves while others may still fetch from its memory. */
	dspm_barrier(&d, "checked");
	return 0;
}
