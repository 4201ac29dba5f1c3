// SPDX-License-Identifier: MIT
/*
 * Our definitions held against liburing's.  Sizes are the kernel's ABI and do
 * not change; fields that an older liburing still calls reserved are not
 * named here.
 */
#include <assert.h>

#include "internal.h"

#define SAME_SIZE(ours, theirs) \
	static_assert(sizeof(struct ours) == sizeof(struct theirs), #ours)
#define SAME_OFFSET(ours, theirs, field) \
	static_assert(offsetof(struct ours, field) == offsetof(struct theirs, field), \
		      #ours "." #field)
#define SAME_VALUE(ours, theirs) \
	static_assert((int)(ours) == (int)(theirs), #ours)

SAME_SIZE(pz_rqe, io_uring_zcrx_rqe);
SAME_OFFSET(pz_rqe, io_uring_zcrx_rqe, off);
SAME_OFFSET(pz_rqe, io_uring_zcrx_rqe, len);

SAME_SIZE(pz_zcrx_cqe, io_uring_zcrx_cqe);
SAME_OFFSET(pz_zcrx_cqe, io_uring_zcrx_cqe, off);

SAME_SIZE(pz_offsets, io_uring_zcrx_offsets);
SAME_OFFSET(pz_offsets, io_uring_zcrx_offsets, head);
SAME_OFFSET(pz_offsets, io_uring_zcrx_offsets, tail);
SAME_OFFSET(pz_offsets, io_uring_zcrx_offsets, rqes);

SAME_SIZE(pz_area_reg, io_uring_zcrx_area_reg);
SAME_OFFSET(pz_area_reg, io_uring_zcrx_area_reg, addr);
SAME_OFFSET(pz_area_reg, io_uring_zcrx_area_reg, len);
SAME_OFFSET(pz_area_reg, io_uring_zcrx_area_reg, rq_area_token);
SAME_OFFSET(pz_area_reg, io_uring_zcrx_area_reg, flags);

SAME_SIZE(pz_region_desc, io_uring_region_desc);
SAME_OFFSET(pz_region_desc, io_uring_region_desc, user_addr);
SAME_OFFSET(pz_region_desc, io_uring_region_desc, size);
SAME_OFFSET(pz_region_desc, io_uring_region_desc, flags);
SAME_OFFSET(pz_region_desc, io_uring_region_desc, mmap_offset);

SAME_SIZE(pz_ifq_reg, io_uring_zcrx_ifq_reg);
SAME_OFFSET(pz_ifq_reg, io_uring_zcrx_ifq_reg, if_idx);
SAME_OFFSET(pz_ifq_reg, io_uring_zcrx_ifq_reg, if_rxq);
SAME_OFFSET(pz_ifq_reg, io_uring_zcrx_ifq_reg, rq_entries);
SAME_OFFSET(pz_ifq_reg, io_uring_zcrx_ifq_reg, flags);
SAME_OFFSET(pz_ifq_reg, io_uring_zcrx_ifq_reg, area_ptr);
SAME_OFFSET(pz_ifq_reg, io_uring_zcrx_ifq_reg, region_ptr);
SAME_OFFSET(pz_ifq_reg, io_uring_zcrx_ifq_reg, offsets);
SAME_OFFSET(pz_ifq_reg, io_uring_zcrx_ifq_reg, zcrx_id);

SAME_SIZE(pz_napi, io_uring_napi);

/* The rest is not in every liburing we build with: the kernel's figures. */
static_assert(sizeof(struct pz_event_desc) == 96, "zcrx_event_desc");
static_assert(offsetof(struct pz_event_desc, stats_offset) == 16, "zcrx_event_desc");
static_assert(sizeof(struct pz_stats) == 16, "zcrx_stats");
static_assert(offsetof(struct pz_ifq_reg, rx_buf_len) == 68, "rx_buf_len");
static_assert(offsetof(struct pz_ifq_reg, event_desc) == 72, "event_desc");
static_assert(sizeof(struct pz_ctrl) == 72, "zcrx_ctrl");
static_assert(offsetof(struct pz_ctrl, payload) == 24, "zcrx_ctrl");
static_assert(sizeof(struct pz_query_hdr) == 40, "io_uring_query_hdr");
static_assert(sizeof(struct pz_query_opcode) == 48, "io_uring_query_opcode");
static_assert(sizeof(struct pz_query_zcrx) == 40, "io_uring_query_zcrx");
static_assert(sizeof(struct pz_query_zcrx_event) == 48, "io_uring_query_zcrx_event");

SAME_VALUE(PZ_REGISTER_NAPI, IORING_REGISTER_NAPI);
SAME_VALUE(PZ_REGISTER_UNREGISTER_NAPI, IORING_UNREGISTER_NAPI);
SAME_VALUE(PZ_REGISTER_ZCRX_IFQ, IORING_REGISTER_ZCRX_IFQ);
SAME_VALUE(PZ_OP_RECV_ZC, IORING_OP_RECV_ZC);
SAME_VALUE(PZ_SETUP_CQSIZE, IORING_SETUP_CQSIZE);
SAME_VALUE(PZ_SETUP_CLAMP, IORING_SETUP_CLAMP);
SAME_VALUE(PZ_SETUP_SUBMIT_ALL, IORING_SETUP_SUBMIT_ALL);
SAME_VALUE(PZ_SETUP_TASKRUN_FLAG, IORING_SETUP_TASKRUN_FLAG);
SAME_VALUE(PZ_SETUP_CQE32, IORING_SETUP_CQE32);
SAME_VALUE(PZ_SETUP_SINGLE_ISSUER, IORING_SETUP_SINGLE_ISSUER);
SAME_VALUE(PZ_SETUP_DEFER_TASKRUN, IORING_SETUP_DEFER_TASKRUN);
SAME_VALUE(PZ_SQ_CQ_OVERFLOW, IORING_SQ_CQ_OVERFLOW);
SAME_VALUE(PZ_SQ_TASKRUN, IORING_SQ_TASKRUN);
SAME_VALUE(PZ_CQE_F_MORE, IORING_CQE_F_MORE);
SAME_VALUE(PZ_CQE_F_NOTIF, IORING_CQE_F_NOTIF);
SAME_VALUE(PZ_AREA_SHIFT, IORING_ZCRX_AREA_SHIFT);
SAME_VALUE(PZ_MEM_REGION_TYPE_USER, IORING_MEM_REGION_TYPE_USER);

const char *pz_liburing_version(void)
{
	return PYZCRX_LIBURING;
}
