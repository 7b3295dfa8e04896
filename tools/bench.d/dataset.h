/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For programs that measure datasets, and files like them.
 */
#ifndef POTLUCK_BENCH_DATASET_H
#define POTLUCK_BENCH_DATASET_H

#include <fcntl.h>
#include <linux/hotpot.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

#define PAGE 4096UL

static inline int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags, 0644);

	if (fd < 0)
		die(path);
	return fd;
}

/* Of the whole file, or its beginning. */
static inline char *map_or_die(int fd, size_t len)
{
	char *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("mmap");
	return map;
}

static inline size_t size_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		die("fstat");
	return st.st_size;
}

/* Of each chunk, and of the dataset. */
static inline struct hotpot_chunk *chunks_of(int fd, struct hotpot_info *info)
{
	struct hotpot_chunk *chunks;

	memset(info, 0, sizeof(*info));
	if (ioctl(fd, HOTPOT_IOC_INFO, info) < 0)
		die("HOTPOT_IOC_INFO");
	chunks = calloc(info->nr_chunks, sizeof(*chunks));
	info->chunks = (uintptr_t)chunks;
	if (ioctl(fd, HOTPOT_IOC_INFO, info) < 0)
		die("HOTPOT_IOC_INFO");
	return chunks;
}

/* An empty dataset is there. */
static inline int dataset_or_die(const char *path, const struct hotpot_setup *setup, size_t bytes)
{
	int fd;

	unlink(path);
	fd = open_or_die(path, O_RDWR | O_CREAT | O_EXCL);
	if (ioctl(fd, HOTPOT_IOC_SETUP, setup) < 0 || ftruncate(fd, bytes) < 0)
		die("setup");
	return fd;
}

#endif /* POTLUCK_BENCH_DATASET_H */
