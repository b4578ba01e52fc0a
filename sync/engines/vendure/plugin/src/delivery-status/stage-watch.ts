/**
 * Writes down each change of an order's delivery stage or tracking number, in the transaction that makes it.
 */
import { ID, Order } from '@vendure/core';
import { DataSource, EntityManager, EntitySubscriberInterface, In, InsertEvent, UpdateEvent } from 'typeorm';
import { CommitJournal } from '../notes/commit-journal';
import { DeliveryStageChange } from './delivery-stage-change.entity';

export class StageWatch implements EntitySubscriberInterface<Order> {
  private readonly journal = new CommitJournal<ID>({
    loggerCtx: 'DeliveryStatus',
    remedy:
      'The order keeps its new stage, but its history lacks this step. If the table delivery_stage_change is ' +
      'missing, run the migration the README describes.',
    key: (id) => `order ${id}`,
    write: writeChanges,
  });

  listenTo(): typeof Order {
    return Order;
  }

  watch(dataSource: DataSource): void {
    dataSource.subscribers.push(this, this.journal);
  }

  async afterInsert({ queryRunner, entity }: InsertEvent<Order>): Promise<void> {
    const { deliveryStage, trackingNumber } = entity?.customFields ?? {};
    if (entity?.id && (deliveryStage || trackingNumber)) {
      await this.journal.enter(queryRunner, [entity.id]);
    }
  }

  async afterUpdate({
    queryRunner,
    entity,
    databaseEntity,
    updatedColumns,
  }: UpdateEvent<Order>): Promise<void> {
    const id: ID | undefined = entity?.id ?? databaseEntity?.id;
    const moved = updatedColumns.some(({ propertyName }) =>
      ['deliveryStage', 'trackingNumber'].includes(propertyName),
    );
    if (id && moved) {
      await this.journal.enter(queryRunner, [id]);
    }
  }
}

async function writeChanges(manager: EntityManager, ids: ID[]): Promise<void> {
  const orders = await manager.find(Order, { where: { id: In(ids) }, loadEagerRelations: false });
  const last = await lastChanges(manager, ids);
  const changes = orders.map(toChange).filter((change) => differs(change, last.get(String(change.orderId))));
  await manager.save(DeliveryStageChange, changes);
}

async function lastChanges(manager: EntityManager, ids: ID[]): Promise<Map<string, DeliveryStageChange>> {
  const order = { changedAt: 'ASC', id: 'ASC' } as const;
  const changes = await manager.find(DeliveryStageChange, { where: { orderId: In(ids) }, order });
  return new Map(changes.map((change) => [String(change.orderId), change]));
}

function toChange({ id, customFields }: Order): DeliveryStageChange {
  const { deliveryStage, trackingNumber } = customFields;
  return new DeliveryStageChange({
    orderId: id,
    stage: deliveryStage ?? null,
    trackingNumber: trackingNumber ?? null,
  });
}

function differs(change: DeliveryStageChange, last: DeliveryStageChange | undefined): boolean {
  return change.stage !== (last?.stage ?? null) || change.trackingNumber !== (last?.trackingNumber ?? null);
}
