/*
 * The kernel's zcrx interface (include/uapi/linux/io_uring/zcrx.h and
 * query.h, Linux 7.3), under names of our own: even liburing 2.15's headers
 * lack event_desc, zcrx_stats, ARM_EVENT and ADD_AREA, and a definition of
 * the same name in a newer liburing must not clash with ours.  uapi.c holds
 * them against liburing's where it has them.
 *
 * This text is read by cffi as it stands and included by the shim.
 */
enum {
	PZ_REGISTER_NAPI	= 27,
	PZ_REGISTER_UNREGISTER_NAPI = 28,
	PZ_REGISTER_ZCRX_IFQ	= 32,
	PZ_REGISTER_QUERY	= 35,
	PZ_REGISTER_ZCRX_CTRL	= 36,
	PZ_OP_RECV_ZC		= 58,
};

enum {
	PZ_SETUP_CQSIZE		= 0x8,
	PZ_SETUP_CLAMP		= 0x10,
	PZ_SETUP_SUBMIT_ALL	= 0x80,
	PZ_SETUP_TASKRUN_FLAG	= 0x200,
	PZ_SETUP_CQE32		= 0x800,
	PZ_SETUP_SINGLE_ISSUER	= 0x1000,
	PZ_SETUP_DEFER_TASKRUN	= 0x2000,
};

enum {
	PZ_SQ_CQ_OVERFLOW	= 0x2,
	PZ_SQ_TASKRUN		= 0x4,
};

enum {
	PZ_CQE_F_MORE		= 0x2,
	PZ_CQE_F_NOTIF		= 0x8,
};

enum {
	PZ_REG_IMPORT		= 1,
	PZ_REG_NODEV		= 2,
};

enum {
	PZ_AREA_DMABUF		= 1,
	PZ_AREA_SHIFT		= 48,
	PZ_RQ_MAX_ENTRIES	= 32768,
	PZ_MEM_REGION_TYPE_USER	= 1,
};

enum {
	PZ_FEATURE_RX_PAGE_SIZE	= 1,
	PZ_FEATURE_EVENT	= 2,
};

enum {
	PZ_EVENT_ALLOC_FAIL	= 0,
	PZ_EVENT_COPY		= 1,
	PZ_EVENT_DESC_FLAG_STATS = 1,
};

enum {
	PZ_CTRL_FLUSH_RQ	= 0,
	PZ_CTRL_EXPORT		= 1,
	PZ_CTRL_ARM_EVENT	= 2,
	PZ_CTRL_ADD_AREA	= 3,
};

enum {
	PZ_QUERY_OPCODES	= 0,
	PZ_QUERY_ZCRX		= 1,
	PZ_QUERY_SCQ		= 2,
	PZ_QUERY_ZCRX_EVENT	= 3,
};

enum {
	PZ_NAPI_REGISTER	= 0,
	PZ_NAPI_STATIC_ADD_ID	= 1,
	PZ_NAPI_STATIC_DEL_ID	= 2,
};

enum {
	PZ_NAPI_TRACKING_DYNAMIC = 0,
	PZ_NAPI_TRACKING_STATIC	= 1,
	PZ_NAPI_TRACKING_INACTIVE = 255,
};

/* Static tracking is 6.13's; liburing 2.15's header still calls its fields padding. */
struct pz_napi {
	uint32_t busy_poll_us;
	uint8_t prefer_busy_poll;
	uint8_t opcode;
	uint8_t pad[2];
	uint32_t op_param;
	uint32_t resv;
};

struct pz_rqe {
	uint64_t off;
	uint32_t len;
	uint32_t pad;
};

struct pz_zcrx_cqe {
	uint64_t off;
	uint64_t pad;
};

struct pz_offsets {
	uint32_t head;
	uint32_t tail;
	uint32_t rqes;
	uint32_t resv2;
	uint64_t resv[2];
};

struct pz_area_reg {
	uint64_t addr;
	uint64_t len;
	uint64_t rq_area_token;
	uint32_t flags;
	uint32_t dmabuf_fd;
	uint64_t resv2[2];
};

struct pz_region_desc {
	uint64_t user_addr;
	uint64_t size;
	uint32_t flags;
	uint32_t id;
	uint64_t mmap_offset;
	uint64_t resv[4];
};

struct pz_event_desc {
	uint64_t user_data;
	uint32_t type_mask;
	uint32_t flags;
	uint64_t stats_offset;
	uint64_t resv2[9];
};

struct pz_stats {
	uint64_t copy_count;
	uint64_t copy_bytes;
};

struct pz_ifq_reg {
	uint32_t if_idx;
	uint32_t if_rxq;
	uint32_t rq_entries;
	uint32_t flags;
	uint64_t area_ptr;
	uint64_t region_ptr;
	struct pz_offsets offsets;
	uint32_t zcrx_id;
	uint32_t rx_buf_len;
	uint64_t event_desc;
	uint64_t resv[2];
};

/* The payload is a union in the kernel: its largest member is 48 bytes. */
struct pz_ctrl {
	uint32_t zcrx_id;
	uint32_t op;
	uint64_t resv[2];
	uint64_t payload[6];
};

struct pz_query_hdr {
	uint64_t next_entry;
	uint64_t query_data;
	uint32_t query_op;
	uint32_t size;
	int32_t result;
	uint32_t resv[3];
};

struct pz_query_opcode {
	uint32_t nr_request_opcodes;
	uint32_t nr_register_opcodes;
	uint64_t feature_flags;
	uint64_t ring_setup_flags;
	uint64_t enter_flags;
	uint64_t sqe_flags;
	uint32_t nr_query_opcodes;
	uint32_t pad;
};

struct pz_query_zcrx {
	uint64_t register_flags;
	uint64_t area_flags;
	uint32_t nr_ctrl_opcodes;
	uint32_t features;
	uint32_t rq_hdr_size;
	uint32_t rq_hdr_alignment;
	uint64_t resv2;
};

struct pz_query_zcrx_event {
	uint32_t event_flags;
	uint32_t stats_size;
	uint32_t stats_off_alignment;
	uint32_t resv1;
	uint64_t resv2[4];
};

const char *pz_liburing_version(void);
