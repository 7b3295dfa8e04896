// SPDX-License-Identifier: GPL-2.0
/*
 * One-sided verbs as a program does them without rdma_lite: one queue pair,
 * memory registered once, one operation at a time, from its post until its
 * completion. Prints the nanoseconds of each, one a line.
 *
 *   verbs read|write spin|sleep BYTES COUNT FROM TO ADDRESS
 *
 * FROM and TO are network namespaces, ADDRESS is TO's. spin: asks for the
 * completion again and again, as perftest does; sleep: waits for its event.
 */
#include <errno.h>
#include <fcntl.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define WARM	16
#define SERVICE	"9100"

/* What the owner of the memory tells who connects. */
struct there {
	uint64_t addr;
	uint32_t rkey;
} __attribute__((packed));

static void enter(const char *ns)
{
	char path[128];
	int at;

	snprintf(path, sizeof(path), "/run/netns/%s", ns);
	at = open(path, O_RDONLY | O_CLOEXEC);
	if (at < 0 || setns(at, CLONE_NEWNET))
		die(path);
	close(at);
}

static struct rdma_cm_id *endpoint(char *address, bool passive)
{
	struct rdma_addrinfo hints = {
		.ai_flags = passive ? RAI_PASSIVE : 0,
		.ai_port_space = RDMA_PS_TCP,
	}, *found;
	struct ibv_qp_init_attr qp = {
		.cap = { .max_send_wr = 8, .max_recv_wr = 8, .max_send_sge = 1, .max_recv_sge = 1 },
		.sq_sig_all = 1,
	};
	struct rdma_cm_id *id;

	if (rdma_getaddrinfo(address, SERVICE, &hints, &found) || rdma_create_ep(&id, found, NULL, &qp))
		die(address);
	rdma_freeaddrinfo(found);
	return id;
}

static struct ibv_mr *registered(struct rdma_cm_id *id, size_t len)
{
	void *mem = aligned_alloc(4096, (len + 4095) & ~4095UL);
	struct ibv_mr *mr = NULL;

	if (mem) {
		memset(mem, 0x5a, len);
		mr = ibv_reg_mr(id->pd, mem, len, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
				IBV_ACCESS_REMOTE_WRITE);
	}
	if (!mr)
		die("memory");
	return mr;
}

/* Memory at an address, until we are killed. */
static void owner(char *address, size_t len, int ready)
{
	struct rdma_cm_id *listen = endpoint(address, true), *id;
	struct rdma_conn_param param = { .responder_resources = 1, .initiator_depth = 1 };
	struct there there;
	struct ibv_mr *mr;

	if (rdma_listen(listen, 1) || write(ready, "", 1) != 1 || rdma_get_request(listen, &id))
		die("listen");
	mr = registered(id, len);
	there.addr = (uintptr_t)mr->addr;
	there.rkey = mr->rkey;
	param.private_data = &there;
	param.private_data_len = sizeof(there);
	if (rdma_accept(id, &param))
		die("accept");
	for (;;)
		pause();
}

static void completion(struct rdma_cm_id *id, bool sleeps)
{
	struct ibv_wc wc = { 0 };
	int n;

	if (sleeps)
		n = rdma_get_send_comp(id, &wc);
	else
		while (!(n = ibv_poll_cq(id->send_cq, 1, &wc)))
			;
	if (n != 1 || wc.status != IBV_WC_SUCCESS) {
		fprintf(stderr, "verbs: %s\n", n == 1 ? ibv_wc_status_str(wc.status) : "no completion");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	struct rdma_conn_param param = { .responder_resources = 1, .initiator_depth = 1, .retry_count = 7 };
	bool writes, sleeps;
	struct rdma_cm_id *id;
	struct there there;
	struct ibv_mr *mr;
	uint64_t *ns;
	int ready[2];
	size_t len;
	long count;
	char byte;
	pid_t pid;

	if (argc != 8) {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	writes = !strcmp(argv[1], "write");
	sleeps = !strcmp(argv[2], "sleep");
	len = strtoul(argv[3], NULL, 0);
	count = strtol(argv[4], NULL, 0);
	ns = calloc(count > 0 ? count : 1, sizeof(*ns));
	if (!ns || pipe(ready) < 0)
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		enter(argv[6]);
		owner(argv[7], len, ready[1]);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		die("no owner");
	enter(argv[5]);
	id = endpoint(argv[7], false);
	mr = registered(id, len);
	if (rdma_connect(id, &param) || id->event->param.conn.private_data_len < sizeof(there))
		die("connect");
	memcpy(&there, id->event->param.conn.private_data, sizeof(there));
	for (long i = -WARM; i < count; i++) {
		uint64_t begin = now_ns();

		if (writes ? rdma_post_write(id, NULL, mr->addr, len, mr, 0, there.addr, there.rkey) :
			     rdma_post_read(id, NULL, mr->addr, len, mr, 0, there.addr, there.rkey))
			die("post");
		completion(id, sleeps);
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
	/* Its owner does not hear of a disconnect: it sleeps. */
	kill(pid, SIGKILL);
	for (long i = 0; i < count; i++)
		printf("%llu\n", (unsigned long long)ns[i]);
	return 0;
}
