// SPDX-License-Identifier: GPL-2.0
/*
 * Sorts an array that is larger than the local memory it may use.
 *
 *	bigsort [ARRAY MIB] [CACHE MIB]
 *
 * The array lies in remote memory, and is used through its mapping: the sort
 * is plain C that knows nothing of that. Then another open reads the array
 * from the memory nodes, and finds the same numbers in order.
 */
#include <clio.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME	"bigsort"
#define REGION	(16ULL << 20)

static const uint64_t key[2] = { 0x736f7274, 1 };

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "bigsort: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	if (error)
		fprintf(stderr, ": %s", strerror(error));
	fputc('\n', stderr);
	exit(1);
}

/* --- plain C --------------------------------------------------------------- */

static void swap(uint64_t *a, uint64_t *b)
{
	uint64_t c = *a;

	*a = *b;
	*b = c;
}

static void insertion_sort(uint64_t *a, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		uint64_t x = a[i];
		size_t at = i;

		for (; at && a[at - 1] > x; at--)
			a[at] = a[at - 1];
		a[at] = x;
	}
}

static void quicksort(uint64_t *a, size_t n)
{
	while (n > 24) {
		uint64_t *low = a, *high = a + n - 1, pivot = a[n / 2];

		while (low <= high) {
			while (*low < pivot)
				low++;
			while (*high > pivot)
				high--;
			if (low <= high)
				swap(low++, high--);
		}
		/* The shorter part by a call, so the stack stays small. */
		if (high - a < a + n - low) {
			quicksort(a, high + 1 - a);
			n = a + n - low;
			a = low;
		} else {
			quicksort(low, a + n - low);
			n = high + 1 - a;
		}
	}
	insertion_sort(a, n);
}

/* xorshift64*: the same numbers each time. */
static uint64_t next_number(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}

/* --- remote memory --------------------------------------------------------- */

static void set_cache(int ras, uint64_t size)
{
	struct clio_cache cache = { .size = size };

	if (ioctl(ras, CLIO_IOC_CACHE, &cache))
		die("a cache of %llu bytes", (unsigned long long)size);
}

static void print_cache(int ras)
{
	struct clio_cache cache = { 0 };

	if (ioctl(ras, CLIO_IOC_CACHE, &cache))
		die("the cache's counters");
	printf("cache: %llu pages fetched, %llu begun with zeros, %llu evicted, "
	       "%llu written back\n",
	       (unsigned long long)cache.fetches, (unsigned long long)cache.zeros,
	       (unsigned long long)cache.evictions, (unsigned long long)cache.write_backs);
}

/* What an open that has no cache finds at the memory nodes. */
static void check(uint64_t addr, size_t n, uint64_t sum)
{
	static uint64_t piece[8192];
	uint64_t last = 0;
	int ras = clio_open();

	if (ras < 0 || clio_attach(ras, NAME, key))
		die("cannot attach again");
	for (size_t done = 0; done < n; done += 8192) {
		if (rread(ras, addr + done * 8, piece, sizeof(piece)))
			die("rread at %zu", done);
		errno = 0;
		for (size_t i = 0; i < 8192; i++) {
			if (piece[i] < last)
				die("number %zu is smaller than the one before it", done + i);
			last = piece[i];
			sum -= last;
		}
	}
	if (sum)
		die("they are not the numbers that were sorted");
	clio_detach(ras);
	close(ras);
}

static uint64_t mib(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	errno = 0;
	if (*end || !n || n > 1 << 20)
		die("'%s' is no number of MiB", text);
	return (uint64_t)n << 20;
}

int main(int argc, char **argv)
{
	uint64_t size = mib(argc > 1 ? argv[1] : "16"), local = mib(argc > 2 ? argv[2] : "4");
	uint64_t addr, state = 1, sum = 0, *numbers;
	size_t n = size / sizeof(*numbers);
	struct clio_range range;
	int ras = clio_open();

	if (ras < 0)
		die("cannot open /dev/clio");
	if (clio_create(ras, NAME, key, 0, REGION) || clio_attach(ras, NAME, key))
		die("cannot create the address space " NAME
		    " (potluck mem destroy ends one that is left)");
	addr = ralloc(ras, size);
	if (!addr)
		die("no room for %llu bytes", (unsigned long long)size);
	range = (struct clio_range){ .addr = addr, .len = size };
	set_cache(ras, local);
	numbers = rmap(ras, addr, size, PROT_READ | PROT_WRITE);
	if (numbers == MAP_FAILED)
		die("mmap of %llu bytes", (unsigned long long)size);

	for (size_t i = 0; i < n; i++) {
		numbers[i] = next_number(&state);
		sum += numbers[i];
	}
	quicksort(numbers, n);

	if (ioctl(ras, CLIO_IOC_SYNC, &range))
		die("what was stored could not be written back");
	print_cache(ras);
	check(addr, n, sum);
	if (munmap(numbers, size) || clio_detach(ras) || clio_destroy(ras, NAME, key))
		die("the end");
	printf("%zu numbers, %llu MiB, are in order; %llu MiB of them were here at a time\n", n,
	       (unsigned long long)(size >> 20), (unsigned long long)(local >> 20));
	return 0;
}
