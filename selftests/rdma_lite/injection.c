// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is not there: each allocation of each request fails once, then those of workers and softirqs
 * now and then. A request ends by an error or finds another way, leaves nothing behind, and works right
 * afterwards. Needs CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC (the debug kernel).
 */
#include <pthread.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"
#include "inject.h"

#define ALL (RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)
#define RW (RDMA_LITE_READ | RDMA_LITE_WRITE)
#define PAGE 4096
#define LEN (3 * PAGE)
#define SERVED 100
#define OWN 101
/* No request allocates so often. */
#define MOST 2000

/* --- requests ------------------------------------------------------------------- */

struct world {
	struct cluster c;
	int one;
	/* What the request at hand uses. */
	uint64_t handle, other;
	int fd, ns;
	uint8_t *buf, *mem;
	struct rdma_lite_receive request;
	pthread_t caller;
	/* The server of SERVED at node 2. */
	pthread_t server;
	volatile bool done;
};

struct request {
	const char *name;
	/* What has to be there; 0 or an errno. */
	int (*prepare)(struct world *w);
	/* The request itself; 0 or an errno. */
	int (*once)(struct world *w);
	/* Gives back what prepare and a request that succeeded have made. */
	void (*undo)(struct world *w);
	/* An error uses up what was prepared, as a handle that ends in any case. */
	bool ends;
};

#define REQUEST(name, prepare, once, undo) { name, prepare, once, undo, false }
#define ENDS(name, prepare, once, undo) { name, prepare, once, undo, true }

static int fresh(uint64_t handle)
{
	return handle ? 0 : errno;
}

static int make(struct world *w, int node)
{
	w->handle = lite_malloc(w->one, node, LEN, NULL, 0, 0);
	return fresh(w->handle);
}

static int make_near(struct world *w) { return make(w, 1); }
static int make_far(struct world *w) { return make(w, 2); }

static int make_pair(struct world *w)
{
	w->other = lite_malloc(w->one, 1, LEN, NULL, 0, 0);
	return fresh(w->other) ?: make_far(w);
}

/* Its owner has made it; we map it. */
static int make_named(struct world *w)
{
	/* Who could not say that it was given up says so in the background: until then the name is taken. */
	EVENTUALLY(20000, (w->other = lite_malloc(w->c.fd[2], 2, LEN, "named", ALL, 0)) || errno != EEXIST);
	return fresh(w->other);
}

static int make_mapped(struct world *w)
{
	int err = make_named(w);

	if (!err) {
		w->handle = lite_map(w->one, 2, "named", ALL);
		err = fresh(w->handle);
	}
	return err;
}

static void drop(struct world *w)
{
	if (w->handle)
		lite_unmap(w->one, w->handle);
	w->handle = 0;
}

static void drop_pair(struct world *w)
{
	drop(w);
	if (w->other)
		lite_unmap(w->one, w->other);
	w->other = 0;
}

static void drop_named(struct world *w)
{
	drop(w);
	if (w->other)
		lite_unmap(w->c.fd[2], w->other);
	w->other = 0;
}

static int once_alloc_near(struct world *w) { return make(w, 1); }
static int once_alloc_far(struct world *w) { return make(w, 2); }

static int once_map(struct world *w)
{
	w->handle = lite_map(w->one, 2, "named", RW);
	return fresh(w->handle);
}

static int once_unmap(struct world *w)
{
	int err = ERRNO_OF(lite_unmap(w->one, w->handle));

	w->handle = 0;
	return err;
}

static int once_free(struct world *w)
{
	int err = ERRNO_OF(lite_free(w->one, w->handle));

	if (!err)
		w->handle = 0;
	return err;
}

static int once_grant(struct world *w) { return ERRNO_OF(lite_grant(w->one, w->handle, 2, RDMA_LITE_READ)); }
static int once_revoke(struct world *w) { return ERRNO_OF(lite_grant(w->one, w->handle, 0, 0)); }

static int once_write(struct world *w)
{
	memset(w->buf, 0x5a, LEN);
	return ERRNO_OF(lite_write(w->one, w->handle, 0, w->buf, LEN));
}

static int once_read(struct world *w) { return ERRNO_OF(lite_read(w->one, w->handle, 0, w->buf, LEN)); }
static int once_fill(struct world *w) { return ERRNO_OF(lite_memset(w->one, w->handle, 1, 7, LEN - 1)); }

