// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A QEMU TCG plugin that counts what a receiver costs, in instructions of the guest.
 *
 *   -plugin count.so,symbols=FILE,out=FILE[,profile=FILE][,touches=on]
 *
 * Counted is one task of the guest, the receiver: its user code, its system calls
 * (exceptions among them), softirqs and interrupts that it met, each apart. The rest of
 * the guest, NAPI on another CPU for instance, is counted while it receives as "other".
 *
 *  - Which task runs is seen where the kernel switches stacks: the address that
 *    __switch_to_asm() loads the next stack pointer from lies in the next task_struct.
 *  - The receiver tells when it begins and ends by marks (tests/perf/marks.py).
 *  - Interrupts and exceptions begin at known symbols and end with IRETQ; softirqs begin
 *    at handle_softirqs() and end where it returns. Both are kept for each task, since a
 *    task may be switched away inside of one.
 *  - A string instruction counts once; its repetitions are counted as "steps".
 *
 * With touches=on the bytes that are read or written are counted too: by user code
 * within the payload's range, by the kernel's copying functions, by memcpy() elsewhere.
 * A memcpy() that a module calls is the card model's DMA, whoever's task it is in: the
 * receiver's own may be the one that sends. One by which the kernel moves a page elsewhere
 * (compaction, in whichever task asks for memory) copies no payload, and is not counted.
 * symbols has a line "KIND START END" for each function of interest, out gets a line of
 * JSON for each run.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"

#define VCPUS		64
#define TASKS		8192	/* a power of two */
#define DEPTH		16
#define LONGEST_INSN	15
#define MARK_TAG	0x5a
#define MARK_SHIFT	20
#define MARK_MASK	((1u << MARK_SHIFT) - 1)
#define KERNEL		(1ULL << 63)
#define MODULES		0xffffffffa0000000ULL	/* the kernel itself lies below */

enum mark { MARK_BEGIN = 1, MARK_END, MARK_DIGITS, MARK_RANGE };
enum kind { IRQ, EXCEPTION, SOFTIRQ, SWITCH, COPY, MEMCPY, MOVE, KINDS };
enum caller { CORE, MODULE, MOVER };
enum context { USER, SYSTEM, SOFT, HARD, CONTEXTS };

static const char *const kind_names[] = {
	"irq", "exception", "softirq", "switch", "copy", "memcpy", "move"
};
static const char *const context_names[] = { "user", "system", "softirq", "irq" };

struct symbol {
	enum kind kind;
	uint64_t start, end;
};

struct counts {
	uint64_t instructions[CONTEXTS];
	uint64_t steps[CONTEXTS];
	uint64_t read_bytes, written_bytes;	/* of payload, by user code */
	uint64_t copy_read_bytes, copy_written_bytes;
	uint64_t memcpy_read_bytes, memcpy_written_bytes;
	uint64_t dma_bytes;	/* by memcpy() of a module */
};

struct task {
	uint64_t key;		/* an address in its task_struct */
	uint8_t depth;		/* of interrupts and exceptions */
	uint8_t kinds[DEPTH];
	uint8_t soft_at;	/* 1 + the depth at which a softirq runs */
	bool receives;
	uint32_t number;
	struct counts *counts;
};

struct vcpu {
	struct task *task;
	uint64_t last;		/* address of the block before */
	uint64_t other;		/* instructions of other tasks, while one receives */
	uint64_t other_memcpy_bytes;
	enum caller caller;	/* of the memcpy() that runs */
	uint64_t digits[4];
	uint64_t switches;
	uint64_t pad[8];
};

/* A translated block. One that is translated again is a new one. */
struct block {
	uint64_t vaddr;
	uint32_t n;
	int8_t enters;		/* a kind, or -1 */
	bool repeats;		/* nothing but a repeated string instruction */
	bool copies;		/* memcpy() begins here, or goes on in a variant of it */
	uint64_t runs[CONTEXTS];
	struct block *next;
};

static struct symbol symbols[4096];
static unsigned int n_symbols;
static struct vcpu vcpus[VCPUS];
static struct task tasks[TASKS];
static struct task strangers[VCPUS];	/* until the first switch */
static struct block *blocks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *out;
static const char *profile;
static bool touches;
static volatile int receiving;
static uint64_t range_start, range_end;

static int symbol_at(uint64_t vaddr, bool at_start)
{
	unsigned int i;

	for (i = 0; i < n_symbols; i++)
		if (at_start ? symbols[i].start == vaddr :
			       vaddr >= symbols[i].start && vaddr < symbols[i].end)
			return symbols[i].kind;
	return -1;
}

static struct task *task_of(uint64_t key)
{
	unsigned int i = (key >> 6) * 0x9e3779b1u, tries;
	struct task *t;

