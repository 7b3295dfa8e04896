/* SPDX-License-Identifier: GPL-2.0 */
/*
 * rdma_lite in tests: a private cluster of nodes lt1, lt2, … in namespaces of
 * the same names, beside whatever lab may be up; maps, pings and events.
 */
#ifndef POTLUCK_SELFTEST_LITE_H
#define POTLUCK_SELFTEST_LITE_H

#include <arpa/inet.h>
#include <linux/rdma_lite.h>

#include "potluck.h"

#define LITE_CONFIGFS	"/sys/kernel/config/rdma_lite"
#define LITE_DEVICE	"/dev/rdma_lite"
#define LITE_PORT	18600
#define LITE_CLUSTER	"5e1f7e57-0000-4000-8000-000000000001"
#ifndef LITE_MAX_NODES
#define LITE_MAX_NODES	8
#endif

/* Deadlines of the private cluster: short, so that a cut link costs seconds. */
#define LITE_TIMEOUT_MS		"3000"
/* What an emulated, busy guest may add to a deadline. */
#define LITE_MARGIN_MS		4000

/* --- network: namespaces lt1…, joined by a bridge, an rxe device in each --- */

/* Node i's interface, on the bridge, with an rxe device. */
static __maybe_unused int net_link(int i)
{
	return sh("set -e; ip link add ltv%1$d mtu 9000 type veth peer name ltp%1$d mtu 9000; "
		  "ip link set ltp%1$d master ltbr up; ip link set ltv%1$d netns lt%1$d; "
		  "ip -n lt%1$d addr add 10.78.0.%1$d/24 dev ltv%1$d; "
		  "ip -n lt%1$d link set ltv%1$d up; modprobe -q rdma_rxe || true; "
		  "ip netns exec lt%1$d rdma link add ltr%1$d type rxe netdev ltv%1$d", i);
}

static __maybe_unused int net_need(int nr)
{
	if (access(LITE_CONFIGFS, F_OK) && sh("modprobe rdma_lite || insmod \"$POTLUCK_MODULES\"/rdma_lite/rdma_lite.ko"))
		return -1;
	if (access("/sys/class/net/ltbr", F_OK) &&
	    sh("ip link add ltbr mtu 9000 type bridge forward_delay 0 && ip link set ltbr up"))
		return -1;
	for (int i = 1; i <= nr; i++) {
		char ns[16];

		snprintf(ns, sizeof(ns), "lt%d", i);
		if (netns_exists(ns))
			continue;
		if (sh("ip netns add lt%1$d && ip -n lt%1$d link set lo up", i) || net_link(i))
			return -1;
	}
	return 0;
}

static __maybe_unused void net_drop(void)
{
	for (int i = 1; i <= LITE_MAX_NODES; i++) {
		char ns[16];

		snprintf(ns, sizeof(ns), "lt%d", i);
		if (!netns_exists(ns))
			continue;
		sh("ip netns exec lt%1$d rdma link del ltr%1$d; ip -n lt%1$d link del ltv%1$d; ip netns del lt%1$d", i);
	}
	sh("ip link del ltbr");
}

static __maybe_unused int link_cut(int i)  { return sh("ip link set ltp%d down", i); }
static __maybe_unused int link_mend(int i)
{
	sh("tc qdisc del dev ltp%d root; ip netns exec lt%d tc qdisc del dev ltv%d root", i, i, i);
	return sh("ip link set ltp%d up", i);
}

/* Both directions of node i's link, as tc netem understands it. */
static __maybe_unused int link_netem(int i, const char *what)
{
	return sh("tc qdisc replace dev ltp%d root netem %s && "
		  "ip netns exec lt%d tc qdisc replace dev ltv%d root netem %s", i, what, i, i, what);
}

/* --- nodes ------------------------------------------------------------------ */

static __maybe_unused int node_attr(const char *node, const char *attr, const char *value)
{
	char path[256];

	snprintf(path, sizeof(path), LITE_CONFIGFS "/%s/%s", node, attr);
	return put_text(path, value);
}