static int once_copy_there(struct world *w)
{
	return ERRNO_OF(lite_memcpy(w->one, w->handle, 0, w->other, 0, LEN));
}

static int once_copy_here(struct world *w)
{
	return ERRNO_OF(lite_memcpy(w->one, w->other, 0, w->handle, 0, LEN));
}

static int once_copy_within(struct world *w)
{
	return ERRNO_OF(lite_memmove(w->one, w->other, 100, w->other, 0, LEN - 100));
}

static int once_add(struct world *w) { return ERRNO_OF(lite_fetch_add(w->one, w->handle, 8, 1, NULL)); }

static int once_swap(struct world *w)
{
	uint64_t expected = 0;

	return ERRNO_OF(lite_compare_swap(w->one, w->handle, 16, &expected, 0));
}

static int once_info(struct world *w)
{
	struct rdma_lite_region_info info;

	return ERRNO_OF(lite_region_info(w->one, w->handle, &info));
}

static int once_lend(struct world *w)
{
	w->handle = lite_lend(w->one, w->buf, LEN, "lent", RW);
	return fresh(w->handle);
}

static int once_batch(struct world *w)
{
	struct rdma_lite_segment to[] = { { (uintptr_t)w->buf, 100 }, { (uintptr_t)w->buf + 200, 50 } };
	struct rdma_lite_op ops[] = {
		{ .opcode = RDMA_LITE_OP_READ, .handle = w->handle, .len = 150, .segments = 2, .buf = (uintptr_t)to },
		{ .opcode = RDMA_LITE_OP_WRITE, .handle = w->handle, .len = 99, .buf = (uintptr_t)w->buf },
	};

	if (lite_batch(w->one, ops, COUNT(ops), 0) != COUNT(ops))
		return errno;
	return -ops[0].error ?: -ops[1].error;
}

static int once_submit(struct world *w)
{
	return ERRNO_OF(lite_read_async(w->one, w->handle, 0, w->buf, LEN, 5));
}

static int hear(struct world *w)
{
	struct rdma_lite_completion end = { 0 };

	if (lite_poll(w->one, &end, 1, 1, 20000) != 1)
		return errno;
	return end.cookie != 5 ? EBADMSG : -end.error;
}

static void hear_and_drop(struct world *w)
{
	hear(w);
	drop(w);
}

static int make_read(struct world *w)
{
	struct pollfd p = { .fd = w->one, .events = POLLRDBAND };
	int err = make_far(w) ?: once_submit(w);

	return err ?: poll(&p, 1, 20000) == 1 ? 0 : ETIMEDOUT;
}

static int once_submit_fill(struct world *w)
{
	return ERRNO_OF(lite_memset_async(w->one, w->handle, 0, 9, LEN, 5));
}

static int once_submit_copy(struct world *w)
{
	return ERRNO_OF(lite_memmove_async(w->one, w->handle, 0, w->other, 0, LEN, 5));
}

static int once_submit_add(struct world *w)
{
	return ERRNO_OF(lite_fetch_add_async(w->one, w->handle, 0, 1, 5));
}

static void hear_and_drop_pair(struct world *w)
{
	hear(w);
	drop_pair(w);
}

static int once_mmap(struct world *w)
{
	w->mem = lite_mmap(w->one, w->handle, 0, LEN, PROT_READ | PROT_WRITE);
	if (w->mem == MAP_FAILED)
		return errno;
	for (int page = 0; page < 3; page++)
		w->mem[page * PAGE] = 1;
	return 0;
}

static void unmap_and_drop(struct world *w)
{
	if (w->mem != MAP_FAILED)
		munmap(w->mem, LEN);
	drop(w);
}

static int once_open(struct world *w)
{
	w->fd = open(LITE_DEVICE, O_RDWR | O_CLOEXEC);
	return w->fd < 0 ? errno : 0;
}

static int go_there(struct world *w)
{
	w->ns = netns_enter("lt1");
	return 0;
}

static void close_and_leave(struct world *w)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	netns_leave(w->ns);
}

static int nothing(struct world *w)
{
	w->handle = 0;
	return 0;
}