	for (tries = 0; tries < TASKS; tries++, i++) {
		t = &tasks[i & (TASKS - 1)];
		if (__atomic_load_n(&t->key, __ATOMIC_ACQUIRE) == key)
			return t;
		if (!t->key) {
			pthread_mutex_lock(&lock);
			if (!t->key)
				__atomic_store_n(&t->key, key, __ATOMIC_RELEASE);
			pthread_mutex_unlock(&lock);
			if (t->key == key)
				return t;
		}
	}
	return &strangers[0];
}

static enum context context_of(const struct task *t, uint64_t vaddr)
{
	unsigned int i;

	if (!(vaddr & KERNEL))
		return USER;
	if (t->soft_at)
		return SOFT;
	for (i = 0; i < t->depth && i < DEPTH; i++)
		if (t->kinds[i] == IRQ)
			return HARD;
	return SYSTEM;
}

static void block_runs(unsigned int vcpu, void *data)
{
	struct vcpu *v = &vcpus[vcpu];
	struct block *b = data;
	struct task *t = v->task;
	uint64_t last = v->last;

	v->last = b->vaddr;
	if (b->copies) {
		int from = symbol_at(last, false);

		if (from != MEMCPY)
			v->caller = last >= MODULES ? MODULE : from == MOVE ? MOVER : CORE;
	}
	/* A task that ended inside an interrupt leaves its task_struct to another. */
	if (!(b->vaddr & KERNEL))
		t->depth = t->soft_at = 0;
	if (b->enters >= 0) {
		if (b->enters == SOFTIRQ) {
			if (!t->soft_at)
				t->soft_at = t->depth + 1;
		} else {
			if (t->depth < DEPTH)
				t->kinds[t->depth] = b->enters;
			t->depth++;
		}
	}
	if (!receiving)
		return;
	if (t->receives) {
		enum context c = context_of(t, b->vaddr);

		if (!b->repeats || last != b->vaddr)
			t->counts->instructions[c] += b->n;
		if (profile)
			b->runs[c]++;
	} else {
		v->other += b->n;
	}
}

static void interrupt_returns(unsigned int vcpu, void *data)
{
	struct task *t = vcpus[vcpu].task;

	(void)data;
	if (t->depth)
		t->depth--;
	if (t->soft_at > t->depth + 1)
		t->soft_at = 0;
}

static void softirqs_return(unsigned int vcpu, void *data)
{
	(void)data;
	vcpus[vcpu].task->soft_at = 0;
}

static void stack_switches(unsigned int vcpu, meminfo info, uint64_t vaddr, void *data)
{
	(void)info;
	(void)data;
	vcpus[vcpu].task = task_of(vaddr);
	vcpus[vcpu].switches++;
}

static void user_touches(unsigned int vcpu, meminfo info, uint64_t vaddr, void *data)
{
	struct task *t = vcpus[vcpu].task;
	uint64_t n = 1ULL << qemu_plugin_mem_size_shift(info);

	(void)data;
	if (!t->receives || vaddr < range_start || vaddr >= range_end)
		return;
	if (qemu_plugin_mem_is_store(info))
		t->counts->written_bytes += n;
	else
		t->counts->read_bytes += n;
}

static void kernel_copies(unsigned int vcpu, meminfo info, uint64_t vaddr, void *data)
{
	struct task *t = vcpus[vcpu].task;
	uint64_t n = 1ULL << qemu_plugin_mem_size_shift(info);
	bool store = qemu_plugin_mem_is_store(info), is_memcpy = (uintptr_t)data == MEMCPY;

	(void)vaddr;
	if (!receiving || (is_memcpy && vcpus[vcpu].caller == MOVER))
		return;
	if (!t->receives)
		vcpus[vcpu].other_memcpy_bytes += store && is_memcpy ? n : 0;
	else if (is_memcpy && vcpus[vcpu].caller == MODULE)
		t->counts->dma_bytes += store ? n : 0;
	else if (is_memcpy)
		*(store ? &t->counts->memcpy_written_bytes : &t->counts->memcpy_read_bytes) += n;
	else
		*(store ? &t->counts->copy_written_bytes : &t->counts->copy_read_bytes) += n;
}

static void begin(struct task *t, uint32_t number)
{
	struct block *b;
	unsigned int i;

	pthread_mutex_lock(&lock);
	t->counts = calloc(1, sizeof(*t->counts));
	t->number = number;
	for (i = 0; i < VCPUS; i++) {
		vcpus[i].other = 0;
		vcpus[i].other_memcpy_bytes = 0;
	}
	for (b = blocks; b && profile; b = b->next)
		memset(b->runs, 0, sizeof(b->runs));
	t->receives = true;
	receiving++;
	pthread_mutex_unlock(&lock);
}

