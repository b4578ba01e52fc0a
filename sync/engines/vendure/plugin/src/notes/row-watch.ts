/**
 * Sees every row of a customer or an order that is saved, whether or not Vendure fires an event for it.
 */
import { DataSource, EntityMetadata, EntitySubscriberInterface, ObjectLiteral, QueryRunner } from 'typeorm';
import type { InsertEvent } from 'typeorm/subscriber/event/InsertEvent';
import type { RemoveEvent } from 'typeorm/subscriber/event/RemoveEvent';
import type { UpdateEvent } from 'typeorm/subscriber/event/UpdateEvent';
import type { Notebook, Touch } from './notebook';
import { BUYER, ORDER, PARTS } from './parts';

interface RowEvent {
  queryRunner: QueryRunner;
  metadata: EntityMetadata;
}

export class RowWatch implements EntitySubscriberInterface {
  constructor(private readonly notebook: Notebook) {}

  /** Begin to watch. From here on notes are written in every transaction of this process. */
  watch(dataSource: DataSource): void {
    dataSource.subscribers.push(this, this.notebook.journal);
  }

  async afterInsert(event: InsertEvent<ObjectLiteral>): Promise<void> {
    await this.saved(event, event.entity, Boolean(event.entity?.orderPlacedAt));
  }

  async afterUpdate(event: UpdateEvent<ObjectLiteral>): Promise<void> {
    const placed = event.updatedColumns?.some(({ propertyName }) => propertyName === 'orderPlacedAt');
    await this.saved(event, event.entity?.id ? event.entity : event.databaseEntity, Boolean(placed));
  }

  async afterRemove(event: RemoveEvent<ObjectLiteral>): Promise<void> {
    const part = PARTS.get(event.metadata.target);
    const row = event.databaseEntity ?? event.entity;
    const id = event.entityId?.id ?? event.entityId ?? row?.id;
    if (part && id && (part !== ORDER || row?.orderPlacedAt)) {
      await this.notebook.touch(event.queryRunner, [{ part, id, deleted: true }]);
    }
  }

  private async saved(event: RowEvent, row: ObjectLiteral | undefined, placed: boolean): Promise<void> {
    const part = PARTS.get(event.metadata.target);
    if (part && row?.id) {
      const touches: Touch[] = [{ part, id: row.id }];
      await this.notebook.touch(
        event.queryRunner,
        placed ? [...touches, { part: BUYER, id: row.id }] : touches,
      );
    }
  }
}