static int once_ping_near(struct world *w) { return ERRNO_OF(lite_ping(w->one, 1, 5000, 0)); }
static int once_ping_far(struct world *w) { return ERRNO_OF(lite_ping(w->one, 2, 5000, 0)); }

static int once_get_map(struct world *w)
{
	struct rdma_lite_map_node nodes[LITE_MAX_NODES];

	return map_get(w->one, NULL, nodes, COUNT(nodes)) < 0 ? errno : 0;
}

static int once_set_map(struct world *w) { return ERRNO_OF(map_set(w->one, w->c.epoch + 1, w->c.map, w->c.nr)); }

static void publish(struct world *w)
{
	cluster_publish(&w->c);
	lite_reachable(w->one, 2, 30000);
}

static int once_register(struct world *w) { return ERRNO_OF(lite_rpc_register(w->one, OWN)); }
static void unregister(struct world *w) { lite_rpc_unregister(w->one, OWN); }

static int once_call(struct world *w)
{
	ssize_t len = lite_rpc_call(w->one, 2, SERVED, w->buf, 5000, w->buf, LEN);

	return len < 0 ? errno : len == 5000 ? 0 : EBADMSG;
}

static int once_notify(struct world *w) { return ERRNO_OF(lite_rpc_notify(w->one, 2, SERVED, w->buf, 100)); }

static int once_multicast(struct world *w)
{
	struct rdma_lite_call call = {
		.node = 2, .port = SERVED, .request = (uintptr_t)w->buf, .request_len = 300,
		.reply = (uintptr_t)w->buf, .reply_len = LEN,
	};
	struct rdma_lite_call calls[] = { call, call };

	if (lite_rpc_multicast(w->one, calls, COUNT(calls)) < 0)
		return errno;
	for (size_t i = 0; i < COUNT(calls); i++)
		if (calls[i].err || calls[i].status)
			return -calls[i].err ?: -calls[i].status;
	return 0;
}

static void *call_own(void *arg)
{
	struct world *w = arg;
	char reply[300];

	return (void *)(long)ERRNO_OF(lite_rpc_call_for(w->c.fd[2], 1, OWN, "request", 7, reply, sizeof(reply), 20000));
}

static int wait_for_request(struct world *w)
{
	struct pollfd p = { .fd = w->one, .events = POLLPRI };
	int err = once_register(w) ?: pthread_create(&w->caller, NULL, call_own, w);

	return err ?: poll(&p, 1, 20000) == 1 ? 0 : ETIMEDOUT;
}

static int once_receive(struct world *w)
{
	return lite_rpc_receive(w->one, OWN, w->buf, LEN, &w->request) < 0 ? errno : 0;
}

static int once_reply(struct world *w)
{
	return ERRNO_OF(lite_rpc_reply(w->one, &w->request, 0, w->buf, 300));
}

static int take_request(struct world *w) { return wait_for_request(w) ?: once_receive(w); }

static void end_call(struct world *w)
{
	unregister(w);
	pthread_join(w->caller, NULL);
}

static void reply_and_end_call(struct world *w)
{
	once_reply(w);
	end_call(w);
}

static int once_lock(struct world *w)
{
	w->handle = lite_lock_for(w->one, 2, "lock", 0, 20000);
	return fresh(w->handle);
}

static int once_lock_near(struct world *w)
{
	w->handle = lite_lock_for(w->one, 1, "lock", 0, 20000);
	return fresh(w->handle);
}

static int once_unlock(struct world *w)
{
	int err = ERRNO_OF(lite_unlock(w->one, w->handle));

	w->handle = 0;
	return err;
}

static void unlock(struct world *w)
{
	if (w->handle)
		once_unlock(w);
}

static int once_barrier(struct world *w) { return ERRNO_OF(lite_barrier(w->one, 2, "barrier", 1, 20000)); }

static int go_to_third(struct world *w)
{
	w->ns = netns_enter("lt3");
	return 0;
}

static int once_make_node(struct world *w)
{
	(void)w;
	return ERRNO_OF(mkdir(LITE_CONFIGFS "/lt3", 0755));
}

static void remove_node_and_leave(struct world *w)
{
	node_remove("lt3");
	netns_leave(w->ns);
}

static int prepare_node(struct world *w)
{
	(void)w;
	return node_make("lt3", "lt3") ?: node_configure(3);
}

