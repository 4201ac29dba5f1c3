// SPDX-License-Identifier: GPL-2.0
/* /sys/kernel/debug/zcrxsim/INTERFACE/QUEUE/: the knobs of faults.c. */
#include <linux/debugfs.h>
#include <linux/rtnetlink.h>
#include <linux/seq_file.h>

#include "zcrxsim.h"
#include "faults.h"

static struct dentry *zs_root;

static const char * const zs_fault_names[ZS_FAULT_COUNT] = {
	[ZS_FAULT_DROP]		= "drop",
	[ZS_FAULT_DUPLICATE]	= "duplicate",
	[ZS_FAULT_REORDER]	= "reorder",
	[ZS_FAULT_DELAY]	= "delay",
	[ZS_FAULT_CORRUPT]	= "corrupt",
	[ZS_FAULT_LINEAR]	= "linear",
	[ZS_FAULT_PART]		= "part_split",
	[ZS_FAULT_POST]		= "post_fail",
	[ZS_FAULT_SKB]		= "skb_fail",
};

static int zs_seed_get(void *data, u64 *val)
{
	*val = ((struct zs_faults *)data)->seed;
	return 0;
}

static int zs_seed_set(void *data, u64 val)
{
	struct zs_faults *faults = data;
	enum zs_fault kind;

	faults->seed = val;
	for (kind = 0; kind < ZS_FAULT_COUNT; kind++) {
		prandom_seed_state(&faults->rnd[kind], val * ZS_FAULT_COUNT + kind);
		faults->count[kind] = 0;
	}
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(zs_seed_fops, zs_seed_get, zs_seed_set, "%llu\n");

static int zs_starve_get(void *data, u64 *val)
{
	*val = ((struct zs_faults *)data)->starve;
	return 0;
}

static int zs_starve_set(void *data, u64 val)
{
	struct zs_faults *faults = data;

	WRITE_ONCE(faults->starve, val);
	zs_queue_kick(faults->q);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(zs_starve_fops, zs_starve_get, zs_starve_set, "%llu\n");

static int zs_counts_show(struct seq_file *file, void *v)
{
	const struct zs_faults *faults = file->private;
	enum zs_fault kind;

	for (kind = 0; kind < ZS_FAULT_COUNT; kind++)
		seq_printf(file, "%s %llu\n", zs_fault_names[kind], faults->count[kind]);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(zs_counts);

/* The link goes away for so many milliseconds */
static int zs_flap_set(void *data, u64 val)
{
	struct zs_port *port = data;

	if (!val || val > 3600 * MSEC_PER_SEC)
		return -EINVAL;
	WRITE_ONCE(port->flap, true);
	netif_carrier_off(port->dev);
	netif_carrier_off(port->peer->dev);
	mod_delayed_work(system_dfl_wq, &port->flap_work, msecs_to_jiffies(val));
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(zs_flap_fops, NULL, zs_flap_set, "%llu\n");

static void zs_flap_end(struct work_struct *work)
{
	struct zs_port *port = container_of(work, struct zs_port, flap_work.work);

	WRITE_ONCE(port->flap, false);
	/* Neither end may be opened or closed meanwhile */
	rtnl_lock();
	zs_carrier_update(port);
	rtnl_unlock();
}

bool zs_fault_link_down(const struct zs_port *port)
{
	return READ_ONCE(port->flap) || READ_ONCE(port->peer->flap);
}

static void zs_queue_dir(struct zs_faults *faults, struct dentry *dir)
{
	enum zs_fault kind;

	for (kind = 0; kind < ZS_FAULT_COUNT; kind++)
		debugfs_create_u32(zs_fault_names[kind], 0600, dir, &faults->rate[kind]);
	debugfs_create_u32("times", 0600, dir, &faults->times);
	debugfs_create_u32("delay_us", 0600, dir, &faults->delay_us);
	debugfs_create_u32("post_limit", 0600, dir, &faults->post_limit);
	debugfs_create_u32("fail_mem", 0600, dir, &faults->fail_mem);
	debugfs_create_u32("fail_start", 0600, dir, &faults->fail_start);
	debugfs_create_bool("ignore_provider", 0600, dir, &faults->ignore_provider);
	debugfs_create_bool("payload_only", 0600, dir, &faults->payload_only);
	debugfs_create_bool("pass_bad_csum", 0600, dir, &faults->pass_bad_csum);
	debugfs_create_file("starve", 0600, dir, faults, &zs_starve_fops);
	debugfs_create_file("seed", 0600, dir, faults, &zs_seed_fops);
	debugfs_create_file("counts", 0400, dir, faults, &zs_counts_fops);
}

void zs_faults_create(struct zs_port *port)
{
	char name[8];
	u32 i;

	INIT_DELAYED_WORK(&port->flap_work, zs_flap_end);
	port->dir = debugfs_create_dir(netdev_name(port->dev), zs_root);
	debugfs_create_file("link_down_ms", 0200, port->dir, port, &zs_flap_fops);
	for (i = 0; i < ZS_MAX_QUEUES; i++) {
		snprintf(name, sizeof(name), "%u", i);
		zs_queue_dir(port->queue[i].faults, debugfs_create_dir(name, port->dir));
	}
}

void zs_faults_destroy(struct zs_port *port)
{
	debugfs_remove(port->dir);
	cancel_delayed_work_sync(&port->flap_work);
}

void zs_faults_init(void)
{
	zs_root = debugfs_create_dir(ZS_NAME, NULL);
}

void zs_faults_exit(void)
{
	debugfs_remove(zs_root);
}
