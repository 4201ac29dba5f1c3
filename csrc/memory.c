// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "shim.h"

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT	26
#endif

static int64_t map(void *at, size_t length, int flags, int fd, uint64_t offset)
{
	void *p = mmap(at, length, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);

	return p == MAP_FAILED ? -errno : (int64_t)(intptr_t)p;
}

int64_t pz_map_anonymous(size_t length, int huge_shift)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	if (huge_shift)
		flags |= MAP_HUGETLB | huge_shift << MAP_HUGE_SHIFT;
	return map(NULL, length, flags, -1, 0);
}

int64_t pz_map_nothing(size_t length)
{
	void *p = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? -errno : (int64_t)(intptr_t)p;
}

int64_t pz_map_fd(int fd, uint64_t offset, size_t length)
{
	return map(NULL, length, MAP_SHARED, fd, offset);
}

int pz_unmap(uint64_t address, size_t length)
{
	return munmap((void *)address, length) ? -errno : 0;
}

int pz_dont_fork(uint64_t address, size_t length)
{
	return madvise((void *)address, length, MADV_DONTFORK) ? -errno : 0;
}

int pz_want_huge(uint64_t address, size_t length)
{
	return madvise((void *)address, length, MADV_HUGEPAGE) ? -errno : 0;
}

int pz_map_zeroes(uint64_t address, size_t length)
{
	int64_t at = map((void *)address, length,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return at < 0 ? (int)at : 0;
}

int pz_detach(uint64_t address, size_t length)
{
	int64_t copy = pz_map_anonymous(length, 0);

	if (copy < 0)
		return (int)copy;
	__builtin_memcpy((void *)copy, (void *)address, length);
	if (mremap((void *)copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
		   (void *)address) == MAP_FAILED) {
		int err = -errno;

		munmap((void *)copy, length);
		return err;
	}
	return 0;
}