static int prepare_powered(struct world *w) { return prepare_node(w) ?: node_power(3, true); }
static int once_configure(struct world *w) { (void)w; return node_configure(3); }
static int once_power_on(struct world *w) { (void)w; return node_power(3, true); }
static int once_power_off(struct world *w) { (void)w; return node_power(3, false); }
static int once_remove_node(struct world *w) { (void)w; return node_remove("lt3"); }
static void end_node(struct world *w) { (void)w; node_down(3); }
static void leave_nothing(struct world *w) { (void)w; }

/* --- each allocation in turn ------------------------------------------------------- */

/* Errors that a request may end by when memory is short. */
static bool is_shortage(int err)
{
	return err == ENOMEM;
}

static bool survives(struct world *w, const struct request *request)
{
	int failures = 0, errors = 0;
	int64_t begin = now_ms();

	for (unsigned int n = 1; n < MOST; n++) {
		bool failed;
		int err = request->prepare(w);

		if (err) {
			fprintf(stderr, "# %s: not prepared: %s\n", request->name, strerror(err));
			return false;
		}
		fail_nth(n);
		err = request->once(w);
		failed = has_failed();
		fail_nth(0);
		failures += failed;
		errors += !!err;
		if (err && !(failed && is_shortage(err))) {
			fprintf(stderr, "# %s, allocation %u%s: %s\n", request->name, n, failed ? " failed" : "",
				strerror(err));
			return false;
		}
		if (err) {
			err = 0;
			if (request->ends) {
				request->undo(w);
				err = request->prepare(w);
			}
			err = err ?: request->once(w);
		}
		request->undo(w);
		if (err) {
			fprintf(stderr, "# %s, after allocation %u failed: %s\n", request->name, n, strerror(err));
			return false;
		}
		if (!failed) {
			fprintf(stderr, "# %s: %d allocations, %d errors, %lld ms\n", request->name, failures, errors,
				(long long)(now_ms() - begin));
			return true;
		}
	}
	return false;
}

/* Echoes what comes to SERVED. */
static void *serve(void *arg)
{
	struct world *w = arg;
	static char buf[64 * 1024];
	struct rdma_lite_receive request = { 0 };
	int fd = w->c.fd[2];

	while (!w->done) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		ssize_t len;

		if (poll(&p, 1, 100) != 1)
			continue;
		len = lite_rpc_receive(fd, SERVED, buf, sizeof(buf), &request);
		if (len >= 0)
			lite_rpc_reply(fd, &request, 0, buf, len < request.reply_room ? len : request.reply_room);
	}
	return NULL;
}

FIXTURE(injection) {
	struct world w;
};

FIXTURE_SETUP(injection)
{
	struct world *w = &self->w;

	if (!can_inject())
		SKIP(return, "this kernel has no fault injection");
	ASSERT_EQ(0, net_need(3));
	ASSERT_EQ(0, cluster_up(&w->c, 2));
	w->one = w->c.fd[1];
	w->fd = -1;
	w->buf = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, w->buf);
	ASSERT_EQ(0, lite_rpc_register(w->c.fd[2], SERVED));
	ASSERT_EQ(0, pthread_create(&w->server, NULL, serve, w));
	/* So that no fault of user memory is what fails. */
	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	ASSERT_GE(nth_fd, 0);
}

FIXTURE_TEARDOWN(injection)
{
	struct world *w = &self->w;

	if (nth_fd < 0)
		return;
	w->done = true;
	pthread_join(w->server, NULL);
	/* What was not said by the request itself is said in the background. */
	EXPECT_TRUE(EVENTUALLY(30000, !node_attr_number("lt1", "memory_used") && !node_attr_number("lt2", "memory_used")));
	/* No call of root's is under way, and it has no handle. */
	EXPECT_TRUE(EVENTUALLY(30000, !sh("awk '$2 == 0 && ($4 || $5 || $6) { found = 1 } END { exit found }' "
					  "/sys/kernel/debug/rdma_lite/users")));
	cluster_down(&w->c);
}

#define SURVIVE(list) do { \
	for (size_t _i = 0; _i < COUNT(list); _i++) { \
		EXPECT_TRUE(survives(&self->w, &(list)[_i])) { TH_LOG("%s", (list)[_i].name); } \
	} \
} while (0)

