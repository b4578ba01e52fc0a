/**
 * Sees every row of a customer or an order that is saved, whether or not Vendure fires an event for it.
 */
import type {
  DataSource,
  EntityMetadata,
  EntitySubscriberInterface,
  InsertEvent,
  ObjectLiteral,
  QueryRunner,
  RemoveEvent,
  UpdateEvent,
} from 'typeorm';
import type { Notebook, Touch } from './notebook';
import { BUYER, CUSTOMER, ORDER, PARTS } from './parts';

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
    const placed = event.updatedColumns.some(({ propertyName }) => propertyName === 'orderPlacedAt');
    await this.saved(event, event.entity?.id ? event.entity : event.databaseEntity, Boolean(placed));
  }

  /** Once a part is removed, nothing says any more whose it was. */
  async beforeRemove(event: RemoveEvent<ObjectLiteral>): Promise<void> {
    const part = PARTS.get(event.metadata.target);
    const id = (event.databaseEntity ?? event.entity)?.id;
    if (part && part !== CUSTOMER && part !== ORDER && id) {
      await this.notebook.touchOwners(event.queryRunner, part, id);
    }
  }

  /** A removed cart never reached the mirror; a removed order is taken back. */
  async afterRemove(event: RemoveEvent<ObjectLiteral>): Promise<void> {
    const part = PARTS.get(event.metadata.target);
    const row = event.databaseEntity ?? event.entity;
    if (row?.id && (part === CUSTOMER || (part === ORDER && row.orderPlacedAt))) {
      await this.notebook.touch(event.queryRunner, [{ part, id: row.id, deleted: true }]);
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