static __maybe_unused int node_attr_get(const char *node, const char *attr, char *value, size_t room)
{
	char path[256];

	snprintf(path, sizeof(path), LITE_CONFIGFS "/%s/%s", node, attr);
	return get_text(path, value, room);
}

static __maybe_unused unsigned long long node_attr_number(const char *node, const char *attr)
{
	char value[64];

	return node_attr_get(node, attr, value, sizeof(value)) ? 0 : strtoull(value, NULL, 0);
}

/* A directory made in the namespace; 0 or an errno. */
static __maybe_unused int node_make(const char *ns, const char *node)
{
	char path[256];
	int before, err;

	snprintf(path, sizeof(path), LITE_CONFIGFS "/%s", node);
	before = netns_enter(ns);
	err = mkdir(path, 0755) < 0 ? errno : 0;
	netns_leave(before);
	return err;
}

static __maybe_unused int node_remove(const char *node)
{
	char path[256];

	snprintf(path, sizeof(path), LITE_CONFIGFS "/%s", node);
	return rmdir(path) < 0 ? errno : 0;
}

/* Bytes of the rings, if others than the default are wanted: many nodes have many. */
static const char *lite_ring_size __maybe_unused;
/* Time between heartbeats, default deadline, and time for each to reach each, where many share the processors. */
static const char *lite_heartbeat_ms __maybe_unused = "300";
static const char *lite_timeout_ms __maybe_unused = LITE_TIMEOUT_MS;
static int lite_settle_ms __maybe_unused = 30000;

/*
 * What carries the private cluster: POTLUCK_TRANSPORT=shm is memory of the kernel,
 * POTLUCK_TRANSPORT=guests a pmem device as kernels share it, anything else verbs,
 * which those tests need that cut links.
 */
static __maybe_unused bool lite_transport_is(const char *name)
{
	const char *transport = getenv("POTLUCK_TRANSPORT");

	return transport && !strcmp(transport, name);
}

static __maybe_unused bool lite_is_guests(void)
{
	return lite_transport_is("guests");
}

static __maybe_unused bool lite_is_shm(void)
{
	return lite_transport_is("shm") || lite_is_guests();
}

/* The device that the nodes share then; what is on it is lost. */
static __maybe_unused const char *lite_shared_memory(void)
{
	return getenv("POTLUCK_SHARED_MEMORY") ?: "/dev/pmem2";
}

/* Writes blocks of 4096 bytes, all of this value, to that device, past any cache; 0 or an errno. */
static __maybe_unused int lite_poke_memory(off_t at, size_t len, int value)
{
	int fd = open(lite_shared_memory(), O_WRONLY | O_DIRECT | O_CLOEXEC);
	void *block = aligned_alloc(4096, 4096);
	int err = fd < 0 || !block ? errno : 0;

	if (!err)
		memset(block, value, 4096);
	for (size_t done = 0; !err && done < len; done += 4096)
		err = pwrite(fd, block, 4096, at + done) == 4096 ? 0 : errno;
	free(block);
	if (fd >= 0)
		close(fd);
	return err;
}

/* Whether nodes give out the key over all memory: POTLUCK_GLOBAL_RKEY=1. */
static __maybe_unused const char *lite_global_rkey(void)
{
	return getenv("POTLUCK_GLOBAL_RKEY") ?: "0";
}

/* Why a test that cuts links is skipped then. */
#define LITE_NO_LINK "nodes that share memory have no link to cut"

static __maybe_unused const char *lite_transport(void)
{
	return lite_is_guests() ? "guests" : lite_is_shm() ? "auto" : "verbs";
}

