// SPDX-License-Identifier: GPL-2.0
/* Wrong on purpose: what a kernel that checks itself must notice, and we must see. */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *what = "";
module_param(what, charp, 0);

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

static void use_after_free(void)
{
	char *gone = kmalloc(64, GFP_KERNEL);

	kfree(gone);
	if (gone)
		WRITE_ONCE(gone[7], 1);
}

/* No deadlock, here and now: only the order of two locks, once this way, once that way. */
static void lock_order(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static int __init complain(void)
{
	if (!strcmp(what, "kasan"))
		use_after_free();
	else if (!strcmp(what, "lockdep"))
		lock_order();
	else
		return -EINVAL;
	return 0;
}
module_init(complain);

static void __exit complain_exit(void)
{
}
module_exit(complain_exit);

MODULE_DESCRIPTION("Deliberate mistakes");
MODULE_LICENSE("GPL");
