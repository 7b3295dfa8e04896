/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For programs that measure commits: a process that has a dataset mapped, and the areas of its next commit.
 */
#ifndef POTLUCK_BENCH_WRITER_H
#define POTLUCK_BENCH_WRITER_H

#include <stdbool.h>

#include "dataset.h"

#define MOST 64

struct writer {
	int fd;
	char *map;
	bool mrsw;
	struct hotpot_info info;
	struct hotpot_chunk *chunks;
	struct hotpot_area areas[MOST];
	uint32_t nr, bytes;
};

static inline struct writer writer_at(const char *path, uint32_t nr, uint32_t bytes)
{
	struct writer w = { .nr = nr, .bytes = bytes };

	if (!nr || nr > MOST || !bytes || bytes > PAGE) {
		errno = EINVAL;
		die("areas");
	}
	w.fd = open_or_die(path, O_RDWR);
	w.map = map_or_die(w.fd, size_of(w.fd));
	w.chunks = chunks_of(w.fd, &w.info);
	w.mrsw = w.info.mode == HOTPOT_MRSW;
	return w;
}

/* The nth area lies at the beginning of this page. */
static inline void place(struct writer *w, uint32_t nth, uint64_t page)
{
	w->areas[nth] = (struct hotpot_area){ (uintptr_t)w->map + page * PAGE, w->bytes };
}

/* Of an MRSW dataset; of another nothing has to be acquired. */
static inline void acquire(struct writer *w)
{
	struct hotpot_acquire a = {
		.areas = (uintptr_t)w->areas, .nr_areas = w->nr, .timeout_ms = 30000, .flags = HOTPOT_ACQUIRE_WAIT,
	};

	if (w->mrsw && ioctl(w->fd, HOTPOT_IOC_ACQUIRE, &a) < 0)
		die("HOTPOT_IOC_ACQUIRE");
}

static inline void store(struct writer *w, int value)
{
	for (uint32_t i = 0; i < w->nr; i++)
		memset((void *)(uintptr_t)w->areas[i].addr, value, w->bytes);
}

/* Until it is published. */
static inline void commit(struct writer *w, uint32_t replicas)
{
	struct hotpot_commit c = { .areas = (uintptr_t)w->areas, .nr_areas = w->nr, .replicas = replicas };

	while (ioctl(w->fd, HOTPOT_IOC_COMMIT, &c) < 0)
		if (errno != EAGAIN)
			die("HOTPOT_IOC_COMMIT");
}

#endif /* POTLUCK_BENCH_WRITER_H */
