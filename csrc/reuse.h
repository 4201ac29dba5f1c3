/* SPDX-License-Identifier: MIT */
/* Dead objects of one type, which the collector knows, kept to be used again. */
#ifndef PYZCRX_REUSE_H
#define PYZCRX_REUSE_H

#include "lease.h"

#include <string.h>

#define SPARE	64

struct spares {
	PyTypeObject *type;	/* whose they are, for good; NULL: nobody's yet */
	int n;
	PyObject *kept[SPARE];
};

/* One of them as fresh, of that size, all zeroes; NULL where there is none, without an exception. */
static inline PyObject *spares_take(struct spares *s, PyTypeObject *type, size_t size)
{
	PyObject *taken;

	if (type != s->type || !s->n)
		return NULL;
	taken = s->kept[--s->n];
	memset((char *)taken + sizeof(PyObject), 0, size - sizeof(PyObject));
	PyObject_Init(taken, type);
	PyObject_GC_Track(taken);
	return taken;
}

/* Whether its memory was kept: the caller lets go of all that it refers to, its type too. */
static inline int spares_keep(struct spares *s, PyObject *dying)
{
	if (Py_TYPE(dying) != s->type || s->n == SPARE)
		return 0;
	s->kept[s->n++] = dying;
	return 1;
}

#endif
