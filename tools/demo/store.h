/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The key-value store that memory nodes run beside their memory, an offload
 * of clio (legomem/core/offload/store.rs): each call is one request. Functions
 * return 0, or -1 and errno: ENOENT and EEXIST are what they seem, EMSGSIZE is
 * a value with no room at the caller or an item above 64 KiB, ENOSPC a store
 * that is full, EUCLEAN an address where there is no store.
 */
#ifndef STORE_H
#define STORE_H

#include <clio.h>

#define STORE_ID	2
#define STORE_MAX_KEY	256

enum store_function {
	STORE_FORMAT	= 1,
	STORE_CREATE	= 2,
	STORE_READ	= 3,
	STORE_UPDATE	= 4,
	STORE_DELETE	= 5,
	STORE_COUNT	= 6,
};

/* Where a store is: an allocation within one region. */
struct store {
	int ras;
	uint64_t addr;
};

/* Makes an empty store of @size bytes, of one bucket for each item or so. */
int store_format(const struct store *s, uint64_t size, uint64_t buckets);

int store_create(const struct store *s, const void *key, uint32_t key_len, const void *value,
		 uint32_t len);
int store_update(const struct store *s, const void *key, uint32_t key_len, const void *value,
		 uint32_t len);
int store_delete(const struct store *s, const void *key, uint32_t key_len);

/* @len: room at @value, then the length of the value. */
int store_read(const struct store *s, const void *key, uint32_t key_len, void *value,
	       uint32_t *len);

int store_count(const struct store *s, uint64_t *items);

#endif /* STORE_H */
