// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts: one for each queue, with a number of its own, a line in
 * /proc/interrupts and an affinity that may be changed. The sender's CPU tells
 * the one it is bound to by an IPI, so a receiver's NAPI need not run where
 * the sender does.
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdesc.h>
#include <linux/irqdomain.h>
#include <linux/smp.h>

#include "zcrxsim.h"

static int zs_irq_set_affinity(struct irq_data *data, const struct cpumask *mask, bool force)
{
	struct zs_queue *q = irq_data_get_irq_chip_data(data);
	u32 cpu = cpumask_first_and(mask, cpu_online_mask);

	if (cpu >= nr_cpu_ids)
		return -EINVAL;
	WRITE_ONCE(q->cpu, cpu);
	irq_data_update_effective_affinity(data, cpumask_of(cpu));
	return IRQ_SET_MASK_OK;
}

/* The card masks by itself: an interrupt comes once for each time it is armed */
static void zs_irq_nothing(struct irq_data *data)
{
}

static struct irq_chip zs_irq_chip = {
	.name			= ZS_NAME,
	.irq_mask		= zs_irq_nothing,
	.irq_unmask		= zs_irq_nothing,
	.irq_set_affinity	= zs_irq_set_affinity,
};

static int zs_irq_map(struct irq_domain *domain, unsigned int irq, irq_hw_number_t hw)
{
	struct zs_port *port = domain->host_data;

	irq_set_chip_and_handler(irq, &zs_irq_chip, handle_simple_irq);
	irq_set_chip_data(irq, &port->queue[hw]);
	return 0;
}

static void zs_irq_unmap(struct irq_domain *domain, unsigned int irq)
{
	irq_set_handler(irq, NULL);
	irq_domain_reset_irq_data(irq_get_irq_data(irq));
}

static const struct irq_domain_ops zs_irq_domain_ops = {
	.map	= zs_irq_map,
	.unmap	= zs_irq_unmap,
};

int zs_irqs_create(struct zs_port *port)
{
	struct fwnode_handle *node = irq_domain_alloc_named_fwnode(port->dev->name);

	if (!node)
		return -ENOMEM;
	port->irqs = irq_domain_create_linear(node, ZS_MAX_QUEUES, &zs_irq_domain_ops, port);
	if (!port->irqs) {
		irq_domain_free_fwnode(node);
		return -ENOMEM;
	}
	return 0;
}

void zs_irqs_destroy(struct zs_port *port)
{
	struct fwnode_handle *node;
	u32 i;

	if (!port->irqs)
		return;
	for (i = 0; i < ZS_MAX_QUEUES; i++)
		irq_dispose_mapping(irq_find_mapping(port->irqs, i));
	node = port->irqs->fwnode;
	irq_domain_remove(port->irqs);
	irq_domain_free_fwnode(node);
}

static irqreturn_t zs_irq_handler(int irq, void *data)
{
	struct zs_queue *q = data;

	napi_schedule_irqoff(&q->napi);
	return IRQ_HANDLED;
}

static void zs_irq_fire(struct zs_queue *q)
{
	q->rx.irqs++;
	if (q->irq)
		generic_handle_irq_safe(q->irq);
	else
		napi_schedule(&q->napi);
}

static void zs_irq_deliver(void *info)
{
	struct zs_queue *q = info;

	zs_irq_fire(q);
	/* The last access: whoever waits for it may free the queue */
	atomic_dec_return_release(&q->in_flight);
}

void zs_irq_init(struct zs_queue *q)
{
	INIT_CSD(&q->csd, zs_irq_deliver, q);
	q->cpu = cpumask_local_spread(q->idx, NUMA_NO_NODE);
}

/*
 * A queue keeps its number for as long as there is the card, and the stack
 * keeps its affinity (see netif_set_affinity_auto()). Numbers are scarce; a
 * queue works without one.
 */
void zs_irq_request(struct zs_queue *q)
{
	u32 irq = irq_create_mapping(q->port->irqs, q->idx);

	if (!irq)
		return;
	snprintf(q->irq_name, sizeof(q->irq_name), "%s-%u", q->port->dev->name, q->idx);
	if (request_irq(irq, zs_irq_handler, 0, q->irq_name, q))
		return;
	netif_napi_set_irq_locked(&q->napi, irq);
	q->irq = irq;
}

void zs_irq_free(struct zs_queue *q)
{
	if (!q->irq)
		return;
	netif_napi_set_irq_locked(&q->napi, -1);
	free_irq(q->irq, q);
	q->irq = 0;
}

/* Interrupts may come from now on, once the driver has armed them */
void zs_irq_start(struct zs_queue *q)
{
	set_bit(ZS_Q_LIVE, &q->flags);
}

/* The driver unmasks the interrupt */
void zs_irq_arm(struct zs_queue *q)
{
	set_bit(ZS_Q_ARMED, &q->flags);
	/* Who fills a slot looks at the bit afterwards, we at the slots */
	smp_mb__after_atomic();
}

/* No interrupt comes after this. The NAPI is disabled already. */
void zs_irq_stop(struct zs_queue *q)
{
	clear_bit(ZS_Q_LIVE, &q->flags);
	/*
	 * Who has seen the bit may be about to send the interrupt; and the last
	 * poll may be about to arm it once more.
	 */
	synchronize_net();
	while (atomic_read_acquire(&q->in_flight))
		usleep_range(20, 50);
	clear_bit(ZS_Q_ARMED, &q->flags);
}

/*
 * The card has something to tell. A driver that polls has the interrupt masked
 * and finds it by itself. Context: BH disabled.
 */
void zs_irq_raise(struct zs_queue *q)
{
	int cpu = READ_ONCE(q->cpu);

	/* Pairs with the barrier in zs_irq_arm() */
	smp_mb();
	if (!test_bit(ZS_Q_LIVE, &q->flags) ||
	    !test_and_clear_bit(ZS_Q_ARMED, &q->flags))
		return;
	if (cpu == smp_processor_id()) {
		zs_irq_fire(q);
		return;
	}
	atomic_inc(&q->in_flight);
	/* That CPU may have gone offline */
	if (smp_call_function_single_async(cpu, &q->csd))
		zs_irq_deliver(q);
}
