// SPDX-License-Identifier: MIT
/*
 * Marks for an emulator that counts instructions, as tests/perf/marks.py makes
 * them: a long no-op with a displacement that no compiler emits. Their numbers are
 * known at run time only, so they are written into a page of code.
 */
#ifndef PYZCRX_BENCH_MARK_H
#define PYZCRX_BENCH_MARK_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define MARK_TAG	0x5a000000u
#define MARK_SHIFT	20
#define MARK_BEGIN	1
#define MARK_END	2
#define MARK_DIGITS	3
#define MARK_RANGE	4

struct marks {
	uint8_t *code;
	size_t used;
};

static inline void mark_put(struct marks *m, uint32_t operation, uint64_t value)
{
	static const uint8_t nop[] = { 0x0f, 0x1f, 0x84, 0x00 };
	uint32_t disp = MARK_TAG | operation << MARK_SHIFT |
			(value & ((1u << MARK_SHIFT) - 1));

	memcpy(m->code + m->used, nop, sizeof(nop));
	memcpy(m->code + m->used + sizeof(nop), &disp, sizeof(disp));
	m->used += sizeof(nop) + sizeof(disp);
}

/* What was put since *from*, as a function; *number* 0 means that nobody counts. */
static inline void (*mark_function(struct marks *m, size_t from))(void)
{
	void *at = m->code + from;
	void (*function)(void);

	m->code[m->used++] = 0xc3;	/* ret */
	memcpy(&function, &at, sizeof(function));
	return function;
}

static inline void mark_nothing(void)
{
}

static inline void (*mark(struct marks *m, uint32_t operation, uint32_t number))(void)
{
	size_t from = m->used;

	if (!number || !m->code)
		return mark_nothing;
	mark_put(m, operation, number);
	return mark_function(m, from);
}

static inline void mark_payload(struct marks *m, uint32_t number, const void *at, size_t bytes)
{
	uint64_t first = (uintptr_t)at >> 12, pages = (bytes + 4095) >> 12;
	size_t from = m->used;

	if (!number || !m->code)
		return;
	mark_put(m, MARK_DIGITS, first >> MARK_SHIFT);
	mark_put(m, MARK_DIGITS, first);
	mark_put(m, MARK_DIGITS, pages >> MARK_SHIFT);
	mark_put(m, MARK_DIGITS, pages);
	mark_put(m, MARK_RANGE, 0);
	mark_function(m, from)();
}

static inline struct marks marks_open(void)
{
	struct marks m = { 0 };
#ifdef __x86_64__
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page != MAP_FAILED)
		m.code = page;
#endif
	return m;
}

#endif
