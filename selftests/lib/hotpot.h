/* SPDX-License-Identifier: GPL-2.0 */
/*
 * hotpot in tests: the space (the lab's when it is up, else a private one on
 * the nodes lt1…lt3 of lite.h), datasets, and agents: processes that map a
 * dataset on one node and load, store and commit when told.
 *
 * An agent is a process because a dataset has one address on all nodes: one
 * process can map it only once.
 */
#ifndef POTLUCK_SELFTEST_HOTPOT_H
#define POTLUCK_SELFTEST_HOTPOT_H

#include <linux/blkpg.h>
#include <linux/hotpot.h>
#include <setjmp.h>
#include <sys/statfs.h>
#include <sys/uio.h>

#include "lite.h"

#define PAGE HOTPOT_PAGE_SIZE
#define CHUNK 65536UL		/* smallest chunk: many owners with few bytes */
#define SPACE_NODES 3
/* The longest that a call with the mount's default deadline may take. */
#define DEADLINE_MS 30000

/* --- places: a node, its PM device, where it is mounted ------------------------ */

struct place {
	char name[16];		/* of the configfs directory and the namespace */
	char mnt[64];
	char dev[64];
	uint32_t id;
};

struct space {
	int nr;
	struct place n[SPACE_NODES + 1];	/* from 1 */
	bool own;
};

/* Device of a hotpot mount, or false. */
static __maybe_unused bool mounted_at(const char *mnt, char *dev, size_t room)
{
	FILE *mounts = fopen("/proc/self/mounts", "r");
	char line[1024], source[256], where[256], type[64];
	bool found = false;

	while (mounts && fgets(line, sizeof(line), mounts)) {
		if (sscanf(line, "%255s %255s %63s", source, where, type) == 3 &&
		    !strcmp(where, mnt) && !strcmp(type, "hotpot")) {
			snprintf(dev, room, "%s", source);
			found = true;
		}
	}
	if (mounts)
		fclose(mounts);
	return found;
}

/* /dev/pmemN that nothing has mounted; the which-th of them, from 0. */
static __maybe_unused bool pmem_spare(int which, char *dev, size_t room)
{
	for (int i = 0; i < 32; i++) {
		snprintf(dev, room, "/dev/pmem%d", i);
		if (access(dev, F_OK))
			continue;
		if (sh("grep -q '^%s ' /proc/self/mounts", dev) && which-- == 0)
			return true;
	}
	return false;
}

static __maybe_unused uint64_t device_size(const char *dev)
{
	int fd = open(dev, O_RDONLY | O_CLOEXEC);
	uint64_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);

	close(fd);
	return size;
}

/*
 * A smaller device out of a larger one: a partition, made by BLKPG without any
 * table on the device. Gone with slice_drop or a restart.
 */