/* All attributes of node lti as the private cluster has them, not powered. */
static __maybe_unused int node_configure(int i)
{
	char node[16], text[64];
	int err;

	snprintf(node, sizeof(node), "lt%d", i);
	snprintf(text, sizeof(text), "%d", i);
	err = node_attr(node, "id", text);
	snprintf(text, sizeof(text), "10.78.0.%d", i);
	err = err ?: node_attr(node, "addr", text);
	snprintf(text, sizeof(text), "%d", LITE_PORT);
	err = err ?: node_attr(node, "port", text);
	snprintf(text, sizeof(text), "ltr%d", i);
	err = err ?: node_attr(node, "device", text);
	err = err ?: node_attr(node, "cluster", LITE_CLUSTER);
	if (lite_ring_size)
		err = err ?: node_attr(node, "ring_size", lite_ring_size);
	err = err ?: node_attr(node, "transport", lite_transport());
	err = err ?: node_attr(node, "unsafe_global_rkey", lite_global_rkey());
	if (lite_is_guests())
		err = err ?: node_attr(node, "shared_memory", lite_shared_memory());
	err = err ?: node_attr(node, "timeout_ms", lite_timeout_ms);
	return err ?: node_attr(node, "heartbeat_ms", lite_heartbeat_ms);
}

/*
 * Parts of regions of `peer` that a node has read and written, by itself or
 * by calls, as debugfs counts them; -1 when it does not know the peer.
 */
static __maybe_unused long long lite_accessed(const char *node, int peer, bool one_sided)
{
	FILE *f = fopen("/sys/kernel/debug/rdma_lite/peers", "re");
	long long alone, by_calls, found = -1;
	char line[256], name[64];
	int id;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %d %*s %*d %lld %lld", name, &id, &alone, &by_calls) != 4)
			continue;
		if (!strcmp(name, node) && id == peer)
			found = one_sided ? alone : by_calls;
	}
	if (f)
		fclose(f);
	return found;
}

static __maybe_unused int node_power(int i, bool on)
{
	char node[16];

	snprintf(node, sizeof(node), "lt%d", i);
	return node_attr(node, "power", on ? "1" : "0");
}

static __maybe_unused int node_up(int i)
{
	char node[16];

	snprintf(node, sizeof(node), "lt%d", i);
	return node_make(node, node) ?: node_configure(i) ?: node_power(i, true);
}

static __maybe_unused void node_down(int i)
{
	char node[16];

	snprintf(node, sizeof(node), "lt%d", i);
	node_power(i, false);
	node_remove(node);
}

/* /dev/rdma_lite as seen from a namespace; a descriptor, or -1 and errno. */
static __maybe_unused int lite_open(const char *ns, int flags)
{
	int before = netns_enter(ns);
	int fd = open(LITE_DEVICE, O_RDWR | O_CLOEXEC | flags);
	int err = errno;

	netns_leave(before);
	errno = err;
	return fd;
}

/* --- maps ------------------------------------------------------------------- */

static __maybe_unused struct rdma_lite_map_node map_entry(int i)
{
	struct rdma_lite_map_node n = {
		.id = i,
		.state = RDMA_LITE_NODE_UP,
		.roles = RDMA_LITE_ROLE_HOTPOT | (i == 1 ? RDMA_LITE_ROLE_HOTPOT_CD : 0),
		.port = LITE_PORT,
		.family = AF_INET,
	};
	uint32_t addr = htonl(0x0a4e0000 + i);

	memcpy(n.addr, &addr, 4);
	snprintf(n.name, sizeof(n.name), "lt%d", i);
	return n;
}

static __maybe_unused int map_set(int fd, uint64_t epoch, struct rdma_lite_map_node *nodes, uint32_t nr)
{
	struct rdma_lite_map map = {
		.epoch = epoch,
		.nr_nodes = nr,
		.nodes = (uintptr_t)nodes,
	};

	return ioctl(fd, RDMA_LITE_IOC_SET_MAP, &map);
}

/* Entries of the map in force, or -1 and errno. */
static __maybe_unused int map_get(int fd, uint64_t *epoch, struct rdma_lite_map_node *nodes, uint32_t room)
{
	struct rdma_lite_map map = { .nr_nodes = room, .nodes = (uintptr_t)nodes };

	if (ioctl(fd, RDMA_LITE_IOC_GET_MAP, &map) < 0)
		return -1;
	if (epoch)
		*epoch = map.epoch;
	return map.nr_nodes;
}

/* --- ping ------------------------------------------------------------------- */

