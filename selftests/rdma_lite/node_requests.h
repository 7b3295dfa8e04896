/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests to nodes: opens, pings and maps; calls, ports; locks and barriers; nodes themselves.
 */
#ifndef POTLUCK_SELFTEST_NODE_REQUESTS_H
#define POTLUCK_SELFTEST_NODE_REQUESTS_H

#include "requests.h"

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

#endif /* POTLUCK_SELFTEST_NODE_REQUESTS_H */
