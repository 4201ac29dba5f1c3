// SPDX-License-Identifier: GPL-2.0
/* The module: pairs of cards, made at load time or later through sysfs. */
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>

#include "zcrxsim.h"
#include "faults.h"

static unsigned int zs_pairs = 1;
module_param_named(pairs, zs_pairs, uint, 0444);
MODULE_PARM_DESC(pairs, "Pairs of linked cards to start with (default 1)");

static unsigned int zs_queues = 4;
module_param_named(queues, zs_queues, uint, 0444);
MODULE_PARM_DESC(queues, "Queues that each card starts with, up to 66 (default 4)");

bool zs_split_auto;
module_param_named(split_auto, zs_split_auto, bool, 0644);
MODULE_PARM_DESC(split_auto, "What a card does about header split if nobody has said (default N)");

static DEFINE_MUTEX(zs_lock);	/* the list of pairs */
static LIST_HEAD(zs_list);

struct zs_entry {
	struct list_head	list;
	struct platform_device	*pdev;
};

static int zs_pair_register(struct zs_pair *pair)
{
	int err;

	err = register_netdev(pair->port[0]->dev);
	if (err)
		return err;
	err = register_netdev(pair->port[1]->dev);
	if (err)
		unregister_netdev(pair->port[0]->dev);
	return err;
}

static int zs_probe(struct platform_device *pdev)
{
	u32 queues = *(u32 *)dev_get_platdata(&pdev->dev);
	struct zs_pair *pair;
	int err, end;

	/* Payload goes to what a DMA address means without an IOMMU */
	if (device_iommu_mapped(&pdev->dev))
		return -EOPNOTSUPP;
	err = dma_coerce_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	/* An area is mapped in as few segments as its memory has */
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);

	pair = devm_kzalloc(&pdev->dev, sizeof(*pair), GFP_KERNEL);
	if (!pair)
		return -ENOMEM;
	pair->id = pdev->id;
	for (end = 0; end < 2; end++) {
		pair->port[end] = zs_port_create(&pdev->dev, pair->id, end, queues);
		if (IS_ERR(pair->port[end])) {
			err = PTR_ERR(pair->port[end]);
			goto free;
		}
	}
	pair->port[0]->peer = pair->port[1];
	pair->port[1]->peer = pair->port[0];

	err = zs_pair_register(pair);
	if (err)
		goto free;
	for (end = 0; end < 2; end++)
		zs_faults_create(pair->port[end]);
	platform_set_drvdata(pdev, pair);
	return 0;

free:
	while (end--)
		zs_port_destroy(pair->port[end]);
	return err;
}

/* Both ends at once: neither may send to one that is gone */
static void zs_remove(struct platform_device *pdev)
{
	struct zs_pair *pair = platform_get_drvdata(pdev);
	LIST_HEAD(list);
	int end;

	for (end = 0; end < 2; end++)
		zs_faults_destroy(pair->port[end]);
	rtnl_lock();
	for (end = 0; end < 2; end++)
		unregister_netdevice_queue(pair->port[end]->dev, &list);
	unregister_netdevice_many(&list);
	rtnl_unlock();
	for (end = 0; end < 2; end++)
		zs_port_destroy(pair->port[end]);
}

static int zs_pair_add(u32 queues)
{
	struct platform_device_info info = {
		.name		= ZS_NAME,
		.data		= &queues,
		.size_data	= sizeof(queues),
	};
	struct zs_entry *entry;
	int id = 0;

	if (!queues || queues > ZS_MAX_QUEUES)
		return -EINVAL;

	guard(mutex)(&zs_lock);
	/* The list is sorted: the first gap is free */
	list_for_each_entry(entry, &zs_list, list) {
		if (entry->pdev->id != id)
			break;
		id++;
	}
	info.id = id;

	struct zs_entry *new = kzalloc_obj(*new);

	if (!new)
		return -ENOMEM;
	new->pdev = platform_device_register_full(&info);
	if (IS_ERR(new->pdev)) {
		int err = PTR_ERR(new->pdev);

		kfree(new);
		return err;
	}
	/* The bus keeps a device whose probe has failed, and tells nobody but the log */
	if (!device_is_bound(&new->pdev->dev)) {
		platform_device_unregister(new->pdev);
		kfree(new);
		return -ENODEV;
	}
	list_add_tail(&new->list, &entry->list);
	return 0;
}

static void zs_entry_del(struct zs_entry *entry)
{
	list_del(&entry->list);
	platform_device_unregister(entry->pdev);
	kfree(entry);
}

static int zs_pair_del(int id)
{
	struct zs_entry *entry;

	guard(mutex)(&zs_lock);
	list_for_each_entry(entry, &zs_list, list) {
		if (entry->pdev->id == id) {
			zs_entry_del(entry);
			return 0;
		}
	}
	return -ENODEV;
}

static void zs_pair_del_all(void)
{
	struct zs_entry *entry, *next;

	guard(mutex)(&zs_lock);
	list_for_each_entry_safe_reverse(entry, next, &zs_list, list)
		zs_entry_del(entry);
}

static ssize_t new_pair_store(struct device_driver *drv, const char *buf, size_t count)
{
	u32 queues;
	int err = kstrtou32(buf, 0, &queues);

	return err ?: zs_pair_add(queues) ?: count;
}
static DRIVER_ATTR_WO(new_pair);

static ssize_t del_pair_store(struct device_driver *drv, const char *buf, size_t count)
{
	int id, err = kstrtoint(buf, 0, &id);

	return err ?: zs_pair_del(id) ?: count;
}
static DRIVER_ATTR_WO(del_pair);

static struct attribute *zs_driver_attrs[] = {
	&driver_attr_new_pair.attr,
	&driver_attr_del_pair.attr,
	NULL
};
ATTRIBUTE_GROUPS(zs_driver);

static struct platform_driver zs_driver = {
	.probe	= zs_probe,
	.remove	= zs_remove,
	.driver	= {
		.name	= ZS_NAME,
		.groups	= zs_driver_groups,
	},
};

static int __init zs_init(void)
{
	unsigned int i;
	int err;

	zs_faults_init();
	err = platform_driver_register(&zs_driver);
	if (err)
		goto faults;
	for (i = 0; i < zs_pairs; i++) {
		err = zs_pair_add(zs_queues);
		if (err)
			goto pairs;
	}
	return 0;

pairs:
	platform_driver_unregister(&zs_driver);
	zs_pair_del_all();
faults:
	zs_faults_exit();
	return err;
}

static void __exit zs_exit(void)
{
	/* The driver first: with it goes new_pair, so that no pair is added any more */
	platform_driver_unregister(&zs_driver);
	zs_pair_del_all();
	zs_faults_exit();
}

module_init(zs_init);
module_exit(zs_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Simulated network card pair for io_uring zero-copy receive");