static __maybe_unused int lite_ping(int fd, uint32_t node, uint32_t len, uint32_t timeout_ms)
{
	struct rdma_lite_ping ping = { .node = node, .len = len, .timeout_ms = timeout_ms };

	return ioctl(fd, RDMA_LITE_IOC_PING, &ping);
}

/* Pings until an answer comes: after a new map or a mended link. */
static __maybe_unused bool lite_reachable(int fd, uint32_t node, int limit_ms)
{
	return EVENTUALLY(limit_ms, lite_ping(fd, node, 8, 1000) == 0);
}

/* --- events ----------------------------------------------------------------- */

/* Waits for an event of a type (and node, if not 0); whether it came. */
static __maybe_unused bool event_wait(int fd, uint32_t type, uint32_t node, int limit_ms,
				    struct rdma_lite_event *out)
{
	int64_t until = now_ms() + limit_ms;

	for (;;) {
		struct rdma_lite_event event;
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until - now_ms();

		if (left < 0 || poll(&p, 1, left) <= 0)
			return false;
		if (read(fd, &event, sizeof(event)) != sizeof(event))
			return false;
		if (event.type == type && (!node || event.node == node)) {
			if (out)
				*out = event;
			return true;
		}
	}
}

/* --- a private cluster, powered and with one map ------------------------------ */

struct cluster {
	int nr;
	int fd[LITE_MAX_NODES + 1];	/* by node id, from 1; O_NONBLOCK */
	uint64_t epoch;
	struct rdma_lite_map_node map[LITE_MAX_NODES];
};

/* Publishes c->map on all nodes that are open, with the next epoch. */
static __maybe_unused int cluster_publish(struct cluster *c)
{
	int err = 0;

	c->epoch++;
	for (int i = 1; i <= c->nr; i++)
		if (c->fd[i] >= 0 && map_set(c->fd[i], c->epoch, c->map, c->nr) < 0)
			err = errno;
	return err;
}

static __maybe_unused void cluster_down(struct cluster *c)
{
	for (int i = 1; i <= c->nr; i++) {
		link_mend(i);
		if (c->fd[i] >= 0)
			close(c->fd[i]);
		c->fd[i] = -1;
	}
	for (int i = 1; i <= c->nr; i++)
		node_down(i);
}

static __maybe_unused int cluster_up(struct cluster *c, int nr)
{
	int err;

	memset(c, 0, sizeof(*c));
	c->nr = nr;
	for (int i = 0; i <= LITE_MAX_NODES; i++)
		c->fd[i] = -1;
	if (net_need(nr))
		return ENETDOWN;
	/* A hotpot test may have left its mounts on these nodes. */
	for (int i = 1; i <= LITE_MAX_NODES; i++) {
		char mnt[32];

		snprintf(mnt, sizeof(mnt), "/mnt/lt%d", i);
		umount2(mnt, 0);
	}
	for (int i = 1; i <= nr; i++)
		node_down(i);	/* what a test that died may have left */
	if (lite_is_guests()) {
		err = lite_poke_memory(0, 65536, 0);
		if (err) {
			fprintf(stderr, "# cannot clear %s: %s\n", lite_shared_memory(), strerror(err));
			return err;
		}
	}
	for (int i = 1; i <= nr; i++) {
		char ns[16];

		snprintf(ns, sizeof(ns), "lt%d", i);
		err = node_up(i);
		if (!err) {
			c->fd[i] = lite_open(ns, O_NONBLOCK);
			err = c->fd[i] < 0 ? errno : 0;
		}
		if (err) {
			fprintf(stderr, "# node lt%d does not come up: %s\n", i, strerror(err));
			return err;
		}
		c->map[i - 1] = map_entry(i);
	}
	err = cluster_publish(c);
	if (err)
		return err;
	for (int i = 1; i <= nr; i++)
		for (int j = 1; j <= nr; j++)
			if (!lite_reachable(c->fd[i], j, lite_settle_ms)) {
				fprintf(stderr, "# node %d does not reach node %d: %s\n", i, j, strerror(errno));
				return ETIMEDOUT;
			}
	return 0;
}

#endif /* POTLUCK_SELFTEST_LITE_H */