static __maybe_unused int slice_ioctl(const char *dev, int op, uint64_t bytes)
{
	struct blkpg_partition part = { .pno = 1, .length = bytes };
	struct blkpg_ioctl_arg arg = { .op = op, .datalen = sizeof(part), .data = &part };
	int fd = open(dev, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return errno;
	err = ioctl(fd, BLKPG, &arg) < 0 ? errno : 0;
	close(fd);
	return err;
}

static __maybe_unused void slice_drop(const char *dev)
{
	slice_ioctl(dev, BLKPG_DEL_PARTITION, 0);
}

static __maybe_unused bool slice_make(const char *dev, uint64_t bytes, char *slice, size_t room)
{
	slice_drop(dev);
	if (slice_ioctl(dev, BLKPG_ADD_PARTITION, bytes))
		return false;
	snprintf(slice, room, "%sp1", dev);
	return EVENTUALLY(5000, access(slice, F_OK) == 0);
}

static __maybe_unused int hotpot_need(void)
{
	return sh("grep -qw hotpot /proc/filesystems || modprobe hotpot || insmod \"$POTLUCK_MODULES\"/hotpot/hotpot.ko");
}

static __maybe_unused int mkfs(const char *dev, int id, const char *more)
{
	return sh("mkfs.hotpot --force --cluster %s --node-id %d %s %s >/dev/null", LITE_CLUSTER, id, more, dev);
}

/* mount(2); 0 or an errno. */
static __maybe_unused int hotpot_mount(const char *dev, const char *mnt, const char *options)
{
	mkdir("/mnt", 0755);
	mkdir(mnt, 0755);
	return mount(dev, mnt, "hotpot", 0, options) < 0 ? errno : 0;
}

static __maybe_unused int place_mount(const struct place *p)
{
	char options[64];

	/* What a user waits for: an emulated, busy guest takes its time. */
	snprintf(options, sizeof(options), "node=%s,timeout_ms=10000", p->name);
	return hotpot_mount(p->dev, p->mnt, options);
}

static __maybe_unused int place_umount(const struct place *p)
{
	return umount2(p->mnt, 0) < 0 ? errno : 0;
}

/* The private space: nodes of the private cluster, on spare pmem devices. */
static __maybe_unused int space_make_own(struct space *s, struct cluster *c, int nr, bool format)
{
	int err = hotpot_need() ? ENODEV : cluster_up(c, nr);

	memset(s, 0, sizeof(*s));
	s->nr = nr;
	s->own = true;
	for (int i = 1; i <= nr && !err; i++) {
		struct place *p = &s->n[i];

		snprintf(p->name, sizeof(p->name), "lt%d", i);
		snprintf(p->mnt, sizeof(p->mnt), "/mnt/lt%d", i);
		p->id = i;
		if (!pmem_spare(0, p->dev, sizeof(p->dev)))
			err = ENXIO;
		else if (format && mkfs(p->dev, i, ""))
			err = EIO;
		else
			err = place_mount(p);
		if (err)
			fprintf(stderr, "# %s on %s: %s\n", p->dev, p->mnt, strerror(err));
	}
	return err;
}

static __maybe_unused void space_drop_own(struct space *s, struct cluster *c)
{
	for (int i = 1; i <= s->nr; i++)
		umount2(s->n[i].mnt, MNT_DETACH);
	cluster_down(c);
}

/* The lab's space, or the private one, which is made when there is none. */
static __maybe_unused int space_open(struct space *s)
{
	const char *elsewhere = getenv("POTLUCK_SPACE");
	struct cluster c;

	memset(s, 0, sizeof(*s));
	/* Directories to take for mounts as they are, to try a test on another file system. */
	for (; elsewhere && s->nr < SPACE_NODES; s->nr++)
		snprintf(s->n[s->nr + 1].mnt, sizeof(s->n[0].mnt), "%s", elsewhere);
	if (elsewhere)
		return 0;
	for (int own = 0; own <= 1; own++) {
		for (int i = 1; i <= SPACE_NODES; i++) {
			struct place *p = &s->n[i];
			struct rdma_lite_info info;
			int fd;

			snprintf(p->name, sizeof(p->name), "%s%d", own ? "lt" : "n", i);
			snprintf(p->mnt, sizeof(p->mnt), "/mnt/%s", p->name);
			if (!mounted_at(p->mnt, p->dev, sizeof(p->dev)) || !netns_exists(p->name))
				break;
			fd = lite_open(p->name, 0);
			if (fd < 0 || ioctl(fd, RDMA_LITE_IOC_INFO, &info) < 0) {
				close(fd);
				break;
			}
			close(fd);
			p->id = info.id;
			s->nr = i;
		}
		s->own = own;
		if (s->nr == SPACE_NODES)
			return 0;
		s->nr = 0;
	}
	return space_make_own(s, &c, SPACE_NODES, true);
}

/*
 * Publishes the map in force once more with a higher epoch, with an entry's
 * state changed (0: none), on all nodes but the excepted. Incarnations are
 * whatever is met. 0 or an errno.
 */
static __maybe_unused int space_publish(struct space *s, uint32_t node, uint32_t state, uint32_t except)
{
	struct rdma_lite_map_node map[16];
	uint64_t epoch = 0;
	int nr = -1, err = 0;

	for (int i = 1; i <= s->nr; i++) {
		struct rdma_lite_map_node got[16];
		uint64_t e = 0;
		int fd = lite_open(s->n[i].name, 0), n = fd < 0 ? -1 : map_get(fd, &e, got, 16);

		if (n > 0 && e >= epoch) {
			epoch = e;
			nr = n;
			memcpy(map, got, n * sizeof(*map));
		}
		close(fd);
	}
	if (nr < 0)
		return ENODATA;
	for (int i = 0; i < nr; i++) {
		map[i].incarnation = 0;
		if (map[i].id == node && state)
			map[i].state = state;
	}
	for (int i = 1; i <= s->nr; i++) {
		int fd;

		if (s->n[i].id == except)
			continue;
		fd = lite_open(s->n[i].name, 0);
		if (fd < 0 || map_set(fd, epoch + 1, map, nr) < 0)
			err = errno;
		close(fd);
	}
	return err;
}

static __maybe_unused int place_power(const struct place *p, bool on)
{
	return node_attr(p->name, "power", on ? "1" : "0");
}

/*
 * All nodes are unmounted and switched off, then on and mounted again: what
 * is on PM is all that is left. `prepare` runs in between. 0 or an errno.
 */
static __maybe_unused int space_restart(struct space *s)
{
	int err = 0;

	for (int i = 1; i <= s->nr; i++)
		err = err ?: place_umount(&s->n[i]);
	/* Maps are forgotten with the power; keep one. */
	struct rdma_lite_map_node map[16];
	uint64_t epoch = 0;
	int fd = lite_open(s->n[1].name, 0), nr = fd < 0 ? -1 : map_get(fd, &epoch, map, 16);

	close(fd);
	if (nr < 0)
		return ENODATA;
	for (int i = 1; i <= s->nr; i++)
		err = err ?: place_power(&s->n[i], false);
	for (int i = 1; i <= s->nr; i++)
		err = err ?: place_power(&s->n[i], true);
	for (int i = 0; i < nr; i++)
		map[i].incarnation = 0;
	for (int i = 1; i <= s->nr && !err; i++) {
		fd = lite_open(s->n[i].name, 0);
		if (fd < 0 || map_set(fd, epoch + 1, map, nr) < 0)
			err = errno;
		close(fd);
	}
	for (int i = 1; i <= s->nr; i++)
		err = err ?: place_mount(&s->n[i]);
	return err;
}

/* --- the link of a place, whichever network it is on ---------------------------- */

static __maybe_unused int place_link(const struct place *p, bool up)
{
	return sh("for d in $(ip -n %s -o link show type veth | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/'); do "
		  "ip -n %s link set $d %s || exit 1; done", p->name, p->name, up ? "up" : "down");
}

/* --- datasets ------------------------------------------------------------------- */

static __maybe_unused const char *at(const struct space *s, int i, const char *name)
{
	static char path[8][512];
	static int next;
	char *p = path[next++ % 8];

	snprintf(p, 512, "%s/%s", s->n[i].mnt, name);
	return p;
}

/* A new dataset with 64 KiB chunks, so that few bytes have several owners. */
static __maybe_unused int dataset_make_mode(const struct space *s, int i, const char *name, size_t size, int replicas,
					    uint32_t mode)
{
	struct hotpot_setup setup = { .replicas = replicas, .mode = mode, .chunk_size = CHUNK };
	int fd, err = 0;

	unlink(at(s, i, name));
	fd = open(at(s, i, name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno;
	if (ioctl(fd, HOTPOT_IOC_SETUP, &setup) < 0 || ftruncate(fd, size) < 0)
		err = errno;
	close(fd);
	return err;
}

static __maybe_unused int dataset_make(const struct space *s, int i, const char *name, size_t size, int replicas)
{
	return dataset_make_mode(s, i, name, size, replicas, HOTPOT_MRMW);
}

static __maybe_unused int dataset_info(const char *path, struct hotpot_info *info)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return errno;
	memset(info, 0, sizeof(*info));
	if (ioctl(fd, HOTPOT_IOC_INFO, info) < 0)
		err = errno;
	close(fd);
	return err;
}

/* Bytes of a dataset as read(2) gives them on a node; 0 or an errno. */
static __maybe_unused int peek(const char *path, uint64_t off, void *to, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	ssize_t got;

	if (fd < 0)
		return errno;
	got = pread(fd, to, len, off);
	if (got < 0)
		err = errno;
	else if ((size_t)got != len)
		err = ENODATA;
	close(fd);
	return err;
}

static __maybe_unused int poke(const char *path, uint64_t off, const void *from, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;
	ssize_t put;

	if (fd < 0)
		return errno;
	put = pwrite(fd, from, len, off);
	if (put < 0)
		err = errno;
	else if ((size_t)put != len)
		err = EIO;
	close(fd);
	return err;
}

/* Whether a node reads these bytes there. */
static __maybe_unused bool holds(const char *path, uint64_t off, const void *bytes, size_t len)
{
	char *got = malloc(len);
	int err = peek(path, off, got, len);
	bool same = !err && !memcmp(got, bytes, len);

	if (err)
		fprintf(stderr, "# reading %s: %s\n", path, strerror(err));
	free(got);
	return same;
}

static __maybe_unused int commit_fd(int fd, const struct hotpot_area *areas, uint32_t nr, uint32_t replicas,
				  uint32_t timeout_ms, uint64_t *cid)
{
	struct hotpot_commit c = {
		.areas = (uintptr_t)areas,
		.nr_areas = nr,
		.replicas = replicas,
		.timeout_ms = timeout_ms,
	};
	int err = ioctl(fd, HOTPOT_IOC_COMMIT, &c) < 0 ? errno : 0;

	if (cid)
		*cid = c.cid;
	return err;
}

/* --- agents --------------------------------------------------------------------- */

struct agent {
	pid_t pid;
	int fd;
	uint64_t base;
};

enum agent_op {
	AGENT_LOAD, AGENT_STORE, AGENT_COMMIT, AGENT_MSYNC, AGENT_FSYNC, AGENT_ACQUIRE, AGENT_ABORT, AGENT_WRITE
};

struct agent_request {
	uint32_t op, nr, replicas, timeout_ms;
	uint64_t off, len;		/* offsets in the dataset */
	uint32_t flags, reserved;
};

struct agent_answer {
	int32_t err;
	uint32_t pad;
	uint64_t value;
};

static sigjmp_buf agent_fault;

static __maybe_unused void agent_on_fault(int sig)
{
	siglongjmp(agent_fault, sig);
}

static __maybe_unused bool all_in(int fd, void *to, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)to + done, len - done);

		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

static __maybe_unused bool all_out(int fd, const void *from, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(fd, (const char *)from + done, len - done, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

/* memcpy that a fault turns into an errno: EFAULT (SIGBUS) or EACCES (SIGSEGV). */
static __maybe_unused int careful_copy(volatile void *to, const volatile void *from, size_t len)
{
	struct sigaction act = { .sa_handler = agent_on_fault }, bus, segv;
	int sig;

	sigaction(SIGBUS, &act, &bus);
	sigaction(SIGSEGV, &act, &segv);
	sig = sigsetjmp(agent_fault, 1);
	if (!sig)
		memcpy((void *)to, (const void *)from, len);
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return sig == SIGBUS ? EFAULT : sig ? EACCES : 0;
}

/* HOTPOT_IOC_ACQUIRE or HOTPOT_IOC_ABORT; 0 or an errno. */
static __maybe_unused int acquire_fd(int fd, unsigned long what, const struct hotpot_area *areas, uint32_t nr,
				     uint32_t timeout_ms, uint32_t flags)
{
	struct hotpot_acquire a = {
		.areas = (uintptr_t)areas,
		.nr_areas = nr,
		.timeout_ms = timeout_ms,
		.flags = flags,
	};

	return ioctl(fd, what, &a) < 0 ? errno : 0;
}

static __maybe_unused void agent_serve(int sock, int file, char *map)
{
	struct agent_request rq;

	while (all_in(sock, &rq, sizeof(rq))) {
		struct agent_answer an = { 0 };
		struct hotpot_area *areas = NULL;
		char *bytes = NULL;

		switch (rq.op) {
		case AGENT_LOAD:
			bytes = calloc(1, rq.len + 1);
			an.err = careful_copy(bytes, map + rq.off, rq.len);
			break;
		case AGENT_STORE:
			bytes = malloc(rq.len + 1);
			if (!all_in(sock, bytes, rq.len))
				_exit(1);
			an.err = careful_copy(map + rq.off, bytes, rq.len);
			break;
		case AGENT_COMMIT:
			areas = calloc(rq.nr + 1, sizeof(*areas));
			if (!all_in(sock, areas, rq.nr * sizeof(*areas)))
				_exit(1);
			for (uint32_t i = 0; i < rq.nr; i++)
				areas[i].addr += (uintptr_t)map;
			an.err = commit_fd(file, areas, rq.nr, rq.replicas, rq.timeout_ms, &an.value);
			break;
		case AGENT_ACQUIRE:
		case AGENT_ABORT:
			areas = calloc(rq.nr + 1, sizeof(*areas));
			if (!all_in(sock, areas, rq.nr * sizeof(*areas)))
				_exit(1);
			for (uint32_t i = 0; i < rq.nr; i++)
				areas[i].addr += (uintptr_t)map;
			an.err = acquire_fd(file, rq.op == AGENT_ABORT ? HOTPOT_IOC_ABORT : HOTPOT_IOC_ACQUIRE, areas,
					    rq.nr, rq.timeout_ms, rq.flags);
			break;
		case AGENT_WRITE:
			bytes = malloc(rq.len + 1);
			if (!all_in(sock, bytes, rq.len))
				_exit(1);
			an.err = pwrite(file, bytes, rq.len, rq.off) < 0 ? errno : 0;
			break;
		case AGENT_MSYNC:
			an.err = msync(map + rq.off, rq.len, MS_SYNC) < 0 ? errno : 0;
			break;
		case AGENT_FSYNC:
			an.err = fsync(file) < 0 ? errno : 0;
			break;
		}
		if (!all_out(sock, &an, sizeof(an)) ||
		    (rq.op == AGENT_LOAD && !all_out(sock, bytes, rq.len)))
			_exit(1);
		free(bytes);
		free(areas);
	}
	_exit(0);
}

/* Starts an agent that maps `len` bytes of a dataset; 0 or an errno. */
static __maybe_unused int agent_start(struct agent *a, const char *path, size_t len)
{
	struct agent_answer hello = { .err = EPIPE };
	int pair[2];

	a->pid = -1;
	a->fd = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return errno;
	fflush(NULL);
	a->pid = fork();
	if (!a->pid) {
		int file = open(path, O_RDWR | O_CLOEXEC);
		char *map;

		close(pair[0]);
		hello.err = file < 0 ? errno : 0;
		map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		if (!hello.err && map == MAP_FAILED)
			hello.err = errno;
		hello.value = (uintptr_t)map;
		if (!all_out(pair[1], &hello, sizeof(hello)) || hello.err)
			_exit(1);
		agent_serve(pair[1], file, map);
	}
	close(pair[1]);
	a->fd = pair[0];
	if (!all_in(a->fd, &hello, sizeof(hello)))
		hello.err = EPIPE;
	a->base = hello.value;
	return hello.err;
}

static __maybe_unused void agent_end(struct agent *a)
{
	if (a->fd >= 0) {
		/* Agents that were started later hold copies of the descriptor. */
		shutdown(a->fd, SHUT_RDWR);
		close(a->fd);
	}
	if (a->pid > 0)
		waitpid(a->pid, NULL, 0);
	a->fd = -1;
	a->pid = -1;
}

/* Sends without waiting: agents can be made to work at the same time. */
static __maybe_unused void agent_ask(struct agent *a, struct agent_request rq, const void *payload, size_t len)
{
	all_out(a->fd, &rq, sizeof(rq));
	if (len)
		all_out(a->fd, payload, len);
}

static __maybe_unused int agent_hear(struct agent *a, uint64_t *value)
{
	struct agent_answer an;

	if (!all_in(a->fd, &an, sizeof(an)))
		return EPIPE;
	if (value)
		*value = an.value;
	return an.err;
}

static __maybe_unused int agent_load(struct agent *a, uint64_t off, void *to, size_t len)
{
	int err;

	agent_ask(a, (struct agent_request){ .op = AGENT_LOAD, .off = off, .len = len }, NULL, 0);
	err = agent_hear(a, NULL);
	return all_in(a->fd, to, len) ? err : EPIPE;
}

static __maybe_unused int agent_store(struct agent *a, uint64_t off, const void *from, size_t len)
{
	agent_ask(a, (struct agent_request){ .op = AGENT_STORE, .off = off, .len = len }, from, len);
	return agent_hear(a, NULL);
}

/* Areas bear offsets in the dataset here. */
static __maybe_unused void agent_ask_commit(struct agent *a, const struct hotpot_area *areas, uint32_t nr,
					  uint32_t replicas, uint32_t timeout_ms)
{
	agent_ask(a, (struct agent_request){ .op = AGENT_COMMIT, .nr = nr, .replicas = replicas,
					     .timeout_ms = timeout_ms }, areas, nr * sizeof(*areas));
}

static __maybe_unused int agent_commit_areas(struct agent *a, const struct hotpot_area *areas, uint32_t nr,
					   uint32_t replicas, uint32_t timeout_ms)
{
	agent_ask_commit(a, areas, nr, replicas, timeout_ms);
	return agent_hear(a, NULL);
}

static __maybe_unused int agent_commit(struct agent *a, uint64_t off, uint64_t len)
{
	struct hotpot_area area = { off, len };

	return agent_commit_areas(a, &area, 1, 0, 0);
}

static __maybe_unused void agent_ask_acquire(struct agent *a, uint64_t off, uint64_t len, uint32_t timeout_ms,
					     uint32_t flags)
{
	struct hotpot_area area = { off, len };

	agent_ask(a, (struct agent_request){ .op = AGENT_ACQUIRE, .nr = 1, .timeout_ms = timeout_ms,
					     .flags = flags }, &area, sizeof(area));
}

static __maybe_unused int agent_acquire(struct agent *a, uint64_t off, uint64_t len, uint32_t timeout_ms, uint32_t flags)
{
	agent_ask_acquire(a, off, len, timeout_ms, flags);
	return agent_hear(a, NULL);
}

/* Length 0: all that was acquired. */
static __maybe_unused int agent_abort(struct agent *a, uint64_t off, uint64_t len)
{
	struct hotpot_area area = { off, len };
	uint32_t nr = len ? 1 : 0;

	agent_ask(a, (struct agent_request){ .op = AGENT_ABORT, .nr = nr }, &area, nr * sizeof(area));
	return agent_hear(a, NULL);
}

static __maybe_unused int agent_write(struct agent *a, uint64_t off, const void *from, size_t len)
{
	agent_ask(a, (struct agent_request){ .op = AGENT_WRITE, .off = off, .len = len }, from, len);
	return agent_hear(a, NULL);
}

static __maybe_unused int agent_msync(struct agent *a, uint64_t off, uint64_t len)
{
	agent_ask(a, (struct agent_request){ .op = AGENT_MSYNC, .off = off, .len = len }, NULL, 0);
	return agent_hear(a, NULL);
}

static __maybe_unused int agent_fsync(struct agent *a)
{
	agent_ask(a, (struct agent_request){ .op = AGENT_FSYNC }, NULL, 0);
	return agent_hear(a, NULL);
}

/* Whether the agent loads these bytes there. */
static __maybe_unused bool agent_holds(struct agent *a, uint64_t off, const void *bytes, size_t len)
{
	char *got = malloc(len);
	int err = agent_load(a, off, got, len);
	bool same = !err && !memcmp(got, bytes, len);

	if (err)
		fprintf(stderr, "# loading: %s\n", strerror(err));
	free(got);
	return same;
}

#endif /* POTLUCK_SELFTEST_HOTPOT_H */
