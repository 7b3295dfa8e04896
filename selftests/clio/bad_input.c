// SPDX-License-Identifier: GPL-2.0
/* What no user should ask for. */
#include "remote.h"

FIXTURE(bad_input) {
	struct clio_cluster cl;
	int fd;
	uint64_t addr;
};

FIXTURE_SETUP(bad_input)
{
	ASSERT_EQ(0, clio_cluster_up(&self->cl, 2, 1, "67108864"));
	self->fd = clio_attached(2, "bad");
	ASSERT_GE(self->fd, 0);
	self->addr = ralloc(self->fd, 65536);
	ASSERT_NE(0, self->addr);
}

FIXTURE_TEARDOWN(bad_input)
{
	close(self->fd);
	clio_cluster_down(&self->cl);
}

static int one(int fd, struct clio_op op)
{
	return clio_do(fd, &op) ? errno : 0;
}

TEST_F(bad_input, pointers_are_efault_in_every_call)
{
	static const unsigned long calls[] = {
		CLIO_IOC_INFO, CLIO_IOC_CREATE, CLIO_IOC_ATTACH, CLIO_IOC_DESTROY,
		CLIO_IOC_SUBMIT, CLIO_IOC_POLL,
	};
	struct clio_submit submit = { .ops = (uintptr_t)bad_pointer(), .nr = 1 };
	struct clio_op op = { .opcode = CLIO_OP_WRITE, .addr = self->addr, .len = 8,
			      .buf = (uintptr_t)bad_pointer() };
	struct clio_completion done;

	for (size_t i = 0; i < COUNT(calls); i++) {
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, calls[i], bad_pointer()))) TH_LOG("call %zu", i);
	}
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, CLIO_IOC_SUBMIT, &submit)));
	EXPECT_EQ(EFAULT, ERRNO_OF(clio_submit(self->fd, &op, 1, 0, 0)));
	op.opcode = CLIO_OP_READ;
	EXPECT_EQ(EFAULT, one(self->fd, op));
	ASSERT_EQ(0, rread_async(self->fd, self->addr, bad_pointer(), 8, 5));
	/* What could not be told of is told of again. */
	EXPECT_EQ(EFAULT, ERRNO_OF(rpoll(self->fd, bad_pointer(), 1, 1, 0)));
	ASSERT_EQ(1, rpoll(self->fd, &done, 1, 1, 0));
	EXPECT_EQ(-EFAULT, done.error);
	EXPECT_EQ(5, done.cookie);
}

