// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "dspm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Longest wait for a commit and for the others; guests are slow. */
#define TIMEOUT_MS	120000
#define MAX_CONFLICTS	1000

struct plain_barrier {
	uint32_t arrived;
	uint32_t generation;
};

void die(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	if (error)
		fprintf(stderr, ": %s", strerror(error));
	fputc('\n', stderr);
	exit(1);
}

static int number_from(const char *variable)
{
	const char *text = getenv(variable);

	errno = 0;
	if (!text)
		die("%s is not set: start this with potluck run", variable);
	return atoi(text);
}

static void *map_shared(int fd, size_t size, void *at)
{
	int flags = MAP_SHARED | (at ? MAP_FIXED_NOREPLACE : 0);

	return mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, 0);
}

static void open_plain(struct dspm *d, const char *path)
{
	char lock[PATH_MAX + 16];
	int fd;

	d->base = map_shared(d->fd, d->size, (void *)HOTPOT_WINDOW_START);
	snprintf(lock, sizeof(lock), "%s.barrier", path);
	fd = open(lock, O_RDWR | O_CREAT, 0644);
	if (fd < 0 || ftruncate(fd, sizeof(struct plain_barrier)))
		die("%s", lock);
	d->plain_barrier = map_shared(fd, sizeof(struct plain_barrier), NULL);
	if (d->plain_barrier == MAP_FAILED)
		die("%s: mmap", lock);
	close(fd);
}

static void open_dataset(struct dspm *d)
{
	struct hotpot_info info = { 0 };

	if (ioctl(d->fd, HOTPOT_IOC_INFO, &info))
		die("%s: HOTPOT_IOC_INFO", d->name);
	/* No address is asked for: the dataset has its own. */
	d->base = map_shared(d->fd, d->size, NULL);
	errno = d->base == MAP_FAILED ? errno : 0;
	if (!errno && (uintptr_t)d->base != info.base)
		die("%s: mapped at %p, but its base is %#llx", d->name, d->base,
		    (unsigned long long)info.base);
}

void dspm_open(struct dspm *d, const char *name, bool plain)
{
	const char *mount = getenv("POTLUCK_MNT");
	char path[PATH_MAX];
	struct stat st;

	memset(d, 0, sizeof(*d));
	d->name = name;
	d->plain = plain;
	d->rank = number_from("POTLUCK_RANK");
	d->nr = number_from("POTLUCK_SIZE");
	d->node = getenv("POTLUCK_NODE");
	if (!mount || !d->node)
		die("POTLUCK_MNT or POTLUCK_NODE is not set: start this with potluck run");

	snprintf(path, sizeof(path), "%s/%s", mount, name);
	d->fd = open(path, O_RDWR);
	if (d->fd < 0 || fstat(d->fd, &st))
		die("cannot open %s", path);
	d->size = st.st_size;
	if (plain)
		open_plain(d, path);
	else
		open_dataset(d);
	if (d->base == MAP_FAILED)
		die("%s: mmap of %zu bytes", path, d->size);
}

void dspm_commit(struct dspm *d, const struct hotpot_area *areas, uint32_t nr,
		 uint32_t replicas)
{
	struct hotpot_commit commit = {
		.areas = (uintptr_t)areas,
		.nr_areas = nr,
		.replicas = replicas,
		.timeout_ms = TIMEOUT_MS,
	};

	d->commits++;
	if (d->plain) {
		__sync_synchronize();
		return;
	}
	for (int tried = 0; ioctl(d->fd, HOTPOT_IOC_COMMIT, &commit); tried++) {
		if (errno != EAGAIN || tried == MAX_CONFLICTS)
			die("%s: commit %#llx of %u areas", d->name,
			    (unsigned long long)commit.cid, nr);
		/* Nothing was published, and our bytes are still as we wrote them. */
		d->conflicts++;
		usleep(1000 * (1 + (d->rank + tried) % 8));
	}
}

static void meet_plain(struct dspm *d)
{
	struct plain_barrier *b = d->plain_barrier;
	uint32_t generation = __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE);

	if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == (uint32_t)d->nr) {
		__atomic_store_n(&b->arrived, 0, __ATOMIC_RELEASE);
		__atomic_add_fetch(&b->generation, 1, __ATOMIC_ACQ_REL);
		return;
	}
	while (__atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) == generation)
		usleep(100);
}

void dspm_barrier(struct dspm *d, const char *where)
{
	struct hotpot_barrier barrier = {
		.count = d->nr,
		.timeout_ms = TIMEOUT_MS,
	};

	if (d->plain) {
		meet_plain(d);
		return;
	}
	snprintf(barrier.name, sizeof(barrier.name), "%s: %s", d->name, where);
	if (ioctl(d->fd, HOTPOT_IOC_BARRIER, &barrier))
		die("barrier '%s' of %d", barrier.name, d->nr);
}

bool dspm_holds(const struct dspm *d, const void *p, size_t len)
{
	uintptr_t at = (uintptr_t)p, base = (uintptr_t)d->base;

	return at >= base && len <= d->size && at - base <= d->size - len;
}