static void tell_profile(uint32_t number)
{
	FILE *file = fopen(profile, "a");
	struct block *b;
	int c;

	if (!file)
		return;
	for (b = blocks; b; b = b->next)
		for (c = 0; c < CONTEXTS; c++)
			if (b->runs[c])
				fprintf(file, "%u %s %llx %llu %llu\n", number, context_names[c],
					(unsigned long long)b->vaddr,
					(unsigned long long)b->runs[c],
					(unsigned long long)b->runs[c] * b->n);
	fclose(file);
}

static void end(struct task *t, uint32_t number)
{
	struct counts *k = t->counts;
	uint64_t other = 0, dma = 0;
	int i;

	if (!t->receives || t->number != number)
		return;
	pthread_mutex_lock(&lock);
	t->receives = false;
	receiving--;
	dma = k->dma_bytes;
	for (i = 0; i < VCPUS; i++) {
		other += vcpus[i].other;
		dma += vcpus[i].other_memcpy_bytes;
	}
	fprintf(out, "{\"run\": %u", number);
	for (i = 0; i < CONTEXTS; i++)
		fprintf(out, ", \"%s\": %llu, \"%s_steps\": %llu", context_names[i],
			(unsigned long long)k->instructions[i], context_names[i],
			(unsigned long long)k->steps[i]);
	fprintf(out, ", \"other\": %llu", (unsigned long long)other);
	if (touches)
		fprintf(out, ", \"read_bytes\": %llu, \"written_bytes\": %llu, "
			"\"copy_read_bytes\": %llu, \"copy_written_bytes\": %llu, "
			"\"memcpy_read_bytes\": %llu, \"memcpy_written_bytes\": %llu, "
			"\"other_memcpy_bytes\": %llu",
			(unsigned long long)k->read_bytes, (unsigned long long)k->written_bytes,
			(unsigned long long)k->copy_read_bytes,
			(unsigned long long)k->copy_written_bytes,
			(unsigned long long)k->memcpy_read_bytes,
			(unsigned long long)k->memcpy_written_bytes, (unsigned long long)dma);
	fprintf(out, "}\n");
	fflush(out);
	if (profile)
		tell_profile(number);
	free(k);
	t->counts = NULL;
	pthread_mutex_unlock(&lock);
}

static void marked(unsigned int vcpu, void *data)
{
	struct vcpu *v = &vcpus[vcpu];
	uint32_t disp = (uintptr_t)data, value = disp & MARK_MASK;

	switch (disp >> MARK_SHIFT & 0xf) {
	case MARK_BEGIN:
		begin(v->task, value);
		break;
	case MARK_END:
		end(v->task, value);
		break;
	case MARK_DIGITS:
		memmove(v->digits, v->digits + 1, 3 * sizeof(v->digits[0]));
		v->digits[3] = value;
		break;
	case MARK_RANGE:
		range_start = (v->digits[0] << MARK_SHIFT | v->digits[1]) << 12;
		range_end = range_start + ((v->digits[2] << MARK_SHIFT | v->digits[3]) << 12);
		break;
	}
}

static void repeats(unsigned int vcpu, meminfo info, uint64_t vaddr, void *data)
{
	struct task *t = vcpus[vcpu].task;

	(void)info;
	(void)vaddr;
	if (receiving && t->receives)
		t->counts->steps[context_of(t, (uintptr_t)data)]++;
}

/*
 * What each repetition of an instruction does to memory, once: of REP or REPNE before one of MOVS,
 * STOS (a write), LODS, SCAS or CMPS (a read, or two).  0: it is none of those.
 */
static int repeated_access(const uint8_t *code, size_t n)
{
	bool rep = false;
	size_t i;

	for (i = 0; i < n; i++) {
		uint8_t c = code[i];

		if (c == 0xf3 || c == 0xf2) {
			rep = true;
		} else if (c != 0x66 && c != 0x67 && (c & 0xf0) != 0x40) {
			if (!rep || c < 0xa4 || c > 0xaf || c == 0xa8 || c == 0xa9)
				return 0;
			return c <= 0xa5 || c == 0xaa || c == 0xab ? WRITES : READS;
		}
	}
	return 0;
}

