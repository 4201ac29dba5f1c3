// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts: one for each queue, delivered on a CPU of its own choice, so that
 * a receiver's NAPI need not run where the sender does.
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/smp.h>

#include "zcrxsim.h"

static void zs_irq_deliver(void *info)
{
	struct zs_queue *q = info;

	q->rx.irqs++;
	napi_schedule_irqoff(&q->napi);
	clear_bit(ZS_Q_IN_FLIGHT, &q->flags);
}

void zs_irq_init(struct zs_queue *q)
{
	INIT_CSD(&q->csd, zs_irq_deliver, q);
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

/* The driver unmasks the interrupt */
void zs_irq_arm(struct zs_queue *q)
{
	set_bit(ZS_Q_ARMED, &q->flags);
	/* Who fills a slot looks at the bit afterwards, we at the slots */
	smp_mb__after_atomic();
}

/* No interrupt comes after this */
void zs_irq_quiesce(struct zs_queue *q)
{
	clear_bit(ZS_Q_ARMED, &q->flags);
	/* Who has seen the bit may be about to send the interrupt */
	synchronize_net();
	while (test_bit(ZS_Q_IN_FLIGHT, &q->flags))
		usleep_range(20, 50);
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
	if (!test_and_clear_bit(ZS_Q_ARMED, &q->flags))
		return;
	if (cpu == smp_processor_id() || !cpu_online(cpu)) {
		napi_schedule(&q->napi);
		return;
	}
	set_bit(ZS_Q_IN_FLIGHT, &q->flags);
	smp_call_function_single_async(cpu, &q->csd);
}
