// SPDX-License-Identifier: MIT
/* The thread that a Core belongs to. */
#include "core.h"

uint64_t thread_number(void)
{
	static _Thread_local uint64_t number;
	static uint64_t last;	/* under the GIL */

	if (!number)
		number = ++last;
	return number;
}

PyObject *core_owned(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(((struct core *)self)->owner == thread_number());
}