TEST_F(bad_input, operations_that_cannot_be_are_einval)
{
	struct clio_op op = { .opcode = 99, .addr = self->addr, .len = 8 };
	uint64_t word = 0;

	EXPECT_EQ(EINVAL, one(self->fd, op));
	op.opcode = 0;
	EXPECT_EQ(EINVAL, one(self->fd, op));
	op = (struct clio_op) { .opcode = CLIO_OP_READ, .addr = self->addr, .len = 8,
				.buf = (uintptr_t)&word, .flags = 1 };
	EXPECT_EQ(EINVAL, one(self->fd, op));
	op.flags = 0;
	op.reserved = 1;
	EXPECT_EQ(EINVAL, one(self->fd, op));
	op.reserved = 0;
	op.len = 0;
	EXPECT_EQ(EINVAL, one(self->fd, op));
	op.len = CLIO_MAX_LEN + 1;
	EXPECT_EQ(EMSGSIZE, one(self->fd, op));
	EXPECT_EQ(EINVAL, ERRNO_OF(rfaa(self->fd, self->addr + 4, 1, NULL)));
	EXPECT_EQ(EINVAL, ERRNO_OF(clio_submit(self->fd, &op, 0, 0, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(clio_submit(self->fd, &op, CLIO_MAX_BATCH + 1, 0, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(clio_submit(self->fd, &op, 1, 2, 0)));
	EXPECT_EQ(0, ralloc(self->fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(ENOTTY, ERRNO_OF(ioctl(self->fd, _IO(CLIO_IOC_MAGIC, 77))));
}

TEST_F(bad_input, addresses_outside_of_an_allocation_are_efault)
{
	uint64_t other = ralloc(self->fd, 65536);
	char buf[16];

	ASSERT_NE(0, other);
	EXPECT_EQ(EFAULT, ERRNO_OF(rread(self->fd, 0, buf, 8)));
	EXPECT_EQ(EFAULT, ERRNO_OF(rread(self->fd, ~0ULL - 7, buf, 8)));
	EXPECT_EQ(EFAULT, ERRNO_OF(rread(self->fd, ~0ULL, buf, 16)));
	EXPECT_EQ(EFAULT, ERRNO_OF(rread(self->fd, self->addr + (1ULL << 40), buf, 8)));
	EXPECT_EQ(EFAULT, ERRNO_OF(rread(self->fd, self->addr - 8, buf, 16)));
	/* From one allocation into the next. */
	EXPECT_EQ(EFAULT, ERRNO_OF(rwrite(self->fd, (other > self->addr ? other : self->addr) - 8, buf, 16)));
}

TEST_F(bad_input, freeing_twice_or_what_is_not_allocated_is_refused)
{
	uint64_t addr = ralloc(self->fd, 65536);

	ASSERT_NE(0, addr);
	ASSERT_EQ(0, rfree(self->fd, addr, 65536));
	EXPECT_NE(0, ERRNO_OF(rfree(self->fd, addr, 65536)));
	EXPECT_NE(0, ERRNO_OF(rfree(self->fd, self->addr + 4096, 4096)));
	EXPECT_EQ(0, rfree(self->fd, self->addr, 65536));
}

TEST_F(bad_input, rights_are_held_to)
{
	uint64_t addr = ralloc_rights(self->fd, 65536, CLIO_READ), word;

	ASSERT_NE(0, addr);
	EXPECT_EQ(0, rread(self->fd, addr, &word, 8));
	EXPECT_EQ(EACCES, ERRNO_OF(rwrite(self->fd, addr, &word, 8)));
	EXPECT_EQ(EACCES, ERRNO_OF(rfaa(self->fd, addr, 1, NULL)));
	EXPECT_EQ(0, ralloc_rights(self->fd, 65536, 8));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(bad_input, a_wrong_name_or_key_does_not_attach)
{
	static const uint64_t wrong[2] = { 1, 2 };
	int fd = clio_open_at(2);

	ASSERT_GE(fd, 0);
	EXPECT_EQ(EACCES, ERRNO_OF(clio_attach(fd, "bad", wrong)));
	EXPECT_EQ(ENOENT, ERRNO_OF(clio_attach(fd, "no such", clio_key)));
	EXPECT_EQ(EINVAL, ERRNO_OF(clio_attach(fd, "", clio_key)));
	EXPECT_EQ(EEXIST, ERRNO_OF(clio_create(fd, "bad", wrong, 0, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(clio_create(fd, "size", clio_key, 0, 12345)));
	EXPECT_EQ(EINVAL, ERRNO_OF(clio_create(fd, "size", clio_key, 0, 1 << 20)));
	EXPECT_EQ(0, ralloc(fd, 4096));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(EACCES, ERRNO_OF(clio_destroy(fd, "bad", wrong)));
	close(fd);
}

TEST_F(bad_input, a_ras_in_use_is_not_destroyed)
{
	EXPECT_EQ(EBUSY, ERRNO_OF(clio_attach(self->fd, "bad", clio_key)));
	EXPECT_EQ(EBUSY, ERRNO_OF(clio_destroy(self->fd, "bad", clio_key)));
	ASSERT_EQ(0, clio_detach(self->fd));
	EXPECT_EQ(ENOTCONN, ERRNO_OF(clio_detach(self->fd)));
	EXPECT_EQ(0, clio_destroy(self->fd, "bad", clio_key)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(ENOENT, ERRNO_OF(clio_attach(self->fd, "bad", clio_key)));
}

TEST_F(bad_input, more_than_there_is_is_enospc_at_the_allocation)
{
	uint64_t addr, last = 0;
	int nr = 0;

	EXPECT_EQ(0, ralloc(self->fd, 1ULL << 50));
	EXPECT_NE(0, errno);
	while ((addr = ralloc(self->fd, 4 << 20)) && nr < 100) {
		last = addr;
		nr++;
	}
	EXPECT_TRUE(errno == ENOSPC || errno == EDQUOT) TH_LOG("%d: %s", nr, strerror(errno));
	EXPECT_LT(nr, 17);
	/* What was promised can be written. */
	for (uint64_t at = 0; last && at < 4 << 20; at += 65536) {
		ASSERT_EQ(0, rwrite(self->fd, last + at, &nr, 4)) TH_LOG("%s", strerror(errno));
	}
}

TEST_F(bad_input, the_module_stays_while_it_is_in_use)
{
	EXPECT_NE(0, sh("rmmod clio_cn 2>/dev/null"));
}

TEST(a_namespace_without_a_node_has_no_remote_memory)
{
	int fd = clio_open();

	EXPECT_EQ(-1, fd);
	EXPECT_TRUE(errno == ENXIO || errno == ENOENT);
}

TEST_HARNESS_MAIN
