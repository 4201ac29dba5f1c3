// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts: one for each queue, delivered on a CPU of its own choice, so that
 * a receiver's NAPI need not run where the sender does.
 */
#include <linux/cpumask.h>

#include "zcrxsim.h"

static void zs_irq_work(struct irq_work *work)
{
	struct zs_queue *q = container_of(work, struct zs_queue, irq_work);

	q->rx.irqs++;
	napi_schedule_irqoff(&q->napi);
}

void zs_irq_init(struct zs_queue *q)
{
	init_irq_work(&q->irq_work, zs_irq_work);
	q->cpu = cpumask_local_spread(q->idx, NUMA_NO_NODE);
}

int zs_irqs_create(struct zs_port *port)
{
	return 0;
}

void zs_irqs_destroy(struct zs_port *port)
{
}

void zs_irq_request(struct zs_queue *q)
{
}

void zs_irq_free(struct zs_queue *q)
{
}

/* The driver unmasks the interrupt. Look for work afterwards. */
void zs_irq_arm(struct zs_queue *q)
{
	set_bit(ZS_Q_ARMED, &q->flags);
	smp_mb__after_atomic();
}

/* No interrupt comes after this */
void zs_irq_quiesce(struct zs_queue *q)
{
	clear_bit(ZS_Q_ARMED, &q->flags);
	/* Who has seen the bit may still be about to queue the work */
	synchronize_net();
	irq_work_sync(&q->irq_work);
}

/*
 * The card has something to tell. A driver that polls has the interrupt masked
 * and finds it by itself. Context: BH disabled.
 */
void zs_irq_raise(struct zs_queue *q)
{
	int cpu = READ_ONCE(q->cpu);

	if (!test_and_clear_bit(ZS_Q_ARMED, &q->flags))
		return;
	if (cpu == smp_processor_id() || !cpu_online(cpu))
		napi_schedule(&q->napi);
	else
		irq_work_queue_on(&q->irq_work, cpu);
}
