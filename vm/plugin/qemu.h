/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What we use of QEMU's plugin interface, version 7 (docs/devel/tcg-plugins.rst): of 11.1.
 * Debian packages no header for it; these are its documented entry points.
 */
#ifndef PYZCRX_QEMU_H
#define PYZCRX_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORTED	__attribute__((visibility("default")))
#define API_VERSION	7

typedef uint64_t plugin_id;
typedef uint32_t meminfo;

struct qemu_plugin_tb;		/* a block of translated instructions */
struct qemu_plugin_insn;

struct plugin_target {
	const char *name;
	struct {
		int min, cur;
	} version;
	bool system_emulation;
	struct {
		int smp_vcpus, max_vcpus;
	} system;
};

enum registers { NO_REGISTERS };
enum access { READS = 1, WRITES, READS_AND_WRITES };

typedef void (*on_block)(struct qemu_plugin_tb *, void *data);
typedef void (*on_execution)(unsigned int vcpu, void *data);
typedef void (*on_access)(unsigned int vcpu, meminfo, uint64_t vaddr, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_block, void *data);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_execution,
					  enum registers, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, on_execution,
					    enum registers, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, on_access,
				      enum registers, enum access, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *to, size_t room);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
unsigned int qemu_plugin_mem_size_shift(meminfo);
bool qemu_plugin_mem_is_store(meminfo);

#endif