TEST_F(injection, no_allocation_is_missed_by_a_request_that_makes_or_shares_a_region)
{
	static const struct request list[] = {
		REQUEST("alloc here", nothing, once_alloc_near, drop),
		REQUEST("alloc there", nothing, once_alloc_far, drop),
		REQUEST("map", make_named, once_map, drop_named),
		ENDS("unmap", make_mapped, once_unmap, drop_named),
		ENDS("free here", make_near, once_free, drop),
		ENDS("free there", make_far, once_free, drop),
		REQUEST("grant", make_mapped, once_grant, drop_named),
		REQUEST("revoke", make_mapped, once_revoke, drop_named),
		REQUEST("info", make_far, once_info, drop),
		REQUEST("lend", nothing, once_lend, drop),
	};

	SURVIVE(list);
}

TEST_F(injection, no_allocation_is_missed_by_a_request_that_uses_a_region)
{
	static const struct request list[] = {
		REQUEST("write here", make_near, once_write, drop),
		REQUEST("write there", make_far, once_write, drop),
		REQUEST("read here", make_near, once_read, drop),
		REQUEST("read there", make_far, once_read, drop),
		REQUEST("fill here", make_near, once_fill, drop),
		REQUEST("fill there", make_far, once_fill, drop),
		REQUEST("copy there", make_pair, once_copy_there, drop_pair),
		REQUEST("copy here", make_pair, once_copy_here, drop_pair),
		REQUEST("copy within", make_pair, once_copy_within, drop_pair),
		REQUEST("fetch and add", make_far, once_add, drop),
		REQUEST("compare and swap", make_near, once_swap, drop),
		REQUEST("batch", make_far, once_batch, drop),
		REQUEST("submit", make_far, once_submit, hear_and_drop),
		REQUEST("submit a fill", make_far, once_submit_fill, hear_and_drop),
		REQUEST("submit a copy", make_pair, once_submit_copy, hear_and_drop_pair),
		REQUEST("submit an addition", make_far, once_submit_add, hear_and_drop),
		REQUEST("poll", make_read, hear, drop),
		REQUEST("mmap", make_near, once_mmap, unmap_and_drop),
	};

	SURVIVE(list);
}

TEST_F(injection, no_allocation_is_missed_by_calls_and_ports)
{
	static const struct request list[] = {
		REQUEST("open", go_there, once_open, close_and_leave),
		REQUEST("ping here", nothing, once_ping_near, leave_nothing),
		REQUEST("ping there", nothing, once_ping_far, leave_nothing),
		REQUEST("port open", nothing, once_register, unregister),
		REQUEST("call", nothing, once_call, leave_nothing),
		REQUEST("notify", nothing, once_notify, leave_nothing),
		REQUEST("multicast", nothing, once_multicast, leave_nothing),
		REQUEST("receive", wait_for_request, once_receive, reply_and_end_call),
		REQUEST("reply", take_request, once_reply, end_call),
	};

	SURVIVE(list);
}

TEST_F(injection, no_allocation_is_missed_by_locks_and_nodes)
{
	static const struct request list[] = {
		REQUEST("lock here", nothing, once_lock_near, unlock),
		REQUEST("lock there", nothing, once_lock, unlock),
		ENDS("unlock", once_lock, once_unlock, unlock),
		REQUEST("barrier", nothing, once_barrier, leave_nothing),
		REQUEST("get map", nothing, once_get_map, leave_nothing),
		REQUEST("set map", nothing, once_set_map, publish),
		REQUEST("make node", go_to_third, once_make_node, remove_node_and_leave),
		REQUEST("configure", prepare_node, once_configure, end_node),
		REQUEST("switch on", prepare_node, once_power_on, end_node),
		REQUEST("switch off", prepare_powered, once_power_off, end_node),
		REQUEST("remove node", prepare_node, once_remove_node, end_node),
	};

	SURVIVE(list);
}

/* --- allocations of others, in our name ----------------------------------------------- */

