/*
 * Mappings.  Addresses come back as int64_t, errors as -errno.
 */
int64_t pz_map_anonymous(size_t length, int huge_shift);
/* Addresses that nothing can be read from or written to. */
int64_t pz_map_nothing(size_t length);
int64_t pz_map_fd(int fd, uint64_t offset, size_t length);
int pz_unmap(uint64_t address, size_t length);
/* MADV_DONTFORK: a forked child does not get these pages, nor their pins. */
int pz_dont_fork(uint64_t address, size_t length);
/* MADV_HUGEPAGE */
int pz_want_huge(uint64_t address, size_t length);
/* Zero pages where nothing is mapped; -EEXIST where something is. */
int pz_map_zeroes(uint64_t address, size_t length);
/*
 * Private copy of the pages, at the same address: what was mapped there, and
 * the file behind it, is let go while readers go on reading.
 */
int pz_detach(uint64_t address, size_t length);
