// SPDX-License-Identifier: GPL-2.0
#include "store.h"

#include <endian.h>
#include <stdlib.h>
#include <sys/random.h>

static int call(const struct store *s, enum store_function function, const void *in,
		uint32_t in_len, uint64_t *result)
{
	uint32_t none = 0;

	return roffload(s->ras, STORE_ID, function, s->addr, in, in_len, NULL, &none, result);
}

int store_format(const struct store *s, uint64_t size, uint64_t buckets)
{
	uint64_t in[4] = { htole64(size), htole64(buckets) };

	/* Whoever knows the hash's key can make all items fall into one bucket. */
	if (getrandom(&in[2], 16, 0) != 16)
		return -1;
	return call(s, STORE_FORMAT, in, sizeof(in), NULL);
}

static int put(const struct store *s, enum store_function function, const void *key,
	       uint32_t key_len, const void *value, uint32_t len)
{
	char in[sizeof(uint32_t) + STORE_MAX_KEY + (64 << 10)];
	uint32_t le = htole32(key_len);

	if (key_len > STORE_MAX_KEY || len > 64 << 10) {
		errno = EMSGSIZE;
		return -1;
	}
	memcpy(in, &le, sizeof(le));
	memcpy(in + sizeof(le), key, key_len);
	memcpy(in + sizeof(le) + key_len, value, len);
	return call(s, function, in, sizeof(le) + key_len + len, NULL);
}

int store_create(const struct store *s, const void *key, uint32_t key_len, const void *value,
		 uint32_t len)
{
	return put(s, STORE_CREATE, key, key_len, value, len);
}

int store_update(const struct store *s, const void *key, uint32_t key_len, const void *value,
		 uint32_t len)
{
	return put(s, STORE_UPDATE, key, key_len, value, len);
}

int store_delete(const struct store *s, const void *key, uint32_t key_len)
{
	return call(s, STORE_DELETE, key, key_len, NULL);
}

int store_read(const struct store *s, const void *key, uint32_t key_len, void *value,
	       uint32_t *len)
{
	return roffload(s->ras, STORE_ID, STORE_READ, s->addr, key, key_len, value, len, NULL);
}

int store_count(const struct store *s, uint64_t *items)
{
	return call(s, STORE_COUNT, NULL, 0, items);
}