/* A bit of everything, with whatever result. Returns how much succeeded. */
static int use_it_all(struct world *w, int64_t ms)
{
	static const struct request list[] = {
		REQUEST("alloc", nothing, once_alloc_far, drop),
		REQUEST("map", make_named, once_map, drop_named),
		REQUEST("write", make_far, once_write, drop),
		REQUEST("read", make_far, once_read, drop),
		REQUEST("copy", make_pair, once_copy_there, drop_pair),
		REQUEST("add", make_far, once_add, drop),
		REQUEST("batch", make_far, once_batch, drop),
		REQUEST("ping", nothing, once_ping_far, leave_nothing),
		REQUEST("call", nothing, once_call, leave_nothing),
		REQUEST("lock", nothing, once_lock, unlock),
		REQUEST("barrier", nothing, once_barrier, leave_nothing),
	};
	int64_t until = now_ms() + ms;
	int done = 0, failed = 0;

	while (now_ms() < until) {
		for (size_t i = 0; i < COUNT(list) && now_ms() < until; i++) {
			int err = list[i].prepare(w) ?: list[i].once(w);

			list[i].undo(w);
			done += !err;
			failed += !!err;
		}
	}
	fprintf(stderr, "# %d requests succeeded, %d failed\n", done, failed);
	return done;
}

/*
 * Whether only small allocations fail: what rdma_lite has in atomic contexts. Packets are larger; rdma_rxe goes
 * into a loop that lasts when it can build none (its completer warns of an error without a status), and that
 * is not ours. 0, or an errno when caches cannot be chosen.
 */
static int only_small_ones_fail(bool yes)
{
	static const int sizes[] = { 8, 16, 32, 64, 96, 128, 192, 256 };
	int err = 0;

	for (size_t i = 0; i < COUNT(sizes); i++) {
		char path[128];

		snprintf(path, sizeof(path), "/sys/kernel/slab/kmalloc-%d/failslab", sizes[i]);
		err = err ?: put_text(path, yes ? "1" : "0");
	}
	return err ?: put_text("/sys/kernel/debug/failslab/cache-filter", yes ? "Y" : "N");
}

/* All works as if nothing had been. */
static bool works_again(struct world *w)
{
	static const struct request list[] = {
		REQUEST("write", make_far, once_write, drop),
		REQUEST("copy", make_pair, once_copy_there, drop_pair),
		REQUEST("call", nothing, once_call, leave_nothing),
		REQUEST("lock", nothing, once_lock, unlock),
	};

	if (!lite_reachable(w->one, 2, 60000) || !lite_reachable(w->c.fd[2], 1, 60000)) {
		fprintf(stderr, "# they do not reach each other\n");
		return false;
	}
	for (size_t i = 0; i < COUNT(list); i++) {
		int err = list[i].prepare(w) ?: list[i].once(w);

		list[i].undo(w);
		if (err) {
			fprintf(stderr, "# afterwards %s: %s\n", list[i].name, strerror(err));
			return false;
		}
	}
	return true;
}

TEST_F_TIMEOUT(injection, workers_that_get_no_memory_now_and_then_leave_nothing_broken, 300)
{
	int done;

	ASSERT_EQ(0, injector("task-filter", "Y"));
	ASSERT_EQ(0, injector("times", "-1"));
	workers_fail(true);
	ASSERT_EQ(0, injector("probability", "3"));
	done = use_it_all(&self->w, 10000);
	/* A life ends and another begins meanwhile. */
	node_power(2, false);
	while (node_power(2, true))
		;
	cluster_publish(&self->w.c);
	done += use_it_all(&self->w, 3000);
	inject_nothing();
	EXPECT_LT(0, done);
	ASSERT_EQ(0, cluster_publish(&self->w.c));
	/* The server's port is of the life before, or not: it is the file's. */
	EXPECT_TRUE(works_again(&self->w));
}

TEST_F_TIMEOUT(injection, interrupts_that_get_no_memory_now_and_then_leave_nothing_broken, 300)
{
	int done;

	/* Those that may not sleep, of whoever. */
	if (only_small_ones_fail(true))
		SKIP(return, "this kernel cannot choose whose allocations fail");
	ASSERT_EQ(0, injector("ignore-gfp-wait", "Y"));
	ASSERT_EQ(0, injector("times", "-1"));
	ASSERT_EQ(0, put_text("/sys/kernel/debug/failslab/probability", "5"));
	done = use_it_all(&self->w, 10000);
	inject_nothing();
	only_small_ones_fail(false);
	EXPECT_LT(0, done);
	EXPECT_TRUE(works_again(&self->w));
}

TEST_HARNESS_MAIN