static void look_at(struct qemu_plugin_insn *insn)
{
	uint8_t code[LONGEST_INSN] = {0};
	size_t n = qemu_plugin_insn_data(insn, code, sizeof(code));
	uint64_t vaddr = qemu_plugin_insn_vaddr(insn);
	int kind, repeated = repeated_access(code, n);

	if (repeated)
		qemu_plugin_register_vcpu_mem_cb(insn, repeats, NO_REGISTERS, repeated,
						 (void *)(uintptr_t)vaddr);
	if (n == 8 && code[0] == 0x0f && code[1] == 0x1f && code[2] == 0x84 && !code[3] &&
	    code[7] == MARK_TAG) {
		uint32_t disp;

		memcpy(&disp, code + 4, sizeof(disp));
		qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, NO_REGISTERS,
						       (void *)(uintptr_t)disp);
	}
	if (!(vaddr & KERNEL)) {
		if (touches)
			qemu_plugin_register_vcpu_mem_cb(insn, user_touches, NO_REGISTERS,
							 READS_AND_WRITES, NULL);
		return;
	}
	if (n == 2 && code[0] == 0x48 && code[1] == 0xcf) {
		qemu_plugin_register_vcpu_insn_exec_cb(insn, interrupt_returns, NO_REGISTERS,
						       NULL);
		return;
	}
	kind = symbol_at(vaddr, false);
	if (kind == SOFTIRQ && code[0] == 0xc3)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, softirqs_return, NO_REGISTERS, NULL);
	/* mov DISPLACEMENT(%rsi),%rsp */
	if (kind == SWITCH && n >= 4 && code[0] == 0x48 && code[1] == 0x8b &&
	    (code[2] == 0xa6 || code[2] == 0x66))
		qemu_plugin_register_vcpu_mem_cb(insn, stack_switches, NO_REGISTERS, READS, NULL);
	if (touches && (kind == COPY || kind == MEMCPY))
		qemu_plugin_register_vcpu_mem_cb(insn, kernel_copies, NO_REGISTERS,
						 READS_AND_WRITES, (void *)(uintptr_t)kind);
}

static void translated(struct qemu_plugin_tb *tb, void *data)
{
	size_t i, n = qemu_plugin_tb_n_insns(tb);
	struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(tb, 0);
	struct block *b = calloc(1, sizeof(*b));
	uint8_t code[LONGEST_INSN];
	int kind;

	(void)data;
	b->vaddr = qemu_plugin_tb_vaddr(tb);
	b->n = n;
	kind = b->vaddr & KERNEL ? symbol_at(b->vaddr, true) : -1;
	b->copies = touches && kind == MEMCPY;
	b->enters = kind == IRQ || kind == EXCEPTION || kind == SOFTIRQ ? kind : -1;
	b->repeats = n == 1 && repeated_access(code, qemu_plugin_insn_data(first, code, sizeof(code)));
	pthread_mutex_lock(&lock);
	b->next = blocks;
	blocks = b;
	pthread_mutex_unlock(&lock);
	qemu_plugin_register_vcpu_tb_exec_cb(tb, block_runs, NO_REGISTERS, b);
	for (i = 0; i < n; i++)
		look_at(qemu_plugin_tb_get_insn(tb, i));
}

static int read_symbols(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long long start, last;
	char name[16];
	int i;

	if (!file)
		return -1;
	while (n_symbols < sizeof(symbols) / sizeof(symbols[0]) &&
	       fscanf(file, "%15s %llx %llx", name, &start, &last) == 3)
		for (i = 0; i < KINDS; i++)
			if (!strcmp(name, kind_names[i]))
				symbols[n_symbols++] = (struct symbol){ i, start, last };
	fclose(file);
	return n_symbols ? 0 : -1;
}

EXPORTED int qemu_plugin_version = API_VERSION;

EXPORTED int qemu_plugin_install(plugin_id id, const struct plugin_target *target, int argc,
				 char **argv)
{
	const char *path = NULL, *to = NULL;
	int i;

	if (!target->system_emulation || strcmp(target->name, "x86_64") ||
	    target->system.max_vcpus > VCPUS) {
		fprintf(stderr, "count: only for x86_64 guests of up to %d CPUs\n", VCPUS);
		return -1;
	}
	for (i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "symbols=", 8))
			path = argv[i] + 8;
		else if (!strncmp(argv[i], "out=", 4))
			to = argv[i] + 4;
		else if (!strncmp(argv[i], "profile=", 8))
			profile = argv[i] + 8;
		else if (!strcmp(argv[i], "touches=on"))
			touches = true;
	}
	if (!path || read_symbols(path)) {
		fprintf(stderr, "count: no symbols: symbols=FILE is needed\n");
		return -1;
	}
	out = to ? fopen(to, "a") : NULL;
	if (!out) {
		fprintf(stderr, "count: nowhere to write: out=FILE is needed\n");
		return -1;
	}
	for (i = 0; i < VCPUS; i++)
		vcpus[i].task = &strangers[i];
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
	return 0;
}
