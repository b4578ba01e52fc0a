/**
 * Notes the changes that Vendure makes by statements in which no row can be seen. Each publishes an event: an
 * order is deleted, a line cancelled, a customer deleted, a customer joins or leaves a group. The handlers are
 * blocking, so that they run inside the transaction.
 */
import { Injectable } from '@nestjs/common';
import {
  CustomerEvent,
  CustomerGroupChangeEvent,
  EventBus,
  Logger,
  OrderEvent,
  OrderLineEvent,
  RequestContext,
  TransactionalConnection,
  Type,
  VendureEvent,
} from '@vendure/core';
import type { QueryRunner } from 'typeorm';
import { LOGGER_CTX, Notebook, Touch } from './notebook';
import { CUSTOMER, ORDER } from './parts';

type Handler = [event: Type<VendureEvent>, touches: (event: never) => Touch[]];

const HANDLERS: Handler[] = [
  [OrderEvent, ({ entity, type }: OrderEvent) => orderTouches(entity, type === 'deleted')],
  [OrderLineEvent, ({ order }: OrderLineEvent) => [{ part: ORDER, id: order.id }]],
  [CustomerEvent, ({ entity }: CustomerEvent) => [customerTouch(entity)]],
  [CustomerGroupChangeEvent, ({ customers }: CustomerGroupChangeEvent) => customers.map(customerTouch)],
];

/** A deleted cart never reached the mirror, so nothing is to be taken back. */
function orderTouches(order: OrderEvent['entity'], deleted: boolean): Touch[] {
  return deleted && !order.orderPlacedAt ? [] : [{ part: ORDER, id: order.id, deleted }];
}

function customerTouch({ id }: CustomerEvent['entity']): Touch {
  return { part: CUSTOMER, id };
}

@Injectable()
export class EventWatch {
  constructor(
    private readonly eventBus: EventBus,
    private readonly connection: TransactionalConnection,
    private readonly notebook: Notebook,
  ) {}

  watch(): void {
    for (const [event, touches] of HANDLERS) {
      const handler = (published: VendureEvent & { ctx: RequestContext }) =>
        this.note(published.ctx, () => touches(published as never));
      this.eventBus.registerBlockingEventHandler({
        id: `customer-sync-${event.name}`,
        event: event as Type<VendureEvent & { ctx: RequestContext }>,
        handler,
      });
    }
  }

  /** An exception here would fail the shop's mutation: whatever a custom event carries, it is logged instead. */
  private async note(ctx: RequestContext, touches: () => Touch[]): Promise<void> {
    try {
      const { queryRunner } = this.connection.getRepository(ctx, 'Order').manager;
      await this.inRunner(queryRunner, touches());
    } catch (error) {
      Logger.error(
        `Could not note a change: ${error}. Save the same customer or order once more to send it.`,
        LOGGER_CTX,
      );
    }
  }

  private async inRunner(queryRunner: QueryRunner | undefined, touches: Touch[]): Promise<void> {
    if (queryRunner && !queryRunner.isReleased) {
      return this.notebook.touch(queryRunner, touches);
    }
    const own = this.connection.rawConnection.createQueryRunner();
    try {
      await this.notebook.touch(own, touches);
    } finally {
      await own.release();
    }
  }
}
