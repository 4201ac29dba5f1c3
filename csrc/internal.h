/* SPDX-License-Identifier: MIT */
/* What the shim's own files share and Python does not see. */
#ifndef PYZCRX_INTERNAL_H
#define PYZCRX_INTERNAL_H

#include <liburing.h>

#include "shim.h"

struct pz_ring {
	struct io_uring uring;
};

#endif
