/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ZCRXSIM_FAULTS_H
#define ZCRXSIM_FAULTS_H

#include "zcrxsim.h"

static inline u32 zs_fault_linear(const struct zs_queue *q, u32 len)
{
	return 0;
}

static inline u32 zs_fault_part(const struct zs_queue *q, u32 len,
				const struct zs_ring *ring, u32 taken)
{
	return len;
}

static inline bool zs_fault_pass_bad(const struct zs_queue *q)
{
	return false;
}

static inline bool zs_fault_alloc(struct zs_queue *q)
{
	return false;
}

static inline bool zs_fault_skb(struct zs_queue *q)
{
	return false;
}

static inline u32 zs_fault_room(const struct zs_queue *q, const struct zs_ring *ring, u32 room)
{
	return room;
}

static inline bool zs_fault_link_down(const struct zs_port *port)
{
	return false;
}

static inline void zs_faults_init(void) {}
static inline void zs_faults_exit(void) {}
static inline void zs_faults_create(struct zs_port *port) {}
static inline void zs_faults_destroy(struct zs_port *port) {}

static inline bool zs_fault_frames(const struct zs_queue *q)
{
	return false;
}

static inline bool zs_fault_place(struct zs_queue *q, const struct zs_frame *f, u32 waiter)
{
	return zs_place(q, f, waiter);
}

#endif
